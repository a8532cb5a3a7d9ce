package bottest

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

const notModified = "message is not modified: specified new message content and reply markup are exactly the same" +
	" as a current content and reply markup of the message"

// edit changes a message of the bot's.
func (q *request) edit(change func(*gotgbot.Message) *apiError) (any, *apiError) {
	if q.params.get("inline_message_id") != "" {
		return nil, badRequest("MESSAGE_ID_INVALID") // no message here was sent inline
	}
	markup, bad := q.params.markup()
	if bad != nil {
		return nil, bad
	}
	if q.params.get("message_id") == "" {
		return nil, badRequest("message identifier is not specified")
	}
	return q.inChat(toEdit, func(c *chat) (any, *apiError) {
		e := c.history.find(q.params.id("message_id"))
		switch {
		case e == nil:
			return nil, badRequest("message to edit not found")
		case e.bot != q.bot.id && !c.mayEdit(q.bot):
			return nil, badRequest("message can't be edited")
		}
		m := e.message()
		if bad := change(m); bad != nil {
			return nil, bad
		}
		m.ReplyMarkup = markup
		if bytes.Equal(encodeMessage(m), e.raw) {
			return nil, badRequest(notModified)
		}
		m.EditDate = time.Now().Unix()
		e.raw = encodeMessage(m)
		c.deliver("edited_message", m, e.raw, q.bot)
		return e.raw, nil
	})
}

// mayEdit reports whether a bot may edit what others wrote. The caller holds
// mu.
func (c *chat) mayEdit(b *Bot) bool {
	m := c.members[b.id]
	return c.info.Type == "channel" && m != nil && m.status == administrator
}

func editMessageText(q *request) (any, *apiError) {
	text, entities, bad := q.params.text("text", "entities", maxText)
	if bad != nil {
		return nil, bad
	}
	return q.edit(func(m *gotgbot.Message) *apiError {
		if m.Text == "" {
			return badRequest("there is no text in the message to edit")
		}
		m.Text, m.Entities = text, entities
		return nil
	})
}

func editMessageCaption(q *request) (any, *apiError) {
	caption, entities, bad := q.params.caption()
	if bad != nil {
		return nil, bad
	}
	return q.edit(func(m *gotgbot.Message) *apiError {
		if m.Photo == nil && m.Document == nil && m.Video == nil && m.Audio == nil && m.Animation == nil && m.Voice == nil {
			return badRequest("there is no caption in the message to edit")
		}
		m.Caption, m.CaptionEntities = caption, entities
		m.ShowCaptionAboveMedia = q.params.bool("show_caption_above_media")
		return nil
	})
}

func editMessageMedia(q *request) (any, *apiError) {
	text := q.params.get("media")
	if text == "" {
		return nil, badRequest("input media is not specified")
	}
	if !json.Valid([]byte(text)) {
		return nil, badRequest("can't parse input media JSON object")
	}
	var media gotgbot.Message
	if _, bad := q.setInputMedia(&media, json.RawMessage(text)); bad != nil {
		return nil, bad
	}
	return q.edit(func(m *gotgbot.Message) *apiError {
		m.Text, m.Entities = "", nil
		m.Photo, m.Document, m.Video = media.Photo, media.Document, media.Video
		m.Audio, m.Animation = media.Audio, media.Animation
		m.Voice, m.VideoNote, m.Sticker = nil, nil, nil
		m.Caption, m.CaptionEntities = media.Caption, media.CaptionEntities
		m.ShowCaptionAboveMedia, m.HasMediaSpoiler = media.ShowCaptionAboveMedia, media.HasMediaSpoiler
		return nil
	})
}

func editMessageReplyMarkup(q *request) (any, *apiError) {
	return q.edit(func(*gotgbot.Message) *apiError { return nil })
}

func stopPoll(q *request) (any, *apiError) {
	var poll gotgbot.Poll
	_, bad := q.edit(func(m *gotgbot.Message) *apiError {
		switch {
		case m.Poll == nil:
			return badRequest("message with poll to stop not found")
		case m.Poll.IsClosed:
			return badRequest("poll has already been closed")
		}
		m.Poll.IsClosed = true
		poll = *m.Poll
		return nil
	})
	return poll, bad
}

// deletable is how long after it was sent a message may be deleted (Bot API,
// deleteMessage).
const deletable = 48 * time.Hour

func deleteMessage(q *request) (any, *apiError) {
	if q.params.get("message_id") == "" {
		return nil, badRequest("message identifier is not specified")
	}
	return q.inChat(toEdit, func(c *chat) (any, *apiError) {
		if bad := c.delete(q.bot, q.params.id("message_id")); bad != nil {
			return nil, bad
		}
		return true, nil
	})
}

// deleteMessages skips what it does not find.
func deleteMessages(q *request) (any, *apiError) {
	ids, bad := q.params.messageIDs()
	if bad != nil {
		return nil, bad
	}
	return q.inChat(toEdit, func(c *chat) (any, *apiError) {
		for _, id := range ids {
			_ = c.delete(q.bot, id)
		}
		return true, nil
	})
}

// delete removes a message for everybody. The caller holds mu.
func (c *chat) delete(b *Bot, id int64) *apiError {
	e := c.history.find(id)
	if e == nil {
		return badRequest("message to delete not found")
	}
	sent := time.Unix(e.message().Date, 0)
	m := c.members[b.id]
	admin := m != nil && m.status == administrator
	switch {
	case admin:
	case c.user == nil && e.bot != b.id:
		return badRequest("message can't be deleted")
	case time.Since(sent) > deletable:
		return badRequest("message can't be deleted for everyone")
	}
	c.history.remove(id)
	return nil
}

// maxMessageIDs is how many messages a call may name (Bot API,
// deleteMessages).
const maxMessageIDs = 100

func (p params) messageIDs() ([]int64, *apiError) {
	var ids []int64
	found, err := p.json("message_ids", &ids)
	switch {
	case err != nil && json.Valid([]byte(p.get("message_ids"))):
		return nil, badRequest("expected an Array of message identifiers")
	case err != nil:
		return nil, badRequest("can't parse message_ids JSON object")
	case !found || len(ids) == 0:
		return nil, badRequest("message identifiers are not specified")
	case len(ids) > maxMessageIDs:
		return nil, badRequest("too many message identifiers specified")
	}
	return ids, nil
}
