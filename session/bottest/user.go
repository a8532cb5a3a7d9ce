package bottest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// A User is a person with an account. What it does reaches bots as updates.
type User struct {
	// ID is the user's id, and that of its private chats.
	ID int64

	srv         *Server
	mu          sync.Mutex // guards what follows
	user        gotgbot.User
	deactivated bool
}

// NewUser makes a user.
func (s *Server) NewUser(firstName string) *User {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	s.world.lastUser++
	u := &User{ID: s.world.lastUser, srv: s}
	u.user = gotgbot.User{Id: u.ID, FirstName: firstName, LanguageCode: "en"}
	s.world.users[u.ID] = u
	return u
}

// SetProfile changes what bots see of the user: its name, username, language
// and so on. The id stays.
func (u *User) SetProfile(profile gotgbot.User) {
	profile.Id, profile.IsBot = u.ID, false
	u.mu.Lock()
	u.user = profile
	u.mu.Unlock()
	u.srv.world.mu.Lock()
	defer u.srv.world.mu.Unlock()
	u.srv.world.take(profile.Username, u)
}

func (u *User) profile() gotgbot.User {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.user
}

// Deactivate deletes the user's account: who writes to it gets "Forbidden: user
// is deactivated".
func (u *User) Deactivate() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.deactivated = true
}

func (u *User) isDeactivated() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.deactivated
}

// dialog returns the private chat with a bot, and begins it if need be.
func (u *User) dialog(b *Bot) *chat {
	p := u.profile()
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.dialogs[u.ID]
	if c == nil {
		c = &chat{srv: u.srv, bot: b, user: u, info: gotgbot.Chat{
			Id: u.ID, Type: "private", FirstName: p.FirstName, LastName: p.LastName, Username: p.Username,
		}}
		b.dialogs[u.ID] = c
		b.met[u.ID] = true
	}
	return c
}

// Write sends a text to the bot in their private chat, which starts the bot, and
// returns the message as the bot gets it. Commands, mentions, hashtags and
// links in the text become entities.
func (u *User) Write(b *Bot, text string) *gotgbot.Message {
	return u.Send(b, gotgbot.Message{Text: text})
}

// Start presses the bot's start button, with a deep link's payload if that is
// not "".
func (u *User) Start(b *Bot, payload string) *gotgbot.Message {
	if payload == "" {
		return u.Write(b, "/start")
	}
	return u.Write(b, "/start "+payload)
}

// Send sends any message to the bot in their private chat: a photo, a contact,
// a reply. Id, date, chat and sender are the server's to fill in. Files come
// from [Bot.AddFile].
func (u *User) Send(b *Bot, m gotgbot.Message) *gotgbot.Message {
	c := u.dialog(b)
	c.mu.Lock()
	blocked := c.blocked
	c.mu.Unlock()
	if blocked {
		u.Unblock(b)
	}
	return u.post(c, m)
}

// WriteIn sends a text to a group. The user joins it if need be.
func (u *User) WriteIn(g *Group, text string) *gotgbot.Message {
	return u.SendIn(g, gotgbot.Message{Text: text})
}

// SendIn sends any message to a group, as [User.Send] does to a bot.
func (u *User) SendIn(g *Group, m gotgbot.Message) *gotgbot.Message {
	c := g.current()
	c.mu.Lock()
	member := c.members[u.ID].in()
	c.mu.Unlock()
	if !member && c.info.Type != "channel" {
		g.Add(u, nil)
	}
	return u.post(c, m)
}

