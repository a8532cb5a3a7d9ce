package session

import (
	"log/slog"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/ratelimit"
)

// GuardConfig configures a [Guard]. Its zero value is a good one.
type GuardConfig struct {
	// Retry, Limit and Break configure the parts. Retry.Limiter and
	// Limit.Breakers are the guard's own, whatever they are.
	Retry RetryConfig
	Limit LimitConfig
	Break BreakerConfig
	// Owner returns the owner of a tenant, such as the customer that it belongs
	// to, and "" if it has none. What several tenants of one owner meet may be
	// their owner's doing, so it counts as one tenant's trouble where trouble is
	// taken for Telegram's. It is called often and must not block. Nil: nobody
	// has an owner, and every tenant counts as its own.
	Owner func(tenant string) string
	// Health is told of every attempt of a call, of what the guard held back
	// and of the circuit breakers, and Usage of the same calls; see
	// [HealthObserver] and [UsageObserver]. Nil tells nobody.
	Health *health.Monitor
	Usage  *usage.Recorder
	// Logger is for the parts that have none. Nil discards.
	Logger *slog.Logger
}

// Guard is what stands between the bots and Telegram: [Retry], [Limit] and
// [Break], made for each other and in the order that works.
//
//	guard, err := session.NewGuard(session.GuardConfig{})
//	...
//	defer guard.Close()
//	s, err := session.New(session.Config{Middleware: guard.Middleware()})
//
// It is safe for concurrent use and may serve several sessions, which then
// share the limits. Close it after them.
type Guard struct {
	// Limiter has the limits, and Breakers the circuit breakers. Both can be
	// asked, and changed, at any time.
	Limiter  *Limiter
	Breakers *Breakers
	retry    Middleware
	watch    Observer // nil where nobody is told
}

// NewGuard returns a guard. The error names every bad field of cfg.
func NewGuard(cfg GuardConfig) (*Guard, error) {
	for _, log := range []**slog.Logger{&cfg.Retry.Logger, &cfg.Limit.Logger, &cfg.Break.Logger} {
		if *log == nil {
			*log = cfg.Logger
		}
	}
	var bad [3]error
	g := &Guard{watch: watch(cfg.Health, cfg.Usage)}
	if cfg.Health != nil {
		tellBreakers(&cfg.Break, cfg.Health)
	}
	facts := newAttribution(cfg.Owner)
	cfg.Break.attribution, cfg.Limit.attribution = facts, facts
	g.Breakers, bad[0] = NewBreakers(cfg.Break)
	cfg.Limit.Breakers = g.Breakers
	g.Limiter, bad[1] = NewLimiter(cfg.Limit)
	cfg.Retry.Limiter = g.Limiter
	g.retry, bad[2] = Retry(cfg.Retry)
	if err := errors.Join(bad[:]...); err != nil {
		if g.Limiter != nil {
			g.Limiter.Close()
		}
		return nil, &errors.Error{Kind: errors.Internal, Op: "configure guard", Err: err}
	}
	return g, nil
}

// Middleware returns the guard's part of the chain, outermost first. What is to
// see every attempt, as [Observe] is, comes after it; what is to see each call
// once comes before.
func (g *Guard) Middleware() []Middleware {
	chain := []Middleware{g.retry, Limit(g.Limiter), Break(g.Breakers)}
	if g.watch == nil {
		return chain
	}
	return append(append([]Middleware{ObserveRefusals(g.watch)}, chain...), Observe(g.watch))
}

// Thaw ends a freeze by hand: that of one chat's messages, with the zero ChatID
// that of a tenant, and with an empty tenant that of all, for which it closes
// the platform's circuit breaker too. Trouble that goes on freezes again.
func (g *Guard) Thaw(tenant string, chat ChatID) {
	l := g.Limiter
	switch {
	case tenant == "":
		l.wide.end(l)
		l.scheduler.Thaw(ratelimit.Scope[place]{Level: ratelimit.LevelStarts})
		g.Breakers.platform.Reset()
	case chat.IsZero():
		l.scheduler.Thaw(ratelimit.Scope[place]{Level: ratelimit.LevelTenant, Tenant: tenant})
	default:
		at := place{chat: l.names.resolve(chat)}
		l.scheduler.Thaw(ratelimit.Scope[place]{Level: ratelimit.LevelKey, Tenant: tenant, Key: at})
	}
}

// Close refuses all calls that wait for their turn, or come.
func (g *Guard) Close() { g.Limiter.Close() }
