package session

import (
	"encoding/json"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// usernames are the ids of chats that were called by their usernames, as the
// answers told them. They are the same for all bots. A username may come to
// name another chat, so none is believed for long; until it is known again it
// is a key of its own.
type usernames struct{ ids *lru.Cache[string, knownName] }

type knownName struct {
	id    int64
	until time.Time
}

const (
	maxNames = 10_000
	nameTTL  = time.Hour
)

func newUsernames() *usernames {
	ids, _ := lru.New[string, knownName](maxNames) // fails for sizes below 1 only
	return &usernames{ids: ids}
}

// resolve returns the chat by its number where that is known.
func (u *usernames) resolve(chat ChatID) ChatID {
	if known, found := u.ids.Get(chat.Username); found && time.Now().Before(known.until) {
		return ChatID{ID: known.id}
	}
	return chat
}

// learnName reads a chat's number out of the message that a call returned, and
// makes what is known of the username that of the number.
func (l *limiter) learnName(call *Call, result json.RawMessage) {
	if l.names.resolve(call.Chat) != call.Chat || len(result) == 0 || result[0] != '{' {
		return
	}
	var message struct {
		ID   int64 `json:"id"` // of getChat
		Chat struct {
			ID int64 `json:"id"`
		} `json:"chat"`
	}
	if json.Unmarshal(result, &message) != nil {
		return
	}
	id := message.Chat.ID
	if id == 0 && strings.EqualFold(call.Method, "getChat") {
		id = message.ID
	}
	if id == 0 {
		return
	}
	l.names.ids.Add(call.Chat.Username, knownName{id: id, until: time.Now().Add(nameTTL)})
	l.scheduler.Move(call.Key, place{chat: call.Chat}, place{chat: ChatID{ID: id}})
}