func (u *User) post(c *chat, m gotgbot.Message) *gotgbot.Message {
	p := u.profile()
	m.From = &p
	if m.Entities == nil {
		m.Entities = scanEntities(m.Text)
	}
	if m.CaptionEntities == nil {
		m.CaptionEntities = scanEntities(m.Caption)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.info.IsForum {
		id := m.MessageThreadId
		if bad := c.thread(&m, u.ID); bad != nil {
			panic(fmt.Sprintf("bottest: user %d can't write to topic %d: %s", u.ID, id, bad.description))
		}
	}
	c.post(&m, nil)
	return &m
}

// EditMessage changes the text of a message that the user has written, given
// as it was returned when it was written or last edited. It panics if there is
// no such message.
func (u *User) EditMessage(m *gotgbot.Message, text string) *gotgbot.Message {
	c := u.chatOf(m)
	if c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if e := c.history.find(m.MessageId); e != nil && e.bot == 0 {
			edited := e.message()
			edited.Text, edited.Entities = text, scanEntities(text)
			edited.EditDate = time.Now().Unix()
			if e.first == nil {
				e.first = e.raw
			}
			e.raw = encodeMessage(edited)
			c.deliver("edited_message", edited, e.raw, nil)
			return edited
		}
	}
	panic(fmt.Sprintf("bottest: EditMessage: user %d wrote no message %d in chat %d", u.ID, m.MessageId, m.Chat.Id))
}

// chatOf finds the chat of a message as the user sees it, nil if there is
// none.
func (u *User) chatOf(m *gotgbot.Message) *chat {
	if m.Chat.Id < 0 {
		return u.srv.world.chat(m.Chat.Id)
	}
	if m.From != nil && m.From.IsBot {
		if b := u.srv.world.bot(m.From.Id); b != nil {
			return b.dialog(u.ID)
		}
		return nil
	}
	return u.chatWith(m)
}

// chatWith finds the private chat of a message the user wrote. The message
// does not say which bot it went to, and several may have one of that number,
// so the content decides, and then which was written last.
func (u *User) chatWith(m *gotgbot.Message) *chat {
	raw := encodeMessage(m)
	var found *chat
	var best entry
	for _, b := range u.srv.world.allBots() {
		c := b.dialog(u.ID)
		if c == nil {
			continue
		}
		c.mu.Lock()
		e := c.history.find(m.MessageId)
		if e != nil && e.bot == 0 && e.seq > best.seq && (bytes.Equal(e.raw, raw) || bytes.Equal(e.first, raw)) {
			found, best = c, *e
		}
		c.mu.Unlock()
	}
	return found
}

// Press presses a button with callback data under a bot's message. The bot
// gets a callback query, which is returned. It panics if no bot has sent the
// message.
func (u *User) Press(m *gotgbot.Message, data string) *gotgbot.CallbackQuery {
	c := u.chatOf(m)
	if c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if e := c.history.find(m.MessageId); e != nil && e.bot != 0 {
			b := u.srv.world.bot(e.bot)
			return u.press(b, e.raw, data, c.info.Id)
		}
	}
	panic(fmt.Sprintf("bottest: Press: no bot has sent message %d in chat %d", m.MessageId, m.Chat.Id))
}

func (u *User) press(b *Bot, raw json.RawMessage, data string, chat int64) *gotgbot.CallbackQuery {
	var m gotgbot.Message
	_ = json.Unmarshal(raw, &m)
	cq := &gotgbot.CallbackQuery{
		Id:           fmt.Sprint(b.srv.rand.between(1<<60, 1<<62)),
		From:         u.profile(),
		Message:      &m,
		ChatInstance: fmt.Sprint(chat*7919 + 1<<50),
		Data:         data,
	}
	body, err := json.Marshal(cq)
	if err != nil {
		panic(err)
	}
	b.ask(cq.Id, "callback_query", keepQuery)
	b.push("callback_query", body, lane{kind: "callback", id: u.ID}, keepQuery)
	return cq
}

// Block blocks the bot: it is told so, and what it writes to the user is
// answered with "Forbidden: bot was blocked by the user".
func (u *User) Block(b *Bot) { u.setBlocked(b, true) }

// Unblock takes [User.Block] back.
func (u *User) Unblock(b *Bot) { u.setBlocked(b, false) }

func (u *User) setBlocked(b *Bot, blocked bool) {
	c := u.dialog(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blocked == blocked {
		return
	}
	c.blocked = blocked
	was, is := plainMember, kicked
	if !blocked {
		was, is = kicked, plainMember
	}
	c.tellOwnStatus(b, u.profile(), was, is)
}
