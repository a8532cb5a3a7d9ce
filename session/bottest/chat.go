package bottest

import (
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// chat is a private chat of a bot and a user, a group, a supergroup or a
// channel.
type chat struct {
	srv  *Server
	bot  *Bot  // of a private chat
	user *User // of a private chat

	// mu guards what follows. Updates are queued under it, so that every bot
	// gets them in the chat's order; nothing is sent.
	mu       sync.Mutex
	info     gotgbot.Chat
	blocked  bool // the user has blocked the bot
	meter    meter
	members  map[int64]*member
	history  history
	pinned   []int64
	topics   map[int64]*topic // of a forum
	upgraded *chat            // the supergroup this group has become
}

// member is somebody's relation to a group or channel, past ones included.
type member struct {
	user   gotgbot.User
	bot    *Bot // nil for a user
	status string
	meter  meter
}

// What a member can be (Bot API, ChatMember).
const (
	creator       = "creator"
	administrator = "administrator"
	plainMember   = "member"
	restricted    = "restricted"
	left          = "left"
	kicked        = "kicked"
)

func (m *member) in() bool {
	return m != nil && m.status != left && m.status != kicked
}

// meterOf is what the bot's messages to the chat are counted in. The caller
// holds mu.
func (c *chat) meterOf(id int64) *meter {
	if m := c.members[id]; m != nil {
		return &m.meter
	}
	return &c.meter
}

// post puts a message into the chat: it gets its id and date, is kept, and
// goes to every bot that may see it. Sender is the bot that sent it, nil for
// a user. The caller holds mu.
func (c *chat) post(m *gotgbot.Message, sender *Bot) json.RawMessage {
	m.MessageId = c.history.next()
	m.Date = time.Now().Unix()
	m.Chat = c.info
	if c.info.Type == "channel" {
		chat := c.info
		m.From, m.SenderChat = nil, &chat
	}
	raw := encodeMessage(m)
	e := entry{id: m.MessageId, seq: c.srv.posted.Add(1), raw: raw}
	if sender != nil {
		e.bot = sender.id
	}
	c.history.add(e, c.srv.cfg.KeepMessages)
	c.deliver("message", m, raw, sender)
	return raw
}

// deliver queues a message for the bots that may see it. Kind is "message" or
// "edited_message". The caller holds mu.
func (c *chat) deliver(kind string, m *gotgbot.Message, raw json.RawMessage, sender *Bot) {
	in := lane{kind: "chat", id: c.info.Id}
	if c.user != nil {
		if sender == nil {
			c.bot.push(kind, raw, in, keepUpdate)
		}
		return
	}
	if c.info.Type == "channel" {
		kind = map[string]string{"message": "channel_post", "edited_message": "edited_channel_post"}[kind]
	}
	for _, other := range c.members {
		if other.bot == nil || other.bot == sender || !other.in() {
			continue
		}
		if sender != nil && c.info.Type != "channel" {
			continue // bots do not see what bots write
		}
		if other.bot.privacy.Load() && other.status == plainMember && !c.concerns(m, other.bot) {
			continue
		}
		if m.From != nil {
			other.bot.meet(m.From.Id)
		}
		other.bot.push(kind, raw, in, keepUpdate)
	}
}

// concerns reports whether a bot in privacy mode sees a message.
func (c *chat) concerns(m *gotgbot.Message, b *Bot) bool {
	if m.Text == "" && m.Caption == "" { // a service message, or a bare file
		return isService(m)
	}
	if r := m.ReplyToMessage; r != nil && r.From != nil && r.From.Id == b.id {
		return true
	}
	if m.ViaBot != nil && m.ViaBot.Id == b.id {
		return true
	}
	text := m.Text + m.Caption
	if strings.Contains(strings.ToLower(text), "@"+strings.ToLower(b.username)) {
		return true
	}
	command, isCommand := strings.CutPrefix(text, "/")
	word, _, _ := strings.Cut(command, " ")
	return isCommand && !strings.Contains(word, "@")
}

func isService(m *gotgbot.Message) bool {
	return len(m.NewChatMembers) > 0 || m.LeftChatMember != nil || m.GroupChatCreated || m.SupergroupChatCreated ||
		m.ChannelChatCreated || m.MigrateToChatId != 0 || m.MigrateFromChatId != 0 || m.NewChatTitle != "" ||
		m.PinnedMessage != nil || m.SuccessfulPayment != nil || m.RefundedPayment != nil ||
		m.ForumTopicCreated != nil || m.ForumTopicEdited != nil || m.ForumTopicClosed != nil || m.ForumTopicReopened != nil
}

// encodeMessage is the message's JSON. Everything in it can be encoded.
func encodeMessage(m *gotgbot.Message) json.RawMessage {
	raw, err := json.Marshal(m)
	if err != nil {
		return json.RawMessage("{}")
	}
	return raw
}
