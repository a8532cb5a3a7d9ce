package inbox

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
)

// Pool lends tenants to handlers. [*tenant.Pool] is one. One that has its
// method Watch too has a tenant's updates handled as soon as it is resumed; for
// others there is [Workers.Resume].
type Pool interface {
	// Do calls f with the tenant, or returns why it can't: an error of kind
	// [errors.NotFound] where there is no such tenant, [errors.Suspended]
	// where it may not be used now.
	Do(ctx context.Context, id string, f func(ctx context.Context, t *tenant.Tenant) error) error
}

// WorkersConfig configures [Workers]. Its zero value is a good one. Negative
// values are errors.
type WorkersConfig struct {
	// Concurrency bounds how many handlers run at one time, and PerTenant how
	// many of them for one tenant, so that a slow or flooded bot holds up
	// nobody else's. The last quarter of the places goes to tenants that have
	// none yet, so a dozen of slow bots hold up nobody either. 0 means 256 and
	// 16.
	Concurrency, PerTenant int
	// HandlerTimeout is each handler's deadline, opening the bot included. 0
	// means 30 s.
	HandlerTimeout time.Duration
	// LeaseTTL is how long after a crash the updates it was at come again.
	// Leases are extended while handlers run, however long they do. A call of
	// the inbox may take a quarter of it, and 10 s at most. 0 means 30 s.
	LeaseTTL time.Duration
	// MaxAttempts is how often a failing update is tried before it becomes a
	// dead letter. An attempt that ends because the tenant or the service is
	// stopped, or because Telegram's limits are reached, does not count. One
	// that the process died in does, but an update is set aside for that alone
	// only after twice as many. 0 means 5.
	MaxAttempts int
	// Backoff returns how long to wait after the nth attempt has failed. An
	// error's RetryAfter is a floor under it. Nil doubles from 1 s up to 1 min,
	// each spread by half.
	Backoff func(attempt int) time.Duration
	// PollEvery is how often to ask an inbox that can't tell when there is
	// something new, and for what waits for a time. 0 means 1 s.
	PollEvery time.Duration
	// Logger hears of failures, by their kind and without their text, which
	// may have a user's in it. Nil discards.
	Logger *slog.Logger
}

