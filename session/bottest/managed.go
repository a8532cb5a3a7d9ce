package bottest

import (
	"encoding/json"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// NewManagedBot makes a bot for a user under a manager bot, as the user does by
// the manager's link. The manager is told by a managed_bot update, and may
// fetch and replace the new bot's token.
func (s *Server) NewManagedBot(manager *Bot, owner *User, username string) *Bot {
	manager.manager.Store(true)
	b := &Bot{srv: s, username: username, name: username, owner: owner, managedBy: manager}
	s.addBot(b)
	b.tellManager()
	return b
}

// tellManager sends managed_bot to the bot's manager.
func (b *Bot) tellManager() {
	body, err := json.Marshal(gotgbot.ManagedBotUpdated{User: b.owner.profile(), Bot: b.profile()})
	if err != nil {
		panic(err) // nothing in it can fail
	}
	b.managedBy.push("managed_bot", body, lane{kind: "managed", id: b.owner.ID}, keepUpdate)
}

// managed finds the bot that a call of its manager names.
func (q *request) managed() (*Bot, *apiError) {
	id := q.params.id("user_id")
	if id <= 0 {
		return nil, badRequest("invalid user_id specified")
	}
	b := q.srv.world.bot(id)
	switch {
	case b == nil:
		return nil, badRequest("user not found")
	case b.managedBy != q.bot:
		return nil, badRequest("BOT_ACCESS_FORBIDDEN")
	}
	return b, nil
}

func getManagedBotToken(q *request) (any, *apiError) {
	b, bad := q.managed()
	if bad != nil {
		return nil, bad
	}
	return b.Token(), nil
}

func replaceManagedBotToken(q *request) (any, *apiError) {
	b, bad := q.managed()
	if bad != nil {
		return nil, bad
	}
	token := b.RotateToken()
	b.tellManager()
	return token, nil
}
