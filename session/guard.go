package session

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/tgfleet/tgfleet/breaker"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/ratelimit"
)

// GuardConfig configures a [Guard]. Its zero value is a good one.
type GuardConfig struct {
	// Retry, Limit and Break configure the parts.
	Retry RetryConfig
	Limit LimitConfig
	Break BreakerConfig
	// Owner returns the owner of a tenant, such as the customer that it belongs
	// to, and "" if it has none. Trouble of several tenants of one owner may be
	// their owner's doing, so it counts once where trouble is taken for
	// Telegram's. Owner is called for every call and must not block. Nil:
	// nobody has an owner, and every tenant counts as its own.
	Owner func(tenant string) string
	// Health hears of every attempt of a call, of calls that the guard holds
	// back and of the circuit breakers. Usage hears of the same calls. Attempts
	// of [Session.NewBot] are not among them, since they say nothing about the
	// tenant. Nil tells nobody.
	Health *health.Monitor
	Usage  *usage.Recorder
	// Logger is for the parts that have none. Nil discards.
	Logger *slog.Logger
}

// Guard stands between the bots and Telegram. It holds calls back so that
// Telegram need not refuse them, fairly among the bots; it stops calling what
// fails; and it makes a call again where that helps, and never so that a message
// comes twice.
//
//	guard, err := session.NewGuard(session.GuardConfig{})
//	...
//	defer guard.Close()
//	s, err := session.New(session.Config{Guard: guard})
//
// # Attribution
//
// A 429 freezes its method in its chat for as long as Telegram says. It freezes
// the tenant too if two of the tenant's chats are refused in a row, and all
// tenants if enough independent tenants are.
//
// A server error, a time-out, a broken connection or a bad reply counts against
// the tenant if its call before failed too, and against the platform if enough
// independent tenants fail and no call is answered meanwhile. Calls that take
// longer than 7 s count against the platform if half of the active tenants wait.
// 401 and "logged out" count against the tenant. Other answers show that the
// tenant and the platform work. A call that its caller gave up says nothing.
//
// Enough are a third of the active tenants, between 3 and 30, and all of a fleet
// that is smaller; tenants of one owner count once. A verdict about all is a
// guess: it lasts for 30 s at most, ends with the first success, and binds only
// tenants with trouble of their own in the last ten minutes. [Guard.Thaw] ends
// it by hand.
//
// A Guard is safe for concurrent use and may serve several sessions, which then
// share the limits. Close it after them.
type Guard struct {
	retries  *retrier
	limits   *limiter
	breakers *breakers
	watch    Observer // nil where nobody is told
	capacity capacity
}

// NewGuard returns a guard. The error names every bad field of cfg.
func NewGuard(cfg GuardConfig) (*Guard, error) {
	for _, log := range []**slog.Logger{&cfg.Retry.Logger, &cfg.Limit.Logger, &cfg.Break.Logger} {
		if *log == nil {
			*log = cfg.Logger
		}
	}
	if cfg.Health != nil {
		tellBreakers(&cfg.Break, cfg.Health)
	}
	var bad [3]error
	facts := newAttribution(cfg.Owner)
	orElse(&cfg.Limit.Concurrent, 1000)
	g := &Guard{
		watch:    watch(cfg.Health, cfg.Usage),
		capacity: capacity{total: cfg.Limit.Total, concurrent: cfg.Limit.Concurrent},
	}
	g.breakers, bad[0] = newBreakers(cfg.Break, facts)
	g.limits, bad[1] = newLimiter(cfg.Limit, facts)
	g.retries, bad[2] = newRetrier(cfg.Retry, g.limits)
	if err := errors.Join(bad[:]...); err != nil {
		if g.limits != nil {
			g.limits.scheduler.Close()
		}
		return nil, &errors.Error{Kind: errors.Internal, Op: "configure guard", Err: err}
	}
	return g, nil
}

// Middleware returns the guard as a part of a chain. Most callers want
// [Config.Guard] instead.
func (g *Guard) Middleware() Middleware {
	return func(next Invoker) Invoker {
		return InvokerFunc(func(ctx context.Context, call *Call) (json.RawMessage, error) {
			return g.invoke(ctx, call, next)
		})
	}
}

// invoke carries a call through the guard: it retries attempts, each of which
// waits for its turn, passes the breakers and is observed.
func (g *Guard) invoke(ctx context.Context, call *Call, next Invoker) (json.RawMessage, error) {
	if isLongPoll(call.Method) {
		return g.attempt(ctx, call, next) // its loop is its retry
	}
	return g.retries.invoke(ctx, call, func(ctx context.Context, call *Call) (json.RawMessage, error) {
		return g.attempt(ctx, call, next)
	})
}

// attempt waits for a call's turn and makes it. A call that the breakers refuse
// anyway does not wait. They are passed after the wait, so that a probe does not
// wait with the place of a probe in hand.
func (g *Guard) attempt(ctx context.Context, call *Call, next Invoker) (json.RawMessage, error) {
	start := g.breakers.clock()
	if err := g.breakers.refuses(ctx, call); err != nil {
		return nil, g.refused(ctx, call, start, err)
	}
	permit, err := g.limits.admit(ctx, call)
	if err != nil {
		return nil, g.refused(ctx, call, start, err)
	}
	defer permit.Release()
	call.waited = g.breakers.clock().Sub(start)
	start = start.Add(call.waited)
	var result json.RawMessage
	if isLongPoll(call.Method) {
		result, err = g.poll(ctx, call, next)
	} else {
		result, err = g.pass(ctx, call, next)
	}
	return result, g.limits.learn(ctx, call, permit.Began(), start, result, err)
}

