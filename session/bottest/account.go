package bottest

import (
	"encoding/json"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

func getMe(q *request) (any, *apiError) { return q.bot.self(), nil }

// logOut keeps the bot out of the server for ten minutes.
func logOut(q *request) (any, *apiError) {
	b := q.bot
	b.mu.Lock()
	defer b.mu.Unlock()
	b.loggedOut = time.Now()
	b.queue.drop() // the real server drops what it has (Client.cpp, clear_tqueue_)
	b.poll.interrupt(&apiError{code: 400, description: "Logged out"})
	return true, nil
}

// closeGrace is how long after its start close is refused to a bot (Bot API,
// close).
const closeGrace = 10 * time.Minute

func closeBot(q *request) (any, *apiError) {
	b := q.bot
	b.mu.Lock()
	defer b.mu.Unlock()
	if up := time.Since(b.loadedAt); up < closeGrace {
		return nil, tooMany(closeGrace - up)
	}
	b.loaded.Store(false)
	b.poll.interrupt(restarting())
	return true, nil
}

// commandScope is what a list of commands is for.
type commandScope struct{ scope, language string }

func (p params) scope() (commandScope, *apiError) {
	var scope struct {
		Type   string `json:"type"`
		ChatID any    `json:"chat_id"`
		UserID int64  `json:"user_id"`
	}
	found, err := p.json("scope", &scope)
	switch {
	case err != nil:
		return commandScope{}, badRequest("can't parse BotCommandScope JSON object")
	case !found:
		scope.Type = "default"
	}
	switch scope.Type {
	case "default", "all_private_chats", "all_group_chats", "all_chat_administrators":
	case "chat", "chat_administrators", "chat_member":
		if scope.ChatID == nil {
			return commandScope{}, badRequest("can't parse BotCommandScope: chat_id is empty")
		}
	default:
		return commandScope{}, badRequest("can't parse BotCommandScope: unsupported type specified")
	}
	key, _ := json.Marshal(scope)
	return commandScope{scope: string(key), language: p.get("language_code")}, nil
}

const (
	maxCommands = 100 // (Bot API, setMyCommands)
	maxScopes   = 1000
)

func setMyCommands(q *request) (any, *apiError) {
	key, bad := q.params.scope()
	if bad != nil {
		return nil, bad
	}
	var commands []gotgbot.BotCommand
	if _, err := q.params.json("commands", &commands); err != nil {
		return nil, badRequest("can't parse commands JSON object")
	}
	if len(commands) > maxCommands {
		return nil, badRequest("BOT_COMMANDS_TOO_MUCH")
	}
	for _, c := range commands {
		switch {
		case c.Description == "":
			return nil, badRequest("command description must be non-empty")
		case len(c.Command) > 32 || wordLen(c.Command, 32) != len(c.Command) || c.Command == "":
			return nil, badRequest("BOT_COMMAND_INVALID")
		}
	}
	b := q.bot
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.commands == nil || len(b.commands) >= maxScopes {
		b.commands = make(map[commandScope][]gotgbot.BotCommand)
	}
	b.commands[key] = commands
	return true, nil
}

func getMyCommands(q *request) (any, *apiError) {
	key, bad := q.params.scope()
	if bad != nil {
		return nil, bad
	}
	b := q.bot
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]gotgbot.BotCommand{}, b.commands[key]...), nil
}

func deleteMyCommands(q *request) (any, *apiError) {
	key, bad := q.params.scope()
	if bad != nil {
		return nil, bad
	}
	b := q.bot
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.commands, key)
	return true, nil
}
