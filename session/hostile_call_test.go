package session_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/retry"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/internal/wiretest"
)

// hostileCall is a combination of a row, a protocol and a method, with guard or
// without.
type hostileCall struct {
	row      hostileRow
	protocol wiretest.Protocol
	method   hostileMethod
	guard    bool

	mu       sync.Mutex
	failed   map[string]int
	examples map[string]string
}

func (c *hostileCall) String() string {
	guard := "without guard"
	if c.guard {
		guard = "with guard"
	}
	return fmt.Sprintf("%s, %s, %s", c.protocol, strings.Join(c.method.names, " or "), guard)
}

const (
	// hostileBound is longer than any call may take.
	hostileBound = 15 * time.Second
	// hostileRequests is more than the attempts of a call can need, where net/http
	// repeats the request of an attempt once or twice.
	hostileRequests = 16
)

// hostileOutcome is how a call ended.
type hostileOutcome struct {
	err      error
	executed int
	arrived  int
	took     time.Duration
	stalled  bool  // the machine was too busy to judge by time
	broken   error // of the test itself
}

func (o *hostileOutcome) String() string {
	delivery := errors.DeliveryUnknown
	if e, ok := errors.AsType[*errors.Error](o.err); ok {
		delivery = e.Delivery
	}
	return fmt.Sprintf("kind %s, delivery %d, executed %d, requests %d, %v, error: %v",
		errors.KindOf(o.err), delivery, o.executed, o.arrived, o.took.Round(time.Millisecond), o.err)
}

// The failures that are counted.
const (
	executedTwice       = "executed twice"
	wronglyNotDelivered = "executed and called NotDelivered"
)

// failures returns what the outcome of a call violates.
func (o *hostileOutcome) failures(c *hostileCall) []string {
	if o.broken != nil {
		return []string{"the test failed: " + o.broken.Error()}
	}
	var all []string
	fails := func(violated bool, text string, args ...any) {
		if violated {
			all = append(all, fmt.Sprintf(text, args...))
		}
	}
	row := c.row
	e, typed := errors.AsType[*errors.Error](o.err)
	safe := errors.SafeToRepeat(o.err)
	fails(o.executed > 1 && !c.method.repeatable, executedTwice)
	fails(o.executed > 0 && o.err != nil && safe, wronglyNotDelivered)
	fails(o.executed == 0 && o.err == nil, "success without execution")
	fails(o.took > hostileBound, "not ended in time")
	fails(o.arrived > hostileRequests, "repeated without bound")
	fails(o.err != nil && !typed, "an error that is no *errors.Error")
	fails(row.succeeds && !o.stalled && o.err != nil, "no success")

	certain := row.certain && !(row.partly && c.method.several)
	// On a busy machine a short bound also ends attempts that go well.
	fair := !row.short || !o.stalled
	fails(certain && fair && o.err != nil && !safe, "not executed for certain, and not called so")
	mayRepeat := certain || c.method.repeatable
	recovers := row.recovers && !(row.dead && c.protocol == wiretest.HTTP2)
	fails(recovers && fair && c.guard && mayRepeat && o.err != nil, "not repeated by the guard until it succeeded")
	if e == nil {
		return all
	}
	switch {
	case row.anyKind:
	case row.kind != errors.None:
		fails(e.Kind != row.kind, "kind %v instead of the answer's %v", e.Kind, row.kind)
		fails(e.RetryAfter != row.retryAfter, "RetryAfter %v instead of %v", e.RetryAfter, row.retryAfter)
		fails(e.MigrateTo != row.migrateTo, "MigrateTo %d instead of %d", e.MigrateTo, row.migrateTo)
		fails(row.partly && c.method.several && e.Delivery != errors.MaybeDelivered, "delivery %d of several effects", e.Delivery)
	case !c.method.repeatable && !safe:
		fails(e.Kind != errors.OutcomeUnknown, "kind %v instead of outcome_unknown without an answer", e.Kind)
	default:
		fails(e.Kind == errors.OutcomeUnknown, "kind outcome_unknown of a call that is certain or repeatable")
	}
	return all
}

