package bottest

func sendChatAction(q *request) (any, *apiError) {
	switch q.params.get("action") {
	case "typing", "upload_photo", "record_video", "upload_video", "record_voice", "upload_voice", "record_audio",
		"upload_audio", "upload_document", "choose_sticker", "find_location", "record_video_note", "upload_video_note",
		"pick_up_location", "cancel":
	default:
		return nil, badRequest("wrong parameter action in request")
	}
	return q.inChat(toWrite, func(*chat) (any, *apiError) { return true, nil })
}

// sendMessageDraft shows a message that is still being written. It is not kept.
func sendMessageDraft(q *request) (any, *apiError) {
	if q.params.id("draft_id") == 0 {
		return nil, badRequest("draft_id must be non-zero")
	}
	if _, _, bad := q.params.marked("text", "entities"); bad != nil {
		return nil, bad
	}
	return q.inChat(toWrite, func(c *chat) (any, *apiError) {
		if c.user == nil {
			return nil, badRequest("the method is available only in private chats")
		}
		return true, nil
	})
}
