package bottest

import (
	"strings"
	"sync"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// world is everybody there is. Its lock is held for look-ups only and no other
// lock is taken under it.
//
// Locks are taken in this order: a chat's, a bot's, a user's, the world's.
type world struct {
	mu     sync.RWMutex
	bots   map[int64]*Bot
	tokens map[string]*Bot
	users  map[int64]*User
	chats  map[int64]*chat // groups, supergroups and channels
	// invoices are those of links.
	invoices map[string]*invoice
	names    map[string]any // lower-case usernames of *Bot, *User and *chat

	lastBot, lastUser, lastGroup, lastSupergroup int64
}

func (w *world) init() {
	w.bots = make(map[int64]*Bot)
	w.tokens = make(map[string]*Bot)
	w.users = make(map[int64]*User)
	w.chats = make(map[int64]*chat)
	w.names = make(map[string]any)
	w.invoices = make(map[string]*invoice)
	// Ids look like today's, and never meet: a bot is a user too.
	w.lastBot, w.lastUser = 7_000_000_000, 500_000_000
	w.lastGroup, w.lastSupergroup = -4_000_000_000, -1002_000_000_000
}

// take gives somebody a username unless it has an owner.
func (w *world) take(username string, owner any) {
	key := strings.ToLower(username)
	if _, taken := w.names[key]; username != "" && !taken {
		w.names[key] = owner
	}
}

func (w *world) botOf(token string) *Bot {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.tokens[token]
}

func (w *world) bot(id int64) *Bot {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.bots[id]
}

func (w *world) user(id int64) *User {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.users[id]
}

func (w *world) chat(id int64) *chat {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.chats[id]
}

// named returns the group or channel with a username.
func (w *world) named(username string) *chat {
	w.mu.RLock()
	defer w.mu.RUnlock()
	c, _ := w.names[strings.ToLower(strings.TrimPrefix(username, "@"))].(*chat)
	return c
}

// allBots returns every bot, in no order.
func (w *world) allBots() []*Bot {
	w.mu.RLock()
	defer w.mu.RUnlock()
	all := make([]*Bot, 0, len(w.bots))
	for _, b := range w.bots {
		all = append(all, b)
	}
	return all
}

// person returns a user or a bot as others see it.
func (w *world) person(id int64) (gotgbot.User, bool) {
	if u := w.user(id); u != nil {
		return u.profile(), true
	}
	if b := w.bot(id); b != nil {
		return b.profile(), true
	}
	return gotgbot.User{}, false
}
