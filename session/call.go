package session

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

type repeatableKey struct{}

// Repeatable marks the calls of a context as ones that may be carried out
// twice, whatever their methods are: a message that may come twice rather than
// not at all.
func Repeatable(ctx context.Context) context.Context {
	return context.WithValue(ctx, repeatableKey{}, true)
}

func isRepeatable(ctx context.Context) bool {
	marked, _ := ctx.Value(repeatableKey{}).(bool)
	return marked
}

// Call is one call of a Bot API method on its way through the chain. Its body
// was encoded before the chain began, so no middleware can change what is
// sent. In fmt, slog and JSON a Call is its method, key and attempt, never its
// parameters, which hold users' texts and secrets, and never its token.
type Call struct {
	// Key is the tenant or bot, as given to [Session.Client].
	Key string
	// Method is the Bot API method, such as "sendMessage", as the caller
	// spelled it; the server ignores case.
	Method string
	// Chat is the parameter chat_id; zero where the method has none.
	Chat ChatID
	// Params are the caller's parameters, overrides included. Read only.
	Params map[string]any
	// Upload says that files are sent with the call.
	Upload bool
	// Attempt counts from 1.
	Attempt int

	token   Token
	api     endpoint
	body    *body
	timeout time.Duration // of one attempt; 0 is none
	ticket  uint64        // its place in the limiter's queue, once it had one

	repeatable bool // the caller says so
	poll       bool // its answer comes late on purpose
	slow       bool // the server moves a file before it answers
	ownTimeout bool // the caller has bounded it

	node     callNode      // its place among the calls under way
	waited   time.Duration // for the attempt's turn
	received int64         // bytes of the answer
}

// BotID returns the id of the bot that makes the call, which is the public part
// of its token.
func (c *Call) BotID() int64 { return c.token.ID() }

// Rewindable reports whether the call's body can be sent more than once. It is
// false for an upload from a reader that can't seek: the first attempt eats it.
func (c *Call) Rewindable() bool { return c.body.rewindable() }

// Repeatable reports whether the call may be carried out twice: its method does
// the same then as once, or the caller has said so with [Repeatable].
func (c *Call) Repeatable() bool { return c.repeatable || effectOf(c.Method) != once }

// Next returns a copy of the call for the next attempt.
func (c *Call) Next() *Call {
	next := *c
	next.node, next.waited, next.received = callNode{}, 0, 0
	next.Attempt++
	return &next
}

// ask returns a call of the same bot that has no parameters.
func (c *Call) ask(method string) *Call {
	return &Call{Key: c.Key, Method: method, Attempt: 1, token: c.token, api: c.api, body: emptyBody(), timeout: askTimeout}
}

// askTimeout bounds a call that is only to find out whether there is an answer.
const askTimeout = 10 * time.Second

// The methods below have value receivers, so that a Call prints the same by
// value, by pointer and inside other values. Without them fmt and encoding/json
// would show Params. There is no LogValue: slog would call it on a nil *Call,
// where it panics, while fmt and encoding/json print a nil *Call as "<nil>" and
// null on their own.

// String returns the method, key and attempt.
func (c Call) String() string {
	return fmt.Sprintf("%s for %q (attempt %d)", c.Method, c.Key, c.Attempt)
}

// Format prints what String returns, whatever the verb.
func (c Call) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// MarshalJSON returns an object of the method, key and attempt.
func (c Call) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Method  string `json:"method"`
		Key     string `json:"key"`
		Attempt int    `json:"attempt"`
	}{c.Method, c.Key, c.Attempt})
}

// MarshalText returns what String returns.
func (c Call) MarshalText() ([]byte, error) { return []byte(c.String()), nil }
