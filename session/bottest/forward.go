package bottest

import (
	"encoding/json"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// originals finds the messages that a forward or copy is made of, as they are in
// from_chat_id.
func (q *request) originals(ids []int64) ([]*gotgbot.Message, *apiError) {
	c, bad := q.chatOf("from_chat_id")
	if bad != nil {
		return nil, bad
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if bad := c.check(q.bot, toRead); bad != nil {
		return nil, bad
	}
	var found []*gotgbot.Message
	for _, id := range ids {
		if e := c.history.find(id); e != nil {
			found = append(found, e.message())
		}
	}
	return found, nil
}

func (q *request) original(what string) (*gotgbot.Message, *apiError) {
	if q.params.get("message_id") == "" {
		return nil, badRequest("message identifier is not specified")
	}
	found, bad := q.originals([]int64{q.params.id("message_id")})
	if bad == nil && len(found) == 0 {
		bad = badRequest("message to " + what + " not found")
	}
	if bad != nil {
		return nil, bad
	}
	return found[0], nil
}

// origin says where a forwarded message comes from.
func origin(m *gotgbot.Message) gotgbot.MessageOrigin {
	switch {
	case m.ForwardOrigin != nil:
		return m.ForwardOrigin
	case m.Chat.Type == "channel":
		return gotgbot.MessageOriginChannel{Date: m.Date, Chat: m.Chat, MessageId: m.MessageId}
	case m.From != nil:
		return gotgbot.MessageOriginUser{Date: m.Date, SenderUser: *m.From}
	}
	return gotgbot.MessageOriginHiddenUser{Date: m.Date, SenderUserName: m.Chat.Title}
}

// content is what of a message goes into another.
func content(m *gotgbot.Message) *gotgbot.Message {
	c := *m
	c.MediaGroupId, c.EditDate, c.ReplyToMessage, c.ReplyMarkup = "", 0, nil, nil
	c.SenderChat, c.ForwardOrigin, c.ViaBot = nil, nil, nil
	return &c
}

func forwarded(m *gotgbot.Message) *gotgbot.Message {
	c := content(m)
	c.ForwardOrigin = origin(m)
	return c
}

func forwardMessage(q *request) (any, *apiError) {
	m, bad := q.original("forward")
	if bad != nil {
		return nil, bad
	}
	if m.HasProtectedContent || isService(m) {
		return nil, badRequest("the message can't be forwarded")
	}
	return q.send(forwarded(m))
}

func copyMessage(q *request) (any, *apiError) {
	m, bad := q.original("copy")
	if bad != nil {
		return nil, bad
	}
	if m.HasProtectedContent || isService(m) {
		return nil, badRequest("the message can't be copied")
	}
	c := content(m)
	if _, ok := q.params["caption"]; ok && c.Text == "" {
		if c.Caption, c.CaptionEntities, bad = q.params.caption(); bad != nil {
			return nil, bad
		}
	}
	raws, bad := q.sendAll([]*gotgbot.Message{c})
	if bad != nil {
		return nil, bad
	}
	return idOf(raws[0]), nil
}

// several is the method that forwards or copies many messages. What is not
// found is skipped.
func several(make func(*gotgbot.Message) *gotgbot.Message, nothing string) func(*request) (any, *apiError) {
	return func(q *request) (any, *apiError) {
		ids, bad := q.params.messageIDs()
		if bad != nil {
			return nil, bad
		}
		found, bad := q.originals(ids)
		if bad != nil {
			return nil, bad
		}
		var all []*gotgbot.Message
		for _, m := range found {
			if !m.HasProtectedContent && !isService(m) {
				all = append(all, make(m))
			}
		}
		if len(all) == 0 {
			return nil, badRequest(nothing)
		}
		raws, bad := q.sendAll(all)
		if bad != nil {
			return nil, bad
		}
		sent := []gotgbot.MessageId{}
		for _, raw := range raws {
			sent = append(sent, idOf(raw))
		}
		return sent, nil
	}
}

func idOf(raw json.RawMessage) gotgbot.MessageId {
	var id gotgbot.MessageId
	_ = json.Unmarshal(raw, &id) // it is our own
	return id
}
