package session

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/breaker"
	"github.com/tgfleet/tgfleet/errors"
)

// BreakerConfig configures [Breakers]. Its zero value is a good one.
type BreakerConfig struct {
	// Tenant configures every bot's breaker. Its zero value opens after five
	// failures in a row, for a minute each time, and closes after two probes
	// that succeed. Classify, RetryAfter and OnStateChange must be nil: what counts
	// for whom is said at [Breakers].
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

	// attribution decides whose a failure is; nil makes one.
	attribution *attribution

	// OnTenant hears of every change of a bot's breaker, and OnPlatform of the
	// platform's, on the goroutine of a call, which waits for it. Nil hears
	// nothing; what opens and closes is logged in any case.
	OnTenant   func(key string, c breaker.Change)
	OnPlatform func(c breaker.Change)
	// Logger hears of what opens and closes. Nil discards.
	Logger *slog.Logger
}

// Breakers stop calls to what fails: one breaker for each bot, since one that
// is broken fails on each call, and one for the platform, since in an outage
// all of them fail and none is to blame. [Break] makes the middleware of it.
//
// What counts for which:
//
//   - An answer shows that the platform works, whatever it says, and a good
//     one, or one that finds fault with the call (400, 403), that the bot does.
//   - 401 and "logged out" are failures of the bot.
//   - A server error, a time-out, a broken connection or a bad reply is a
//     failure of the platform if a third of the active bots see it, three at
//     least, and no call of any bot was answered meanwhile. It is a failure of
//     the bot if its call before failed too.
//   - Calls that take longer than 7 s are a failure of the platform if they are
//     of half of the active bots. They are no failure of a bot.
//   - While the platform's breaker is open, a bot that has not failed for ten
//     minutes passes. If it is answered, the breaker closes.
//   - 404, 409 and 429 say nothing of the bot. A call that its caller gave up, or that
//     failed in this process, says nothing at all; one that had no answer by the
//     caller's deadline does, if it lasted 2 s or more.
//
// How long an upload takes is not looked at. A long poll asks getMe first
// while the platform or the bot is not known to work, since its own answer
// would come too late to tell.
//
// A bot's state is kept by its key, so it outlives the bot. Breakers are safe
// for concurrent use.
type Breakers struct {
	tenants  *breaker.Group[string]
	platform *breaker.Breaker
	facts    *attribution
	open     atomic.Int64 // how many are open
	log      *slog.Logger
}

