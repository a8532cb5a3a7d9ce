package inbox

import "time"

// The kinds of updates (Bot API, Update), and for how long one that was
// received is worth handling; zero is for ever.
//
// A pre-checkout query must be answered within 10 s after it was sent (Bot API,
// answerPreCheckoutQuery): then Telegram gives the payment up and takes no
// answer. For shipping queries and callback queries no such time is documented;
// the server keeps those that it can't deliver for 150 s, and inline queries for
// 30 s (telegram-bot-api, Client.cpp, add_update), since they are worth nothing
// later. A join request that has a query is to be answered within 10 s too
// (ChatJoinRequest.query_id), but can be approved at any time.
var kindTable = []struct {
	name string
	keep time.Duration
}{
	{"message", 0},
	{"callback_query", 150 * time.Second},
	{"inline_query", 30 * time.Second},
	{"edited_message", 0},
	{"channel_post", 0},
	{"edited_channel_post", 0},
	{"business_connection", 0},
	{"business_message", 0},
	{"edited_business_message", 0},
	{"deleted_business_messages", 0},
	{"guest_message", 0},
	{"message_reaction", 0},
	{"message_reaction_count", 0},
	{"chosen_inline_result", 0},
	{"shipping_query", 150 * time.Second},
	{"pre_checkout_query", 10 * time.Second}, // (Bot API, answerPreCheckoutQuery)
	{"purchased_paid_media", 0},
	{"poll", 0},
	{"poll_answer", 0},
	{"my_chat_member", 0},
	{"chat_member", 0},
	{"chat_join_request", 0},
	{"chat_boost", 0},
	{"removed_chat_boost", 0},
	{"managed_bot", 0},
	{"subscription", 0},
}

// Unknown is the kind of an update in no field, or in one with a name that
// can't be a kind's. One that this package does not know is no Unknown: it has
// the field's name.
const Unknown = "unknown"

// The longest names, in bytes. Stores may rely on them.
const (
	maxKind = 64
	maxChat = 96
)

// Kinds returns the kinds that this package knows, which are those of
// allowed_updates. A kind that is not among them is received all the same.
func Kinds() []string {
	names := make([]string, len(kindTable))
	for i, k := range kindTable {
		names[i] = k.name
	}
	return names
}

// Keep returns for how long an update of a kind is worth handling after it was
// received: 10 s for a pre-checkout query, 30 s for an inline query, 150 s for
// callback and shipping queries, and 0, which is for ever, for all others. It is
// what [Parse] sets ExpiresAt by.
func Keep(kind string) time.Duration {
	for i := range kindTable {
		if kindTable[i].name == kind {
			return kindTable[i].keep
		}
	}
	return 0
}

// kindOf returns the kind that a field's name is, without allocating for one
// that is known.
func kindOf(name []byte) (kind string, known bool) {
	for i := range kindTable {
		if kindTable[i].name == string(name) {
			return kindTable[i].name, true
		}
	}
	if len(name) == 0 || len(name) > maxKind {
		return Unknown, false
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return Unknown, false
		}
	}
	return string(name), false
}
