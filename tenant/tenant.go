package tenant

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// Tenant is an open bot, as a [Lease] lends it. It prints as its id, and its
// Bot as one without a secret.
type Tenant struct {
	// Bot sends the tenant's calls. Its Token is masked; its methods work as
	// ever while the lease lasts, and fail with [errors.Closed] once the
	// instance is closed.
	Bot *gotgbot.Bot
	// Record is the stored record as it was when the bot was opened. Read
	// only. Changes of the token, the status or the owner end the instance;
	// others, such as of limits and metadata, are not seen here.
	Record Record

	closed   atomic.Bool
	reported atomic.Bool // a 401 was reported
	revoked  atomic.Bool // calls fail here: the token is being confirmed, or the tenant quarantined
	// formReported is when a 404 or 421 was reported last, in ns since 1970.
	formReported atomic.Int64
	closers      []func(context.Context) error

	mu     sync.RWMutex // guards values
	values map[any]any
}

// ID returns the tenant's id.
func (t *Tenant) ID() string { return t.Record.ID }

// SetValue attaches a value to the instance, for a [Hook] that opens a
// resource which callbacks want. Like a context's, keys should be of a type
// of one's own. It is safe for concurrent use.
func (t *Tenant) SetValue(key, value any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.values == nil {
		t.values = make(map[any]any, 1)
	}
	t.values[key] = value
}

// Value returns what SetValue attached, or nil.
func (t *Tenant) Value(key any) any {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.values[key]
}

// String returns the tenant's id.
func (t *Tenant) String() string {
	if t == nil {
		return "<nil>"
	}
	return fmt.Sprintf("tenant %q", t.Record.ID)
}

// Format prints what String returns, whatever the verb.
func (t *Tenant) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// LogValue makes slog write the tenant's id.
func (t *Tenant) LogValue() slog.Value {
	if t == nil {
		return slog.Value{}
	}
	return slog.StringValue(t.Record.ID)
}

// client stands between a Bot and its session's client. It ends with the instance,
// and reports answers that reject the token. While the token is being confirmed it
// fails the calls of callers that still hold a lease.
type client struct {
	session.Client
	tenant *Tenant
	pool   *Pool
}

var _ gotgbot.BotClient = (*client)(nil)

// Unwrap returns the session's client.
func (c *client) Unwrap() gotgbot.BotClient { return c.Client }

func (c *client) RequestWithContext(ctx context.Context, token, method string, params map[string]any, opts *gotgbot.RequestOpts) (json.RawMessage, error) {
	t := c.tenant
	if t.closed.Load() {
		return nil, fail(method, t.ID(), errors.Closed, errors.New("the bot was closed; its lease is over"))
	}
	if t.revoked.Load() {
		return nil, c.pool.refusal(method, t)
	}
	result, err := c.Client.RequestWithContext(ctx, token, method, params, opts)
	switch {
	case err == nil:
	case errors.Is(err, errors.Unauthorized):
		if t.reported.CompareAndSwap(false, true) {
			c.pool.rejected(ctx, t, err)
		}
	case rejectsForm(err):
		if last, now := t.formReported.Load(), time.Now().UnixNano(); now-last >= int64(formReportEvery) && t.formReported.CompareAndSwap(last, now) {
			c.pool.formRejected(t, err)
		}
	}
	return result, err
}

// formReportEvery bounds how often a method that the server does not know has
// Telegram asked about the token.
const formReportEvery = time.Minute
