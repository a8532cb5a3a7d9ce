package session

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/breaker"
	"github.com/tgfleet/tgfleet/errors"
)

// BreakerConfig configures the circuit breakers of a [Guard]. Its zero value is
// a good one.
type BreakerConfig struct {
	// Tenant configures every bot's breaker. Its zero value opens after five
	// failures in a row, for a minute each time, and closes after two probes
	// that succeed. Classify, RetryAfter and OnStateChange must be nil: what counts
	// for whom is said at [Guard].
	Tenant breaker.Config
	// Platform configures the breaker of all bots together. Its zero value
	// opens after ten of the platform's failures in a row, when half of at
	// least twenty calls within 10 s are such, or when half of the active bots
	// wait for longer than 7 s; for 5 s, growing to 30 s. The first success
	// closes it.
	Platform breaker.Config
	// MaxTenants bounds how many bots are remembered; see
	// [breaker.GroupConfig]. 0 means 131,072.
	MaxTenants int

	// OnTenant hears of every change of a bot's breaker, and OnPlatform of the
	// platform's, on the goroutine of a call, which waits for it. Nil hears
	// nothing; what opens and closes is logged in any case.
	OnTenant   func(key string, c breaker.Change)
	OnPlatform func(c breaker.Change)
	// Logger hears of what opens and closes. Nil discards.
	Logger *slog.Logger
}

// breakers stop calls to what fails: one breaker for each bot, since one that
// is broken fails on each call, and one for the platform, since in an outage
// all of them fail and none is to blame. A bot's state is kept by its key, so it
// outlives the bot.
type breakers struct {
	tenants  *breaker.Group[string]
	platform *breaker.Breaker
	facts    *attribution
	open     atomic.Int64 // how many are open
	log      *slog.Logger
}

