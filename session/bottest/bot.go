package bottest

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// A Bot is a bot's account on the server. What calls the server with its token
// is the code under test; a Bot is for setting the scene.
type Bot struct {
	srv       *Server
	id        int64
	username  string
	name      string
	owner     *User // of a managed bot
	managedBy *Bot  // of a managed bot
	manager   atomic.Bool

	loaded   atomic.Bool // false: its next call is a cold start
	privacy  atomic.Bool
	inFlight atomic.Int64

	// mu guards what follows. No chat's lock is taken under it, and nothing
	// is sent.
	mu        sync.Mutex
	token     string
	loadedAt  time.Time
	loggedOut time.Time // when logOut was called
	dialogs   map[int64]*chat
	met       map[int64]bool // users it may know without a chat
	unsent    map[string]int // sends under way, by chat
	sent      meter
	sentPaid  meter
	queue     updateQueue
	poll      pollState
	webhook   webhookState
	commands  map[commandScope][]gotgbot.BotCommand
	queries   map[string]*query
	charges   map[string]*charge
}

// NewBot makes a bot. By convention a username ends in "bot". Usernames are
// unique; who asks for a taken one gets a bot that cannot be found by it.
func (s *Server) NewBot(username string) *Bot {
	b := &Bot{srv: s, username: username, name: username}
	s.addBot(b)
	return b
}

func (s *Server) addBot(b *Bot) {
	b.dialogs = make(map[int64]*chat)
	b.met = make(map[int64]bool)
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	s.world.lastBot++
	b.id = s.world.lastBot
	b.token = s.newToken(b.id)
	s.world.bots[b.id] = b
	s.world.tokens[b.token] = b
	s.world.take(b.username, b)
}

// newToken makes a token like today's: the id and 35 characters.
func (s *Server) newToken(id int64) string {
	return strconv.FormatInt(id, 10) + ":AA" + s.rand.text(33)
}

// BotByToken finds a bot by its present token.
func (s *Server) BotByToken(token string) (*Bot, bool) {
	b := s.world.botOf(token)
	return b, b != nil
}

// Token is the bot's present token.
func (b *Bot) Token() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.token
}

// ID is the bot's user id.
func (b *Bot) ID() int64 { return b.id }

// Username is the bot's username without the @.
func (b *Bot) Username() string { return b.username }

// Revoke makes the bot's token invalid: calls with it get 401. It has no
// other until [Bot.RotateToken]. A running getUpdates ends with 401. The webhook
// is gone, since the real server keeps it by the token; updates wait.
func (b *Bot) Revoke() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget()
}

// RotateToken gives the bot a new token and returns it. The old one gets 401,
// and so does a running getUpdates. The webhook is gone, as after
// [Bot.Revoke].
func (b *Bot) RotateToken() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget()
	b.token = b.srv.newToken(b.id)
	b.srv.world.mu.Lock()
	defer b.srv.world.mu.Unlock()
	b.srv.world.tokens[b.token] = b
	return b.token
}

// forget makes the token unknown, and with it the webhook that was set by it
// (telegram-bot-api, Client.cpp, on_closed). The caller holds mu.
func (b *Bot) forget() {
	b.srv.world.mu.Lock()
	delete(b.srv.world.tokens, b.token)
	b.srv.world.mu.Unlock()
	b.loaded.Store(false)
	b.poll.interrupt(unauthorized())
	if b.webhook.set() {
		b.webhook.stop()
		b.queue.retryAll(time.Now())
	}
}

// SetPrivacy switches the bot's privacy mode. It is off for a new bot, other
// than on the real server, so that the bot sees all that users write in its
// groups. With privacy it sees commands, mentions of it, replies to it and
// service messages there, unless it is an administrator.
func (b *Bot) SetPrivacy(on bool) { b.privacy.Store(on) }

// Restart makes the server forget that it has loaded the bot, so that its next
// call is a cold start (see [Limits]).
func (b *Bot) Restart() { b.loaded.Store(false) }

// profile is how others see the bot.
func (b *Bot) profile() gotgbot.User {
	return gotgbot.User{Id: b.id, IsBot: true, FirstName: b.name, Username: b.username}
}

// self is the answer to getMe.
func (b *Bot) self() gotgbot.User {
	u := b.profile()
	u.CanJoinGroups = true
	u.CanReadAllGroupMessages = !b.privacy.Load()
	u.CanManageBots = b.manager.Load()
	return u
}

// dialog returns the private chat of the bot and a user, nil if there is none.
func (b *Bot) dialog(user int64) *chat {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dialogs[user]
}

func (b *Bot) meet(user int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.met[user] = true
}

func (b *Bot) hasMet(user int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.met[user]
}

// load loads the bot that a call is for, if the cold start limits let it.
func (s *Server) load(q *request, source string) *apiError {
	b := q.bot
	if b != nil && b.loaded.Load() {
		return nil
	}
	if q.name == "close" {
		return badRequest("the bot has already been closed")
	}
	if wait := s.cold.load(&s.cfg.Limits, source); wait > 0 {
		return tooMany(wait)
	}
	if b != nil && !b.loaded.Swap(true) {
		b.mu.Lock()
		b.loadedAt = time.Now()
		b.mu.Unlock()
	}
	return nil
}

// logOutLock is how long logOut keeps a bot out (Bot API, logOut).
const logOutLock = 10 * time.Minute

// enter counts a call as under way, or refuses it.
func (b *Bot) enter(q *request) (leave func(), bad *apiError) {
	l := &b.srv.cfg.Limits
	now := time.Now()
	chat := ""
	if m, ok := q.srv.methods[q.name]; ok && m.sent {
		chat = q.params.get("chat_id")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.loggedOut.IsZero() {
		if now.Sub(b.loggedOut) < logOutLock {
			return nil, &apiError{code: 400, description: "Logged out"}
		}
		b.loggedOut = time.Time{}
	}
	flood := tooMany(time.Minute)
	flood.late = l.FloodDelay
	if l.InFlight >= 0 && b.inFlight.Load() >= int64(l.InFlight+b.queue.lastMinute(now)) {
		return nil, flood
	}
	if l.UnsentPerChat >= 0 && chat != "" && b.unsent[chat] >= l.UnsentPerChat {
		return nil, flood
	}
	b.inFlight.Add(1)
	if chat == "" {
		return func() { b.inFlight.Add(-1) }, nil
	}
	if b.unsent == nil {
		b.unsent = make(map[string]int)
	}
	b.unsent[chat]++
	return func() {
		b.inFlight.Add(-1)
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.unsent[chat]--; b.unsent[chat] == 0 {
			delete(b.unsent, chat)
		}
	}, nil
}