func (c WorkersConfig) withDefaults() (WorkersConfig, []error) {
	var bad []error
	for _, f := range []struct {
		name  string
		value *int
		zero  int
	}{{"Concurrency", &c.Concurrency, 256}, {"PerTenant", &c.PerTenant, 16}, {"MaxAttempts", &c.MaxAttempts, 5}} {
		if *f.value < 0 {
			bad = append(bad, fmt.Errorf("%s is negative", f.name))
		}
		if *f.value == 0 {
			*f.value = f.zero
		}
	}
	for _, f := range []struct {
		name  string
		value *time.Duration
		zero  time.Duration
	}{{"HandlerTimeout", &c.HandlerTimeout, 30 * time.Second}, {"LeaseTTL", &c.LeaseTTL, 30 * time.Second}, {"PollEvery", &c.PollEvery, time.Second}} {
		if *f.value < 0 {
			bad = append(bad, fmt.Errorf("%s is negative", f.name))
		}
		if *f.value == 0 {
			*f.value = f.zero
		}
	}
	if c.Backoff == nil {
		c.Backoff = backoff
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, bad
}

// backoff doubles from 1 s to 1 min. The spread only adds.
func backoff(attempt int) time.Duration {
	d := time.Minute
	if attempt < 7 {
		d = min(d, time.Second<<max(attempt-1, 0))
	}
	return d + rand.N(d/2+1)
}

// Workers take updates out of an [Inbox] and hand them to a [Handler], with
// the tenant they are for. Chats are handled side by side and each in its
// order; tenants take turns.
//
// Several Workers may work on one inbox, in one process or in many. The
// methods are safe for concurrent use.
type Workers struct {
	cfg     WorkersConfig
	inbox   Inbox
	pool    Pool
	handler Handler
	log     *slog.Logger

	mu         sync.Mutex // guards what follows
	started    bool
	stopped    bool
	finished   []*job
	resumed    []string // tenants that can be had, not yet told the loop
	resumedAll bool
	hears      bool          // the loop runs
	notify     chan struct{} // tells the loop of finished and resumed ones

	drain   chan struct{} // closed by Stop: take no more
	halt    context.CancelCauseFunc
	ended   chan struct{} // closed when the loop has ended
	counts  workersCounts
	resumes atomic.Uint64 // calls of Resume
}

type workersCounts struct {
	running, overdue, paused                         atomic.Int64
	handled, retried, returned, buried, lost, panics atomic.Uint64
}

// WorkersStats are the figures of [Workers].
type WorkersStats struct {
	// Running counts handlers, now, and Overdue those of them that were seen,
	// by a look every third of a LeaseTTL, to run past their deadline.
	Running int `json:"running"`
	Overdue int `json:"overdue"`
	// Paused counts tenants that could not be had lately, such as suspended
	// ones, and are left alone for a while.
	Paused int `json:"paused"`
	// Handled counts updates that are done, Retried failures that are tried
	// again, Returned attempts that did not count, Buried those that became
	// dead letters, Lost those whose lease was lost while they were handled,
	// and Panics the handlers that panicked.
	Handled  uint64 `json:"handled"`
	Retried  uint64 `json:"retried"`
	Returned uint64 `json:"returned"`
	Buried   uint64 `json:"buried"`
	Lost     uint64 `json:"lost"`
	Panics   uint64 `json:"panics"`
}

// NewWorkers returns workers that do nothing before Start. The error names
// every bad field.
func NewWorkers(in Inbox, p Pool, h Handler, cfg WorkersConfig) (*Workers, error) {
	cfg, bad := cfg.withDefaults()
	if in == nil {
		bad = append(bad, errors.New("inbox is nil"))
	}
	if p == nil {
		bad = append(bad, errors.New("pool is nil"))
	}
	if isNil(h) {
		bad = append(bad, errors.New("handler is nil"))
	}
	if len(bad) > 0 {
		return nil, fail("configure workers", "", errors.Internal, errors.Join(bad...))
	}
	return &Workers{
		cfg: cfg, inbox: in, pool: p, handler: h, log: cfg.Logger,
		notify: make(chan struct{}, 1), drain: make(chan struct{}), ended: make(chan struct{}),
	}, nil
}

// Start begins to work and returns. Contexts of handlers derive from ctx: when
// it ends they end, and no more updates are taken. So let it outlive the signal
// that ends the process, which is for what calls Stop. Starting twice, or after
// Stop, is an error of kind [errors.Closed].
func (w *Workers) Start(ctx context.Context) error {
	w.mu.Lock()
	if w.started || w.stopped {
		w.mu.Unlock()
		return fail("start workers", "", errors.Closed, errors.New("they were started or stopped before"))
	}
	w.started, w.hears = true, true
	ctx, w.halt = context.WithCancelCause(ctx)
	w.mu.Unlock()
	l := newLoop(w, ctx)
	l.unwatch = func() {}
	if p, ok := w.pool.(watched); ok {
		l.unwatch = p.Watch(w.Resume) // which may call it at once
	}
	go l.run()
	return nil
}

// watched is what a [Pool] may be besides: one that tells when a tenant may
// have changed, and of all of them with "". [*tenant.Pool] is.
type watched interface {
	Watch(changed func(id string)) (stop func())
}

// Resume says that a tenant can be had again, such as one that was resumed, so
// that its updates are handled at once; "" says so of all. It is for pools that
// do not tell themselves: [*tenant.Pool] does. Without it a tenant that was
// suspended is tried again after some minutes at most. It returns at once, and
// is harmless where it is not true.
func (w *Workers) Resume(id string) {
	w.mu.Lock()
	w.resumes.Add(1)
	switch {
	case !w.hears:
	case id == "":
		w.resumedAll = true
	default:
		w.resumed = append(w.resumed, id)
	}
	w.mu.Unlock()
	select {
	case w.notify <- struct{}{}:
	default:
	}
}

// deaf takes note of no more tenants that are resumed.
func (l *loop) deaf() {
	l.unwatch()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hears, l.resumed = false, nil
}

// Stop takes no more updates, waits until the handlers that run have ended,
// and stores what became of theirs. When ctx ends first, the handlers' contexts
// end; what they leave undone goes back into the inbox, and ctx's error is
// returned. A handler that does not even then return is waited for no longer
// than 5 s, and its update comes again when its lease lapses.
//
// Stop may be called more than once, also at the same time, and without Start.
func (w *Workers) Stop(ctx context.Context) error {
	w.mu.Lock()
	started := w.started
	if !w.stopped {
		w.stopped = true
		close(w.drain)
	}
	w.mu.Unlock()
	if !started {
		return nil
	}
	select {
	case <-w.ended:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-w.ended: // both were so
		return nil
	default:
	}
	w.halt(errStopped)
	<-w.ended
	return fail("stop workers", "", errors.KindOf(ctx.Err()), context.Cause(ctx))
}

// Stats returns the figures of this moment.
func (w *Workers) Stats() WorkersStats {
	c := &w.counts
	return WorkersStats{
		Running: int(c.running.Load()), Overdue: int(c.overdue.Load()), Paused: int(c.paused.Load()), Handled: c.handled.Load(), Retried: c.retried.Load(),
		Returned: c.returned.Load(), Buried: c.buried.Load(), Lost: c.lost.Load(), Panics: c.panics.Load(),
	}
}

var errStopped = errors.New("the service is stopping")