// NewBreakers returns breakers that are all closed. The error names every bad
// field of cfg.
func NewBreakers(cfg BreakerConfig) (*Breakers, error) {
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
	b := &Breakers{log: cfg.Logger, facts: cfg.attribution}
	if b.facts == nil {
		b.facts = newAttribution(nil)
	}
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

// Tenant returns what a bot's breaker has counted, and Platform the platform's.
func (b *Breakers) Tenant(key string) breaker.Counts { return b.tenants.Counts(key) }

// Platform is described at [Breakers.Tenant].
func (b *Breakers) Platform() breaker.Counts { return b.platform.Counts() }

// Force moves a bot's breaker to a state, and ForcePlatform the platform's; see
// [breaker.Breaker.Force]. [breaker.Closed] lets calls pass again at once.
func (b *Breakers) Force(key string, s breaker.State) error { return b.tenants.Force(key, s) }

// ForcePlatform is described at [Breakers.Force]. Only [breaker.ForcedOpen] lets
// no bot ask how the platform is.
func (b *Breakers) ForcePlatform(s breaker.State) error { return b.platform.Force(s) }

// changed keeps count of what is open.
func (b *Breakers) changed(key string, c breaker.Change) {
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

// Break is the middleware that refuses calls to what fails. Place it after
// [Limit], so that a probe does not wait for its turn with the place of a probe
// in hand, and name the Breakers in [LimitConfig] too, so that what is refused
// anyway does not wait first. A refusal is an error of kind
// [errors.BreakerOpen]; nothing was sent.
//
// [Session.NewBot] passes its bot's breaker, since it is how one finds out
// whether a token works. If it does the breaker is closed.
func Break(b *Breakers) Middleware {
	return func(next Invoker) Invoker {
		return InvokerFunc(func(ctx context.Context, call *Call) (json.RawMessage, error) {
			if isLongPoll(call.Method) {
				return b.poll(ctx, call, next)
			}
			return b.invoke(ctx, call, next)
		})
	}
}

func (b *Breakers) invoke(ctx context.Context, call *Call, next Invoker) (json.RawMessage, error) {
	start := b.clock()
	if b.facts.overdue(start) {
		b.tooSlow()
	}
	platform, refusal := b.platform.Allow()
	if refusal != nil && !b.passesOpen(call.Key, start) {
		return nil, refusedBy(call, errors.ScopeAll, refusal)
	}
	defer platform.Cancel() // for a panic
	var own breaker.Permit
	finding := findsOut(ctx)
	if !finding {
		var err error
		if own, err = b.tenants.Allow(call.Key); err != nil {
			return nil, refusedBy(call, errors.ScopeTenant, err)
		}
		defer own.Cancel()
	}
	if call.slow {
		platform.Pause()
		own.Pause()
	} else {
		b.facts.begin(&call.node, call.Key, start)
		defer func() {
			if call.node.listed { // after a panic
				b.facts.finish(&call.node, b.clock(), false)
			}
		}()
	}
	result, err := next.Invoke(ctx, call)
	ofTenant, ofPlatform := b.conclude(ctx, call.Key, start, err)
	if call.node.listed && b.facts.finish(&call.node, b.clock(), ofPlatform == nil) {
		b.tooSlow()
	}
	platform.Done(ctx, ofPlatform)
	if ofPlatform == nil && b.open.Load() > 0 {
		b.works(ctx, refusal != nil)
	}
	own.Done(ctx, ofTenant)
	if finding && err == nil {
		b.tenants.Reset(call.Key)
	}
	return result, err
}

// passesOpen reports whether a bot's call passes the platform's open breaker.
// The breaker is open by the failures of others, so the call of an innocent bot
// is the best probe there is.
func (b *Breakers) passesOpen(tenant string, now time.Time) bool {
	return b.platform.State() != breaker.ForcedOpen && b.facts.innocent(tenant, now)
}

// tooSlow opens the platform's breaker, because most bots wait for long.
func (b *Breakers) tooSlow() {
	if b.platform.State() == breaker.Closed {
		b.platform.Trip(0)
	}
}

// works is called after an answer while a breaker is open. The answer to a call
// that passed the platform's open breaker is a probe's.
func (b *Breakers) works(ctx context.Context, passed bool) {
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

// poll is invoke for a long poll. It holds no permit while it waits for
// updates, and takes no probe's place: what it has learned is told at its end.
func (b *Breakers) poll(ctx context.Context, call *Call, next Invoker) (json.RawMessage, error) {
	if err := b.refuses(ctx, call); err != nil {
		return nil, err
	}
	if !passes(b.platform.State()) || !passes(b.tenants.State(call.Key)) {
		if _, err := b.invoke(ctx, call.ask("getMe"), next); err != nil {
			return nil, err
		}
	}
	start := b.clock()
	result, err := next.Invoke(ctx, call)
	ofTenant, ofPlatform := b.conclude(ctx, call.Key, start, err)
	if p, err := b.platform.Allow(); err == nil {
		p.Done(ctx, ofPlatform)
	}
	if p, err := b.tenants.Allow(call.Key); err == nil {
		p.Done(ctx, ofTenant)
	}
	return result, err
}

// passes reports whether a breaker lets all calls pass.
func passes(s breaker.State) bool {
	return s == breaker.Closed || s == breaker.Disabled || s == breaker.WatchOnly
}

func (b *Breakers) clock() time.Time { return b.facts.clock() }

// refuses returns the error of a call that would be refused for some time to
// come, without asking for leave.
func (b *Breakers) refuses(ctx context.Context, call *Call) error {
	if b == nil || b.open.Load() == 0 {
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
func (b *Breakers) conclude(ctx context.Context, key string, start time.Time, err error) (tenant, platform error) {
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