// newBreakers returns breakers that are all closed. The error names every bad
// field of cfg.
func newBreakers(cfg BreakerConfig, facts *attribution) (*breakers, error) {
	var bad []error
	for _, c := range []struct {
		name string
		cfg  *breaker.Config
	}{{"Tenant", &cfg.Tenant}, {"Platform", &cfg.Platform}} {
		if c.cfg.Classify != nil || c.cfg.RetryAfter != nil || c.cfg.OnStateChange != nil {
			bad = append(bad, errors.New("field "+c.name+": Classify, RetryAfter and OnStateChange can't be set"))
		}
		c.cfg.Classify = judge
		c.cfg.RetryAfter = errors.RetryAfter
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	b := &breakers{log: cfg.Logger, facts: facts}
	b.facts.known = func() int { return b.tenants.Stats().Keys }
	platform := platformDefaults(cfg.Platform)
	orElse(&cfg.Tenant.OpenTime, time.Minute)
	orElse(&cfg.Tenant.MaxOpenTime, cfg.Tenant.OpenTime)
	platform.RetryAfter = upTo(platform.MaxOpenTime)
	cfg.Tenant.RetryAfter = upTo(cfg.Tenant.MaxOpenTime)
	platform.Logger, cfg.Tenant.Logger = cfg.Logger, cfg.Logger
	platform.OnStateChange = func(c breaker.Change) {
		b.changed("", c)
		if cfg.OnPlatform != nil {
			cfg.OnPlatform(c)
		}
	}
	var err error
	if b.platform, err = breaker.New(platform); err != nil {
		bad = append(bad, err)
	}
	b.tenants, err = breaker.NewGroup(breaker.GroupConfig[string]{
		Breaker: cfg.Tenant,
		MaxKeys: cfg.MaxTenants,
		OnStateChange: func(key string, c breaker.Change) {
			b.changed(key, c)
			if cfg.OnTenant != nil {
				cfg.OnTenant(key, c)
			}
		},
	})
	if err != nil {
		bad = append(bad, err)
	}
	if len(bad) > 0 {
		return nil, &errors.Error{Kind: errors.Internal, Op: "configure breakers", Err: errors.Join(bad...)}
	}
	return b, nil
}

// platformDefaults fills in what is zero. That nothing is looked at can be said
// with negative numbers.
func platformDefaults(c breaker.Config) breaker.Config {
	orElse(&c.ConsecutiveFailures, 10)
	orElse(&c.FailureRate, 0.5)
	orElse(&c.Successes, 1)
	if c.Window == 0 && c.WindowCalls == 0 {
		c.Window = 10 * time.Second
	}
	orElse(&c.OpenTime, 5*time.Second)
	orElse(&c.MaxOpenTime, 6*c.OpenTime)
	orElse(&c.Probes, 3)
	orElse(&c.ProbeTimeout, 5*time.Second) // one that hangs must not keep all others waiting
	return c
}

// upTo returns what an error asks for, as far as that can be believed: one
// answer must not keep everybody away for a day.
func upTo(most time.Duration) func(error) time.Duration {
	return func(err error) time.Duration { return min(errors.RetryAfter(err), most) }
}

// judge reads the verdict that conclude has made.
func judge(_ context.Context, err error) breaker.Verdict {
	switch err {
	case nil:
		return breaker.Success
	case errNothing:
		return breaker.Ignore
	}
	return breaker.Failure
}

// errNothing stands for a result that says nothing of the callee.
var errNothing = errors.New("says nothing")

// changed keeps count of what is open.
func (b *breakers) changed(key string, c breaker.Change) {
	if c.Watched {
		return
	}
	refuses := func(s breaker.State) bool { return s == breaker.Open || s == breaker.ForcedOpen }
	switch {
	case refuses(c.To) && !refuses(c.From):
		b.open.Add(1)
	case refuses(c.From) && !refuses(c.To):
		b.open.Add(-1)
	}
	level := slog.LevelInfo
	if c.To == breaker.Open && c.Reason != breaker.ReasonProbeFailed {
		level = slog.LevelWarn
	}
	whose := slog.String("key", key)
	if key == "" {
		whose = slog.Bool("platform", true)
	}
	b.log.LogAttrs(context.Background(), level, "circuit breaker", whose,
		slog.String("from", c.From.String()), slog.String("to", c.To.String()),
		slog.String("reason", c.Reason.String()), slog.Duration("open_for", c.OpenFor))
}

// passage is a call's way through the breakers.
type passage struct {
	breakers      *breakers
	call          *Call
	platform, own breaker.Permit
	open          bool // it passed the platform's open breaker
	finding       bool // it finds out whether a bot works, and passes the bot's breaker
	start         time.Time
}

// begin lets a call pass, or refuses it. The passage must be ended.
func (b *breakers) begin(ctx context.Context, call *Call) (p passage, err error) {
	p = passage{breakers: b, call: call, finding: findsOut(ctx), start: b.clock()}
	if b.facts.overdue(p.start) {
		b.tooSlow()
	}
	var refusal error
	if p.platform, refusal = b.platform.Allow(); refusal != nil {
		if !b.passesOpen(call.Key, p.start) {
			return p, refusedBy(call, errors.ScopeAll, refusal)
		}
		p.open = true
	}
	if !p.finding {
		if p.own, err = b.tenants.Allow(call.Key); err != nil {
			p.platform.Cancel()
			return p, refusedBy(call, errors.ScopeTenant, err)
		}
	}
	if call.slow {
		p.platform.Pause()
		p.own.Pause()
	} else {
		b.facts.begin(&call.node, call.Key, p.start)
	}
	return p, nil
}

// cancel ends a passage that was not ended, after a panic.
func (p *passage) cancel() {
	if p.call.node.listed {
		p.breakers.facts.finish(&p.call.node, p.breakers.clock(), false)
	}
	p.platform.Cancel()
	p.own.Cancel()
}

// end tells the breakers of a call's outcome.
func (p *passage) end(ctx context.Context, err error) {
	b := p.breakers
	ofTenant, ofPlatform := b.conclude(ctx, p.call.Key, p.start, err)
	if p.call.node.listed && b.facts.finish(&p.call.node, b.clock(), ofPlatform == nil) {
		b.tooSlow()
	}
	p.platform.Done(ctx, ofPlatform)
	if ofPlatform == nil && b.open.Load() > 0 {
		b.works(ctx, p.open)
	}
	p.own.Done(ctx, ofTenant)
	if p.finding && err == nil {
		b.tenants.Reset(p.call.Key)
	}
}

// passesOpen reports whether a bot's call passes the platform's open breaker.
// The breaker is open by the failures of others, so the call of an innocent bot
// is the best probe there is.
func (b *breakers) passesOpen(tenant string, now time.Time) bool {
	return b.platform.State() != breaker.ForcedOpen && b.facts.innocent(tenant, now)
}

// tooSlow opens the platform's breaker, because most bots wait for long.
func (b *breakers) tooSlow() {
	if b.platform.State() == breaker.Closed {
		b.platform.Trip(0)
	}
}

// works is called after an answer while a breaker is open. The answer to a call
// that passed the platform's open breaker is a probe's.
func (b *breakers) works(ctx context.Context, passed bool) {
	if passed {
		b.platform.ProbeNow()
		if p, err := b.platform.Allow(); err == nil {
			p.Done(ctx, nil)
		}
	}
	if b.platform.State() == breaker.Closed {
		b.facts.notSlow()
	}
}

// unsure reports whether the platform or a bot is not known to work, so that a
// long poll should ask first: its own answer would come too late to tell.
func (b *breakers) unsure(tenant string) bool {
	return !passes(b.platform.State()) || !passes(b.tenants.State(tenant))
}

// polled tells the breakers of a long poll's outcome. A poll holds no permit
// while it waits for updates, and takes no probe's place.
func (b *breakers) polled(ctx context.Context, tenant string, start time.Time, err error) {
	ofTenant, ofPlatform := b.conclude(ctx, tenant, start, err)
	if p, err := b.platform.Allow(); err == nil {
		p.Done(ctx, ofPlatform)
	}
	if p, err := b.tenants.Allow(tenant); err == nil {
		p.Done(ctx, ofTenant)
	}
}

// passes reports whether a breaker lets all calls pass.
func passes(s breaker.State) bool {
	return s == breaker.Closed || s == breaker.Disabled || s == breaker.WatchOnly
}

func (b *breakers) clock() time.Time { return b.facts.clock() }

// refuses returns the error of a call that would be refused for some time to
// come, without asking for leave.
func (b *breakers) refuses(ctx context.Context, call *Call) error {
	if b.open.Load() == 0 {
		return nil
	}
	if s := b.platform.State(); s == breaker.ForcedOpen || s == breaker.Open {
		if d := b.platform.RemainingDelay(); s == breaker.ForcedOpen || d > 0 && !b.passesOpen(call.Key, b.clock()) {
			return refusedBy(call, errors.ScopeAll, &breaker.OpenError{State: s, RetryAfter: d})
		}
	}
	if findsOut(ctx) {
		return nil
	}
	if s := b.tenants.State(call.Key); s == breaker.ForcedOpen || s == breaker.Open {
		if d := b.tenants.RemainingDelay(call.Key); d > 0 || s == breaker.ForcedOpen {
			return refusedBy(call, errors.ScopeTenant, &breaker.OpenError{State: s, RetryAfter: d})
		}
	}
	return nil
}

func refusedBy(call *Call, scope errors.Scope, err error) error {
	e := &errors.Error{
		Kind: errors.BreakerOpen, Op: call.Method, Key: call.Key, Scope: scope, Delivery: errors.NotDelivered, Err: err,
	}
	if open, ok := errors.AsType[*breaker.OpenError](err); ok {
		e.RetryAfter = open.RetryAfter
		if open.State == breaker.HalfOpen {
			e.RetryAfter = halfOpenWait
		}
	}
	return e
}

// conclude says what an outcome counts as for the bot's breaker and for the
// platform's: nil for a success, errNothing, or the failure.
func (b *breakers) conclude(ctx context.Context, key string, start time.Time, err error) (tenant, platform error) {
	kind := errors.KindOf(err)
	e, _ := errors.AsType[*errors.Error](err)
	answered := err == nil || e != nil && e.Code != 0
	switch {
	case ctx.Err() != nil && !answered && !(errors.Is(ctx.Err(), context.DeadlineExceeded) && b.clock().Sub(start) >= longEnough):
		return errNothing, errNothing // the caller gave up
	case kind == errors.Unauthorized, kind == errors.LoggedOut:
		b.facts.answered(key)
		return err, nil
	case kind == errors.RateLimited, kind == errors.Conflict && answered, kind == errors.InvalidToken && answered:
		// "Not Found" is a wrong URL of the API more often than a token.
		b.facts.answered(key)
		return errNothing, nil
	case kind.Fault() == errors.FaultPlatform:
		switch b.facts.ofFailure(key, start, b.clock()) {
		case errors.ScopeTenant:
			return err, errNothing
		case errors.ScopeAll:
			return errNothing, err
		}
		return errNothing, errNothing
	case !answered:
		return errNothing, errNothing
	}
	b.facts.answered(key)
	return nil, nil
}

const (
	// longEnough is how long a call must have lasted for its silence to say
	// something: nearly all are answered within a second.
	longEnough = 2 * time.Second
	// halfOpenWait is what a caller is told who came while others probe.
	halfOpenWait = time.Second
)

type findsOutKey struct{}

// findingOut marks the calls of a context as ones that find out whether a bot
// works.
func findingOut(ctx context.Context) context.Context {
	return context.WithValue(ctx, findsOutKey{}, true)
}

func findsOut(ctx context.Context) bool {
	marked, _ := ctx.Value(findsOutKey{}).(bool)
	return marked
}
