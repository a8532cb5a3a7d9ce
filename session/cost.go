package session

import (
	"context"
	"strings"
)

// counts reports whether a method takes from the sending limits: what sends,
// forwards, copies or edits messages. That edits count is documented nowhere,
// but they are refused as messages are when there are too many. All else is
// free: it waits for freezes and slots only.
func counts(method string) bool {
	for _, prefix := range [...]string{"send", "forward", "copy", "edit"} {
		if hasPrefixFold(method, prefix) {
			switch {
			case prefix == "send" && effectOf(method) != once, // drafts and chat actions
				hasPrefixFold(method, "editChat"),
				hasPrefixFold(method, "editForumTopic"),
				hasPrefixFold(method, "editGeneralForumTopic"),
				hasPrefixFold(method, "editUserStarSubscription"):
				return false
			}
			return true
		}
	}
	return false
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// cost is the number of messages that a call sends: the items of an album, or
// the messages that it forwards or copies.
func cost(call *Call) int {
	var list any
	switch {
	case strings.EqualFold(call.Method, "sendMediaGroup"):
		list = call.Params["media"]
	case strings.EqualFold(call.Method, "forwardMessages"), strings.EqualFold(call.Method, "copyMessages"):
		list = call.Params["message_ids"]
	default:
		return 1
	}
	// Telegram takes at most 100 (Bot API, forwardMessages) and refuses a call
	// with more.
	return min(max(listLen(list), 1), 100)
}

func paid(call *Call) bool { return boolParam(call.Params["allow_paid_broadcast"]) }

type bulkKey struct{}

// Bulk marks the calls of a context as bulk, such as a newsletter: they wait
// behind the bot's other calls, which they never hold up, and get at least one
// turn in ten.
func Bulk(ctx context.Context) context.Context { return context.WithValue(ctx, bulkKey{}, true) }

func isBulk(ctx context.Context) bool {
	bulk, _ := ctx.Value(bulkKey{}).(bool)
	return bulk
}
