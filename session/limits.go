package session

import (
	"github.com/tgfleet/tgfleet/ratelimit"
)

// Limits are the numbers that a bot's calls are held to. In each field zero
// means the default, which [LimitConfig].Default sets for all bots and
// [TelegramLimits] where that is zero too; [ratelimit.Unlimited] means none.
//
// Telegram gives its numbers as advice, not as a contract: its word is the
// 429. The defaults keep a part of each burst back, since calls that leave
// evenly do not arrive so.
type Limits struct {
	// Weight is the bot's share of what all bots share; see
	// [ratelimit.Limits]. Default 1.
	Weight int `json:"weight,omitempty"`
	// Concurrent bounds the bot's calls under way, long polls not counted.
	// Default 100; negative is none. Telegram itself refuses more than 1000
	// (telegram-bot-api, Client.cpp).
	Concurrent int `json:"concurrent,omitempty"`

	// Bot is for messages to all chats together: 30 a second (Bots FAQ, "How
	// can I message all of my bot's subscribers at once?"), 20 at once.
	Bot ratelimit.Limit `json:"bot,omitzero"`
	// Paid takes Bot's place for messages with allow_paid_broadcast: 1000 a
	// second (Bot API, sendMessage), 500 at once.
	Paid ratelimit.Limit `json:"paid,omitzero"`
	// Private is for messages to one private chat: 1 a second, 3 at once (Bots
	// FAQ, "short bursts" may pass; how short is not said).
	Private ratelimit.Limit `json:"private,omitzero"`
	// Group is for messages to one group, supergroup or channel: 20 a minute
	// (Bots FAQ), 10 at once.
	Group ratelimit.Limit `json:"group,omitzero"`
}

// TelegramLimits returns Telegram's numbers, as far as they are known.
func TelegramLimits() Limits {
	return Limits{
		Weight:     1,
		Concurrent: 100,
		Bot:        ratelimit.Limit{Rate: 30, Burst: 20},
		Paid:       ratelimit.Limit{Rate: 1000, Burst: 500},
		Private:    ratelimit.Limit{Rate: 1, Burst: 3},
		Group:      ratelimit.Limit{Rate: 20.0 / 60, Burst: 10},
	}
}

// ReactiveLimits returns limits that hold nothing back but after a 429, and
// calls under way.
func ReactiveLimits() Limits {
	none := ratelimit.Unlimited
	return Limits{Weight: 1, Concurrent: 100, Bot: none, Paid: none, Private: none, Group: none}
}

// ColdStarts returns how many bots that Telegram's server has not loaded it
// loads for one source address: 20 a minute and 600 an hour
// (telegram-bot-api, ClientManager.cpp), of which it takes all at once. A part
// is kept back, as for messages.
func ColdStarts() []ratelimit.Limit {
	return []ratelimit.Limit{{Rate: 20.0 / 60, Burst: 15}, {Rate: 600.0 / 3600, Burst: 550}}
}

// findingLimit bounds the questions about unknown tokens, each of which is a
// cold start: a fifth of what the fleet's bots have, beside it. However many
// tokens strangers try, the fleet's own bots begin as fast as before.
func findingLimit(starts ratelimit.Limit) ratelimit.Limit {
	if starts.IsUnlimited() {
		return starts
	}
	return ratelimit.Limit{Rate: starts.Rate / 5, Burst: max(starts.Burst/5, 1)}
}

// actionLimit bounds sendChatAction in one chat: Telegram takes about 20 in 5 s
// (public reports; documented nowhere).
var actionLimit = ratelimit.Limit{Rate: 4, Burst: 15}

// IsZero reports whether all is left to the defaults.
func (l Limits) IsZero() bool { return l == Limits{} }

// Check reports what makes no sense.
func (l Limits) Check() error { return l.or(TelegramLimits()).scheduler().Check() }

// or puts another's number where there is none.
func (l Limits) or(other Limits) Limits {
	orElse(&l.Weight, other.Weight)
	orElse(&l.Concurrent, other.Concurrent)
	orElse(&l.Bot, other.Bot)
	orElse(&l.Paid, other.Paid)
	orElse(&l.Private, other.Private)
	orElse(&l.Group, other.Group)
	return l
}

func orElse[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// The classes of requests and keys.
const (
	classBot = iota
	classPaid
)

const (
	classPrivate = iota
	classGroup
	classAction  // sendChatAction
	classFinding // questions about unknown tokens
	classNone    // all other calls that send no message
)

// The lanes.
const (
	laneInteractive = iota
	laneBulk
	lanes
)

func (l Limits) scheduler() ratelimit.Limits {
	action := actionLimit
	if l.Private.IsUnlimited() { // nothing is held back before a 429
		action = ratelimit.Unlimited
	}
	return ratelimit.Limits{
		Weight:   l.Weight,
		InFlight: l.Concurrent,
		Classes:  []ratelimit.Limit{classBot: l.Bot, classPaid: l.Paid},
		Keys:     []ratelimit.Limit{classPrivate: l.Private, classGroup: l.Group, classAction: action},
	}
}
