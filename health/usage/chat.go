package usage

import (
	"fmt"
	"strconv"
	"strings"
)

// Chat names a chat: by its number, or by the @username of a channel or
// supergroup. The zero Chat is none. It is comparable; a username and the number
// of the same chat are two, since only Telegram knows that they are one.
//
// A [Recorder] counts usernames in lower case, a chat that has both under its
// number, and what is no username, since it lacks the @ or has other characters
// than letters, digits and underscores, as no chat.
type Chat struct {
	// ID is the number: positive for a user, negative for a group or channel, 0
	// where it is not known.
	ID int64
	// Username has its "@"; "" where there is none.
	Username string
}

// IsZero reports whether c is no chat.
func (c Chat) IsZero() bool { return c == Chat{} }

// String returns the number or the username; "" for no chat.
func (c Chat) String() string {
	if c.ID != 0 {
		return strconv.FormatInt(c.ID, 10)
	}
	return c.Username
}

// MarshalText returns what String does of the chat as a [Recorder] counts it.
func (c Chat) MarshalText() ([]byte, error) { return []byte(c.normal().String()), nil }

// UnmarshalText reads what MarshalText returns; any other text is an error.
func (c *Chat) UnmarshalText(text []byte) error {
	s := string(text)
	read := chatOf(s)
	if read.IsZero() && s != "" && s != "0" {
		return fmt.Errorf("usage: %q is no chat", s)
	}
	*c = read
	return nil
}

// chatOf returns the chat that a text names, the zero Chat where it names none.
func chatOf(s string) Chat {
	if id, err := strconv.ParseInt(s, 10, 64); err == nil {
		return Chat{ID: id}
	}
	return Chat{Username: s}.normal()
}

// maxUsername is twice what Telegram allows.
const maxUsername = 1 + 64

// normal returns the one form that a chat has wherever it is counted, hashed
// and stored.
func (c Chat) normal() Chat {
	if c.ID != 0 {
		return Chat{ID: c.ID}
	}
	if len(c.Username) < 2 || len(c.Username) > maxUsername || c.Username[0] != '@' {
		return Chat{}
	}
	upper := false
	for i := 1; i < len(c.Username); i++ {
		switch b := c.Username[i]; {
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9', b == '_':
		case 'A' <= b && b <= 'Z':
			upper = true
		default:
			return Chat{}
		}
	}
	if upper {
		c.Username = strings.ToLower(c.Username)
	}
	return c
}

// hash is stored, so it must not change.
func (c Chat) hash() uint64 {
	h := uint64(c.ID)
	if c.Username != "" {
		h = 14695981039346656037 // FNV-1a
		for i := range len(c.Username) {
			h = (h ^ uint64(c.Username[i])) * 1099511628211
		}
	}
	// The finalizer of SplitMix64: all bits depend on all.
	h += 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