// pass makes a call through the breakers.
func (g *Guard) pass(ctx context.Context, call *Call, next Invoker) (json.RawMessage, error) {
	p, err := g.breakers.begin(ctx, call)
	if err != nil {
		return nil, g.refused(ctx, call, p.start, err)
	}
	defer p.cancel()
	result, err := g.observed(ctx, call, next)
	p.end(ctx, err)
	return result, err
}

// poll makes a long poll, after a question where it is not known whether there
// would be an answer.
func (g *Guard) poll(ctx context.Context, call *Call, next Invoker) (json.RawMessage, error) {
	start := g.breakers.clock()
	if err := g.breakers.refuses(ctx, call); err != nil {
		return nil, g.refused(ctx, call, start, err)
	}
	if g.breakers.unsure(call.Key) {
		if _, err := g.pass(ctx, call.ask("getMe"), next); err != nil {
			return nil, err
		}
	}
	start = g.breakers.clock()
	result, err := g.observed(ctx, call, next)
	g.breakers.polled(ctx, call.Key, start, err)
	return result, err
}

// observed makes a call and tells of it.
func (g *Guard) observed(ctx context.Context, call *Call, next Invoker) (json.RawMessage, error) {
	if g.watch == nil {
		return next.Invoke(ctx, call)
	}
	start := time.Now()
	result, err := next.Invoke(ctx, call)
	g.watch.Observe(ctx, observation(call, start, err))
	return result, err
}

// refused tells of an attempt that the guard held back since start, and returns
// its error.
func (g *Guard) refused(ctx context.Context, call *Call, start time.Time, err error) error {
	switch errors.KindOf(err) {
	case errors.Throttled, errors.BreakerOpen:
		if g.watch != nil {
			g.watch.Observe(ctx, observation(call, start, err))
		}
	}
	return err
}

// SetTenant gives a tenant limits of its own, at once. Zero fields, and so zero
// Limits, mean the default.
func (g *Guard) SetTenant(tenant string, limits Limits) error {
	return g.limits.setTenant(tenant, limits)
}

// Warm records when a tenant was last called, by this process before a restart
// or by another replica. Within [LimitConfig].WarmFor of that it needs no cold
// start.
func (g *Guard) Warm(tenant string, used time.Time) { g.limits.scheduler.Warm(tenant, used) }

// GuardStats are a guard's figures at one moment.
type GuardStats struct {
	ratelimit.Stats
	// Platform is what the breaker of all tenants has counted.
	Platform breaker.Counts `json:"platform"`
	// Verdicts counts the decisions about whom trouble belongs to.
	Verdicts Verdicts `json:"verdicts"`
}

// Verdicts counts decisions since the guard was made; see [Guard].
type Verdicts struct {
	// RefusedChat, RefusedTenant and RefusedAll count 429s by the widest scope
	// that they belong to.
	RefusedChat   uint64 `json:"refused_chat"`
	RefusedTenant uint64 `json:"refused_tenant"`
	RefusedAll    uint64 `json:"refused_all"`
	// FailedNobody counts failures that say nothing yet, FailedTenant those
	// that count against their tenant, and FailedAll against the platform.
	FailedNobody uint64 `json:"failed_nobody"`
	FailedTenant uint64 `json:"failed_tenant"`
	FailedAll    uint64 `json:"failed_all"`
	// SlowAll counts how often the platform was found slow.
	SlowAll uint64 `json:"slow_all"`
}

// Stats returns the figures of this moment, with the top tenants of which most
// calls wait.
func (g *Guard) Stats(top int) GuardStats {
	stats := GuardStats{Stats: g.limits.scheduler.Stats(top), Platform: g.breakers.platform.Counts()}
	stats.Verdicts = g.limits.facts.count()
	stats.Frozen = max(stats.Frozen, g.limits.wide.left(g.limits.facts.clock()))
	return stats
}

// Breaker returns what a tenant's circuit breaker has counted.
func (g *Guard) Breaker(tenant string) breaker.Counts { return g.breakers.tenants.Counts(tenant) }

// Force moves a tenant's circuit breaker to a state, and with an empty tenant
// that of all; see [breaker.Breaker.Force]. [breaker.Closed] lets calls pass
// again at once. Only [breaker.ForcedOpen] keeps innocent tenants from probing.
func (g *Guard) Force(tenant string, s breaker.State) error {
	if tenant == "" {
		return g.breakers.platform.Force(s)
	}
	return g.breakers.tenants.Force(tenant, s)
}

// Thaw ends a freeze by hand: that of one chat's messages, with the zero ChatID
// that of a tenant, and with an empty tenant that of all, for which it closes
// the breaker of all too. Trouble that goes on freezes again.
func (g *Guard) Thaw(tenant string, chat ChatID) {
	l := g.limits
	switch {
	case tenant == "":
		l.wide.end(l)
		l.scheduler.Thaw(ratelimit.Scope[place]{Level: ratelimit.LevelStarts})
		g.breakers.platform.Reset()
	case chat.IsZero():
		l.scheduler.Thaw(ratelimit.Scope[place]{Level: ratelimit.LevelTenant, Tenant: tenant})
	default:
		at := place{chat: l.names.resolve(chat)}
		l.scheduler.Thaw(ratelimit.Scope[place]{Level: ratelimit.LevelKey, Tenant: tenant, Key: at})
	}
}

// Close refuses all calls that wait for their turn, or come.
func (g *Guard) Close() { g.limits.scheduler.Close() }
