package usage

import (
	"fmt"
	"strconv"
	"strings"
)

// Chat names a chat: by its number, or by the lower-case @username of a channel
// or supergroup. The zero Chat is none. It is comparable; a username and the
// number of the same chat are two, since only Telegram knows that they are one.
type Chat struct {
	ID       int64
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

// MarshalText returns what String does.
func (c Chat) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText returns.
func (c *Chat) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "" || strings.HasPrefix(s, "@") {
		*c = Chat{Username: s}
		return nil
	}
	id, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return fmt.Errorf("usage: %q is no chat", s)
	}
	*c = Chat{ID: id}
	return nil
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
