package bottest

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"unicode"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

const (
	maxText    = 4096 // UTF-16 units after entities are parsed (Bot API, sendMessage)
	maxCaption = 1024
)

// send sends one message made of content.
func (q *request) send(m *gotgbot.Message) (any, *apiError) {
	raws, bad := q.sendAll([]*gotgbot.Message{m})
	if bad != nil {
		return nil, bad
	}
	return raws[0], nil
}

// sendAll sends messages together: all of them or none.
func (q *request) sendAll(all []*gotgbot.Message) ([]json.RawMessage, *apiError) {
	markup, bad := q.params.markup()
	if bad == nil && q.invoice != nil {
		markup, bad = q.invoice.payButton(markup)
	}
	if bad != nil {
		return nil, bad
	}
	c, bad := q.chatOf("chat_id")
	if bad != nil {
		return nil, bad
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if bad := c.check(q.bot, toWrite); bad != nil {
		return nil, bad
	}
	replied, bad := q.params.replied(c)
	if bad != nil {
		return nil, bad
	}
	for _, m := range all {
		m.MessageThreadId, m.ReplyToMessage = q.params.id("message_thread_id"), replied
		if bad := c.thread(m, q.bot.id); bad != nil {
			return nil, bad
		}
	}
	if wait := q.srv.admit(q.bot, c, len(all), q.params.bool("allow_paid_broadcast")); wait > 0 {
		return nil, tooMany(wait)
	}
	me := q.bot.profile()
	raws := make([]json.RawMessage, len(all))
	for i, m := range all {
		from := me
		m.From = &from
		m.ReplyMarkup = markup
		m.HasProtectedContent = q.params.bool("protect_content")
		m.EffectId = q.params.get("message_effect_id")
		m.BusinessConnectionId = q.params.get("business_connection_id")
		raws[i] = c.post(m, q.bot)
		if q.invoice != nil {
			c.history.find(m.MessageId).invoice = q.invoice
		}
	}
	return raws, nil
}

// replied finds the message that is replied to, nil if none is.
func (p params) replied(c *chat) (*gotgbot.Message, *apiError) {
	var reply struct {
		MessageID     int64 `json:"message_id"`
		AllowNot      bool  `json:"allow_sending_without_reply"`
		ChatID        any   `json:"chat_id"`
		ChecklistTask int64 `json:"checklist_task_id"`
	}
	found, err := p.json("reply_parameters", &reply)
	if err != nil {
		return nil, badRequest("can't parse reply parameters JSON object")
	}
	if !found {
		reply.MessageID, reply.AllowNot = p.id("reply_to_message_id"), p.bool("allow_sending_without_reply")
	}
	if reply.MessageID == 0 || reply.ChatID != nil {
		return nil, nil
	}
	e := c.history.find(reply.MessageID)
	if e == nil {
		if reply.AllowNot {
			return nil, nil
		}
		return nil, badRequest("message to be replied not found")
	}
	m := e.message()
	m.ReplyToMessage = nil // replies are told one deep
	return m, nil
}

func sendMessage(q *request) (any, *apiError) {
	text, entities, bad := q.params.text("text", "entities", maxText)
	if bad != nil {
		return nil, bad
	}
	return q.send(&gotgbot.Message{Text: text, Entities: entities})
}

// text reads a text with its markup: the parse mode or entities.
func (p params) text(field, entitiesField string, most int64) (string, []gotgbot.MessageEntity, *apiError) {
	if p.get(field) == "" {
		return "", nil, badRequest("message text is empty")
	}
	text, entities, bad := p.marked(field, entitiesField)
	switch {
	case bad != nil:
		return "", nil, bad
	case text == "":
		return "", nil, badRequest("text must be non-empty")
	case utf16Len(text) > most:
		return "", nil, badRequest("message is too long")
	}
	return text, entities, nil
}

// caption reads the caption of a file, which may be empty.
func (p params) caption() (string, []gotgbot.MessageEntity, *apiError) {
	text, entities, bad := p.marked("caption", "caption_entities")
	if bad == nil && utf16Len(text) > maxCaption {
		bad = badRequest("message caption is too long")
	}
	return text, entities, bad
}

// marked reads a text, trimmed, and the entities in it: those of the parse
// mode, those that were given, and those anybody sees.
func (p params) marked(field, entitiesField string) (string, []gotgbot.MessageEntity, *apiError) {
	text, entities, bad := parseText(p.get(field), p.get("parse_mode"))
	if bad != nil {
		return "", nil, bad
	}
	if p.get("parse_mode") == "" {
		if _, err := p.json(entitiesField, &entities); err != nil {
			return "", nil, badRequest("can't parse entities JSON object")
		}
	}
	trimmed := strings.TrimLeftFunc(text, unicode.IsSpace)
	shift := utf16Len(text[:len(text)-len(trimmed)])
	text = strings.TrimRightFunc(trimmed, unicode.IsSpace)
	length := utf16Len(text)
	entities = slices.DeleteFunc(entities, func(e gotgbot.MessageEntity) bool {
		return e.Offset-shift >= length || e.Offset < 0 || e.Length <= 0
	})
	for i := range entities {
		e := &entities[i]
		e.Offset = max(e.Offset-shift, 0)
		e.Length = min(e.Length, length-e.Offset)
	}
	for _, e := range scanEntities(text) {
		if !slices.ContainsFunc(entities, func(o gotgbot.MessageEntity) bool {
			return e.Offset < o.Offset+o.Length && o.Offset < e.Offset+e.Length
		}) {
			entities = append(entities, e)
		}
	}
	slices.SortStableFunc(entities, func(a, b gotgbot.MessageEntity) int { return cmp.Compare(a.Offset, b.Offset) })
	return text, entities, nil
}

// markup reads the inline keyboard under a message, nil if there is none.
// Other keyboards are not part of a message.
func (p params) markup() (*gotgbot.InlineKeyboardMarkup, *apiError) {
	if p.get("reply_markup") == "" {
		return nil, nil
	}
	var keyboard map[string]json.RawMessage
	if _, err := p.json("reply_markup", &keyboard); err != nil {
		if json.Valid([]byte(p.get("reply_markup"))) {
			return nil, badRequest("object expected as reply markup")
		}
		return nil, badRequest("can't parse reply keyboard markup JSON object")
	}
	rows, ok := keyboard["inline_keyboard"]
	if !ok {
		return nil, nil
	}
	var raw [][]json.RawMessage
	if json.Unmarshal(rows, &raw) != nil {
		return nil, badRequest(`field "inline_keyboard" must be an Array of Arrays`)
	}
	markup := &gotgbot.InlineKeyboardMarkup{}
	for _, row := range raw {
		if len(row) == 0 {
			continue
		}
		buttons := make([]gotgbot.InlineKeyboardButton, len(row))
		for i, one := range row {
			if bad := parseButton(one, &buttons[i]); bad != nil {
				return nil, bad
			}
		}
		markup.InlineKeyboard = append(markup.InlineKeyboard, buttons)
	}
	if len(markup.InlineKeyboard) == 0 {
		return nil, nil
	}
	return markup, nil
}

// parseButton reads a button, which must do exactly one thing.
func parseButton(raw json.RawMessage, b *gotgbot.InlineKeyboardButton) *apiError {
	const prefix = "can't parse inline keyboard button: "
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil || fields == nil {
		return badRequest(prefix + "InlineKeyboardButton must be an Object")
	}
	if json.Unmarshal(raw, b) != nil {
		return badRequest(prefix + "wrong type of a field")
	}
	if b.Text == "" {
		return badRequest(prefix + `can't find field "text"`)
	}
	for _, name := range []string{
		"url", "callback_data", "web_app", "login_url", "switch_inline_query", "switch_inline_query_current_chat",
		"switch_inline_query_chosen_chat", "copy_text", "callback_game", "pay",
	} {
		if _, ok := fields[name]; ok {
			if len(b.CallbackData) > 64 {
				return badRequest("BUTTON_DATA_INVALID")
			}
			return nil
		}
	}
	return badRequest(prefix + "Text buttons are unallowed in the inline keyboard")
}
