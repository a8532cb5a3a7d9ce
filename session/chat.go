package session

import (
	"math"
	"strconv"
	"strings"
)

// ChatID names a chat as a call does: by its number, or by the @username of a
// channel or supergroup. The zero ChatID is no chat. It is comparable, so it
// can be a map's key; a username and the number of the same chat are two keys,
// since only Telegram knows that they are one.
type ChatID struct {
	// ID is the number: positive for a user, negative for a group or channel.
	ID int64
	// Username is lower case and has its "@"; empty where ID is set.
	Username string
}

// ParseChatID reads a chat_id parameter in any type that encodes to a number or a
// string, such as [json.RawMessage], a named type or a pointer. It returns the
// zero ChatID for everything that is neither a number nor a username of the form
// "@name": Telegram refuses such a call.
func ParseChatID(value any) ChatID {
	switch v := value.(type) { // the common types, without reflection
	case nil:
		return ChatID{}
	case int64:
		return ChatID{ID: v}
	case string:
		return parseChatText(v)
	}
	text, v := resolve(value)
	switch {
	case v.CanInt():
		return ChatID{ID: v.Int()}
	case v.CanUint() && v.Uint() <= math.MaxInt64:
		return ChatID{ID: int64(v.Uint())}
	case v.CanFloat() && v.Float() == math.Trunc(v.Float()) && math.Abs(v.Float()) < 1<<53:
		return ChatID{ID: int64(v.Float())}
	}
	return parseChatText(text)
}

func parseChatText(text string) ChatID {
	if id, err := strconv.ParseInt(text, 10, 64); err == nil {
		return ChatID{ID: id}
	}
	// Usernames are 4 to 32 characters of [A-Za-z0-9_]; the bound is here so
	// that no stranger's text becomes a long-lived key.
	if len(text) < 2 || len(text) > 64 || text[0] != '@' {
		return ChatID{}
	}
	for i := 1; i < len(text); i++ {
		c := text[i]
		if c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return ChatID{}
		}
	}
	return ChatID{Username: strings.ToLower(text)}
}

// IsZero reports whether c is no chat.
func (c ChatID) IsZero() bool { return c == ChatID{} }

// String returns the number or the username; "" for no chat.
func (c ChatID) String() string {
	if c.ID != 0 {
		return strconv.FormatInt(c.ID, 10)
	}
	return c.Username
}
