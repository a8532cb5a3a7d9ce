package bottest

import (
	"slices"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

func getChat(q *request) (any, *apiError) {
	return q.inChat(toRead, func(c *chat) (any, *apiError) {
		full := gotgbot.ChatFullInfo{
			Id: c.info.Id, Type: c.info.Type, Title: c.info.Title, Username: c.info.Username,
			FirstName: c.info.FirstName, LastName: c.info.LastName, MaxReactionCount: 11,
		}
		full.IsForum = c.info.IsForum
		if c.info.Username != "" {
			full.ActiveUsernames = []string{c.info.Username}
		}
		if c.info.Type == "group" || c.info.Type == "supergroup" {
			full.Permissions = &gotgbot.ChatPermissions{CanSendMessages: true, CanInviteUsers: true}
		}
		if n := len(c.pinned); n > 0 {
			if e := c.history.find(c.pinned[n-1]); e != nil {
				full.PinnedMessage = e.message()
			}
		}
		return full, nil
	})
}

func getChatMember(q *request) (any, *apiError) {
	id := q.params.id("user_id")
	if id <= 0 {
		return nil, badRequest("invalid user_id specified")
	}
	return q.inChat(toRead, func(c *chat) (any, *apiError) {
		if c.user != nil {
			switch id {
			case c.user.ID:
				return c.memberJSON(c.user.profile(), plainMember), nil
			case q.bot.id:
				return c.memberJSON(q.bot.profile(), plainMember), nil
			}
			return nil, badRequest("member not found")
		}
		if m := c.members[id]; m != nil {
			return c.memberJSON(m.user, m.status), nil
		}
		if p, ok := q.srv.world.person(id); ok {
			return c.memberJSON(p, left), nil
		}
		return nil, badRequest("PARTICIPANT_ID_INVALID")
	})
}

func getChatMemberCount(q *request) (any, *apiError) {
	return q.inChat(toRead, func(c *chat) (any, *apiError) {
		if c.user != nil {
			return 2, nil
		}
		n := 0
		for _, m := range c.members {
			if m.in() {
				n++
			}
		}
		return n, nil
	})
}

func getChatAdministrators(q *request) (any, *apiError) {
	return q.inChat(toRead, func(c *chat) (any, *apiError) {
		if c.user != nil {
			return nil, badRequest("there are no administrators in the private chat")
		}
		all := []*member{}
		for _, m := range c.members {
			if m.status == creator || m.status == administrator && m.user.Id != q.bot.id && m.bot == nil ||
				m.status == administrator && m.bot == q.bot {
				all = append(all, m)
			}
		}
		slices.SortFunc(all, func(a, b *member) int { return int(a.user.Id - b.user.Id) })
		found := []any{}
		for _, m := range all {
			found = append(found, c.memberJSON(m.user, m.status))
		}
		return found, nil
	})
}

func leaveChat(q *request) (any, *apiError) {
	return q.inChat(toEdit, func(c *chat) (any, *apiError) {
		if c.user != nil {
			return nil, badRequest("chat member status can't be changed in private chats")
		}
		me := q.bot.profile()
		c.setStatus(q.bot, me, left)
		if c.info.Type != "channel" {
			c.post(&gotgbot.Message{From: &me, LeftChatMember: &me}, q.bot)
		}
		return true, nil
	})
}

// mayPin reports whether the bot may pin messages. The caller holds mu.
func (c *chat) mayPin(b *Bot) bool {
	m := c.members[b.id]
	return c.user != nil || c.info.Type == "group" || m != nil && m.status == administrator
}

func pinChatMessage(q *request) (any, *apiError) {
	if q.params.get("message_id") == "" {
		return nil, badRequest("message identifier is not specified")
	}
	id := q.params.id("message_id")
	return q.inChat(toWrite, func(c *chat) (any, *apiError) {
		e := c.history.find(id)
		switch {
		case e == nil:
			return nil, badRequest("message to pin not found")
		case !c.mayPin(q.bot):
			return nil, badRequest("not enough rights to manage pinned messages in the chat")
		case slices.Contains(c.pinned, id):
			return true, nil
		}
		c.pinned = append(c.pinned, id)
		me := q.bot.profile()
		if c.info.Type != "channel" {
			c.post(&gotgbot.Message{From: &me, PinnedMessage: e.message()}, q.bot)
		}
		return true, nil
	})
}

// unpinChatMessage unpins one message, the newest if none is named.
func unpinChatMessage(q *request) (any, *apiError) {
	return q.inChat(toWrite, func(c *chat) (any, *apiError) {
		if !c.mayPin(q.bot) {
			return nil, badRequest("not enough rights to manage pinned messages in the chat")
		}
		i := len(c.pinned) - 1
		if q.params.get("message_id") != "" {
			i = slices.Index(c.pinned, q.params.id("message_id"))
		}
		if i < 0 {
			return nil, badRequest("message to unpin not found")
		}
		c.pinned = slices.Delete(c.pinned, i, i+1)
		return true, nil
	})
}

func unpinAllChatMessages(q *request) (any, *apiError) {
	return q.inChat(toWrite, func(c *chat) (any, *apiError) {
		if !c.mayPin(q.bot) {
			return nil, badRequest("not enough rights to manage pinned messages in the chat")
		}
		c.pinned = nil
		return true, nil
	})
}