// run makes one call, with a server, a session and a guard of its own.
func (c *hostileCall) run(n int) (o hostileOutcome) {
	server, err := c.start()
	if err != nil {
		return hostileOutcome{broken: err}
	}
	defer server.Close()
	cfg := c.config(server)
	if c.row.proxy != nil {
		proxy, err := wiretest.Start(wiretest.HTTP1, c.row.proxy...)
		if err != nil {
			return hostileOutcome{broken: err}
		}
		defer proxy.Close()
		cfg.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: proxy.Address()})
	}
	if c.guard {
		guard, err := session.NewGuard(hostileGuard(server))
		if err != nil {
			return hostileOutcome{broken: err}
		}
		defer guard.Close()
		cfg.Guard = guard
	}
	s, err := session.New(cfg)
	if err != nil {
		return hostileOutcome{broken: err}
	}
	client := s.Client("shop")
	if c.row.first != nil {
		if _, err := c.call(client, "getMe", 1, 0, 20*time.Second); err != nil {
			o.broken = fmt.Errorf("first call: %w", err)
		}
		server.Add(c.scripts()...)
		if c.row.idle != (wiretest.Fault{}) {
			server.FailIdle(c.row.idle, c.row.idleExecutes)
			time.Sleep(hostilePauses[n%len(hostilePauses)])
		}
	}
	// Closing the server's connections ends a call that hangs.
	watchdog := time.AfterFunc(hostileBound, server.Close)
	stalls, begin := hostileStalls.Load(), time.Now()
	if o.broken == nil {
		_, o.err = c.call(client, c.method.names[n%len(c.method.names)], 2, c.method.upload, 0)
	}
	o.took = time.Since(begin)
	o.stalled = hostileStalls.Load() != stalls
	watchdog.Stop()
	if err := s.Close(context.Background()); err != nil {
		o.broken = err
	}
	server.Close()
	o.executed, o.arrived = server.Executed(wiretest.ID(2)), server.Arrived()
	return o
}

// hostilePauses lie between the end of an idle connection and the next call.
var hostilePauses = []time.Duration{0, 20 * time.Microsecond, 100 * time.Microsecond, 500 * time.Microsecond, 2 * time.Millisecond}

// scripts returns the scripts of the call's requests.
func (c *hostileCall) scripts() []wiretest.Script {
	scripts := slices.Clone(c.row.scripts)
	if c.row.partly {
		for i := range scripts {
			scripts[i].NotExecuted = !c.method.several
		}
	}
	return scripts
}

// start starts the server.
func (c *hostileCall) start() (*wiretest.Server, error) {
	switch {
	case c.row.refused:
		return wiretest.Reserve(c.protocol, c.scripts()...)
	case c.row.first != nil:
		return wiretest.Start(c.protocol, *c.row.first)
	}
	return wiretest.Start(c.protocol, c.scripts()...)
}

// hostileTLS returns a configuration for each protocol, since each keeps the TLS
// sessions of its servers.
var hostileTLS = sync.OnceValue(func() map[wiretest.Protocol]*tls.Config {
	return map[wiretest.Protocol]*tls.Config{wiretest.HTTP1TLS: wiretest.ClientTLS(), wiretest.HTTP2: wiretest.ClientTLS()}
})

// config configures the session. The bounds are long, except in short rows.
func (c *hostileCall) config(server *wiretest.Server) session.Config {
	cfg := session.Config{
		APIURL:           server.URL(),
		TLS:              hostileTLS()[c.protocol],
		Proxy:            func(*http.Request) (*url.URL, error) { return nil, nil },
		Timeout:          20 * time.Second,
		UploadTimeout:    20 * time.Second,
		FirstByteTimeout: 20 * time.Second,
	}
	if c.row.short {
		cfg.Timeout, cfg.UploadTimeout, cfg.FirstByteTimeout = 1500*time.Millisecond, 4*time.Second, time.Second
		cfg.TLSHandshakeTimeout = time.Second
	}
	return cfg
}

// hostileGuard configures a guard that repeats at once and holds nothing back.
func hostileGuard(server *wiretest.Server) session.GuardConfig {
	return session.GuardConfig{
		Limit: session.LimitConfig{Default: session.ReactiveLimits(), ColdStarts: []ratelimit.Limit{}},
		Retry: session.RetryConfig{
			Policy: retry.Config{Initial: time.Millisecond, Max: 2 * time.Millisecond, Jitter: retry.None},
			OnRetry: func(context.Context, *session.Call, retry.Attempt) {
				_ = server.Listen() // of a refused row; the next attempt shows an error
			},
		},
	}
}

// hostileFile returns the content of uploads.
var hostileFile = sync.OnceValue(func() string { return strings.Repeat("x", 8<<20) })

// call calls a method, with a file of upload bytes if upload is not 0. A timeout
// of 0 means that of the session.
func (c *hostileCall) call(client session.Client, method string, id, upload int, timeout time.Duration) ([]byte, error) {
	params := map[string]any{"chat_id": int64(7), "text": wiretest.ID(id)}
	if upload > 0 {
		params["document"] = gotgbot.InputFileByReader("a.bin", strings.NewReader(hostileFile()[:upload]))
	}
	return client.RequestWithContext(context.Background(), canary, method, params, &gotgbot.RequestOpts{Timeout: timeout})
}
