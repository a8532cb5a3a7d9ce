package session

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"

	"github.com/tgfleet/tgfleet/errors"
)

// Limits of a token's form, as the Bot API server itself checks them
// (tdlib/telegram-bot-api, ClientManager::send).
const (
	maxTokenLen = 80
	maxBotID    = 1<<54 - 1
)

// Token is a bot's token that never shows its secret by accident. In every
// fmt verb, in slog, in JSON and in any other text form it is "123456:***":
// the bot's id, which is public, and three stars. [Token.Reveal] is the one
// way to the secret.
//
// The zero Token is no token: it prints as "***" and reveals "". A Token is
// immutable and safe for concurrent use. Compare with [Token.Equal]; == does
// not compile, on purpose.
type Token struct {
	id int64
	// secret is a func since printers that walk unexported fields (fmt of an
	// outer struct, spew, debuggers' dumps) can't look inside one.
	secret func() string
}

// ParseToken checks the form of a token, "<bot id>:<secret>", by the rules of
// the Bot API server. It does not ask Telegram whether the token is valid.
// The error is of kind [errors.InvalidToken] and repeats no part of text.
//
// White space around the token is not removed: who reads tokens from people
// should trim them first.
func ParseToken(text string) (Token, error) {
	id, reason := checkToken(text)
	if reason != "" {
		return Token{}, &errors.Error{
			Kind:     errors.InvalidToken,
			Op:       "parse token",
			Err:      errors.New(reason),
			Delivery: errors.NotDelivered,
		}
	}
	text = strings.Clone(text) // don't keep a larger text alive
	return Token{id: id, secret: func() string { return text }}, nil
}

// checkToken returns the bot's id, or what is wrong in words that hold no
// part of the token.
func checkToken(text string) (id int64, reason string) {
	switch {
	case text == "":
		return 0, "empty"
	case len(text) > maxTokenLen:
		return 0, "longer than 80 characters"
	}
	digits, secret, found := strings.Cut(text, ":")
	switch {
	case !found:
		return 0, "no colon between bot id and secret"
	case secret == "":
		return 0, "no secret after the colon"
	case digits == "" || digits[0] == '0':
		return 0, "bot id is missing or starts with 0"
	}
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return 0, "bot id is not a number"
		}
	}
	for i := range len(secret) {
		// The server refuses '/' and a second ':'. Today's secrets are of
		// [A-Za-z0-9_-], which is not promised; but nothing that needs
		// escaping in a URL, or is no printable ASCII, has ever been one.
		c := secret[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`/:?#%"<>\^{}|`+"`", c) >= 0 {
			return 0, "secret has a character that no token has"
		}
	}
	id, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || id > maxBotID {
		return 0, "bot id is out of range"
	}
	return id, ""
}

// ID returns the bot's id, which is also its user id. The zero Token has 0.
func (t Token) ID() int64 { return t.id }

// IsZero reports whether t is the zero Token.
func (t Token) IsZero() bool { return t.secret == nil }

// Reveal returns the token as Telegram knows it. Hand it to what must have it
// and to nothing that prints.
func (t Token) Reveal() string {
	if t.secret == nil {
		return ""
	}
	return t.secret()
}

// Equal reports whether t and u are the same token, in constant time for
// tokens of one length.
func (t Token) Equal(u Token) bool {
	return subtle.ConstantTimeCompare([]byte(t.Reveal()), []byte(u.Reveal())) == 1
}

// String returns "123456:***".
func (t Token) String() string {
	if t.IsZero() {
		return "***"
	}
	return maskedToken(t.id)
}

func maskedToken(id int64) string { return strconv.FormatInt(id, 10) + ":***" }

// GoString returns what String does, for %#v.
func (t Token) GoString() string { return t.String() }

// Format prints what String returns, whatever the verb and flags; %q quotes it.
func (t Token) Format(f fmt.State, verb rune) {
	if verb == 'q' {
		_, _ = io.WriteString(f, strconv.Quote(t.String()))
		return
	}
	_, _ = io.WriteString(f, t.String())
}

// LogValue makes slog write what String returns.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText returns what String returns. A token does not survive a round
// trip through text: who stores tokens seals [Token.Reveal].
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// MarshalJSON returns what String returns, as a JSON string.
func (t Token) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }
