package bottest

import (
	"strconv"
	"strings"
)

// access is what a call needs of its chat.
type access int

const (
	toRead access = iota
	toEdit
	toWrite
)

// chatOf finds the chat that a parameter names, as the bot may know it.
func (q *request) chatOf(param string) (*chat, *apiError) {
	text := strings.TrimSpace(q.params.get(param))
	if text == "" {
		return nil, badRequest("chat_id is empty") // whatever the parameter is called
	}
	if text[0] == '@' {
		if c := q.srv.world.named(text); c != nil {
			return c, nil
		}
		return nil, badRequest("chat not found")
	}
	id, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil || id == 0:
		return nil, badRequest("chat not found")
	case id > 0:
		return q.privateChat(id)
	}
	c := q.srv.world.chat(id)
	if c == nil || !c.knownTo(q.bot) {
		return nil, badRequest("chat not found")
	}
	return c, nil
}

func (q *request) privateChat(user int64) (*chat, *apiError) {
	if c := q.bot.dialog(user); c != nil {
		return c, nil
	}
	if b := q.srv.world.bot(user); b != nil && b != q.bot {
		return nil, forbidden("bots can't send messages to bots")
	}
	if q.bot.hasMet(user) {
		return nil, forbidden("bot can't initiate conversation with a user")
	}
	return nil, badRequest("chat not found")
}

// knownTo reports whether the bot has ever been in the chat or may find it by
// its name.
func (c *chat) knownTo(b *Bot) bool {
	if c.user != nil {
		return c.bot == b
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.members[b.id] != nil || c.info.Username != ""
}

// check says why the bot may not do a thing in the chat. The caller holds mu.
func (c *chat) check(b *Bot, need access) *apiError {
	if c.user != nil {
		switch {
		case need == toRead:
			return nil
		case c.user.isDeactivated():
			return forbidden("user is deactivated")
		case c.blocked && need == toWrite:
			return forbidden("bot was blocked by the user")
		}
		return nil
	}
	m := c.members[b.id]
	name := c.info.Type + " chat"
	if c.info.Type == "group" {
		switch {
		case c.upgraded != nil && need == toWrite:
			bad := badRequest("group chat was upgraded to a supergroup chat")
			bad.migrateTo = c.upgraded.info.Id // never changes
			return bad
		case c.upgraded != nil || need == toRead:
			return nil
		}
	}
	switch {
	case m != nil && m.status == kicked:
		return forbidden("bot was kicked from the " + name)
	case !m.in() && (c.info.Username == "" || need != toRead):
		return forbidden("bot is not a member of the " + name)
	case c.info.Type == "channel" && need == toWrite && m.status != administrator:
		return badRequest("need administrator rights in the channel chat")
	}
	return nil
}

// inChat runs do in the chat the call names, under its lock, if the bot has
// access.
func (q *request) inChat(need access, do func(*chat) (any, *apiError)) (any, *apiError) {
	c, bad := q.chatOf("chat_id")
	if bad != nil {
		return nil, bad
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if bad := c.check(q.bot, need); bad != nil {
		return nil, bad
	}
	return do(c)
}
