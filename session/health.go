package session

import (
	"context"
	"strings"
	"time"

	"github.com/tgfleet/tgfleet/breaker"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
)

// watch returns the observer of a guard's monitor and recorder, nil where
// neither is there.
func watch(m *health.Monitor, r *usage.Recorder) Observer {
	switch {
	case m != nil && r != nil:
		return observers{healthObserver(m), usageObserver(r)}
	case m != nil:
		return healthObserver(m)
	case r != nil:
		return usageObserver(r)
	}
	return nil
}

// tellBreakers makes a monitor hear of what breakers do, before those that
// hear of it already.
func tellBreakers(cfg *BreakerConfig, m *health.Monitor) {
	onTenant, onPlatform := cfg.OnTenant, cfg.OnPlatform
	cfg.OnTenant = func(key string, c breaker.Change) {
		if !c.Watched {
			m.SetBreaker(key, healthOf(c.To))
		}
		if onTenant != nil {
			onTenant(key, c)
		}
	}
	cfg.OnPlatform = func(c breaker.Change) {
		if !c.Watched {
			m.SetPlatformBreaker(healthOf(c.To))
		}
		if onPlatform != nil {
			onPlatform(c)
		}
	}
}

// healthOf returns what a state means to those who call.
func healthOf(s breaker.State) health.Breaker {
	switch s {
	case breaker.Open, breaker.ForcedOpen:
		return health.BreakerOpen
	case breaker.HalfOpen:
		return health.BreakerHalfOpen
	}
	return health.BreakerClosed
}

// healthObserver returns an observer that tells a monitor of every attempt, but
// for those of [Session.NewBot]: the token that it asks about may be anybody's,
// given for any tenant, so its failure says nothing of the tenant's bot, and a
// tenant that never was must not come to be known.
func healthObserver(m *health.Monitor) Observer {
	return ObserverFunc(func(ctx context.Context, o Observation) {
		if findsOut(ctx) {
			return
		}
		out := health.Outcome{
			At:      o.Start.Add(o.Latency),
			Latency: o.Latency,
			Kind:    o.Kind,
			Poll:    isPoll(o.Method),
		}
		if o.Err != nil {
			out.RetryAfter = errors.RetryAfter(o.Err)
			if hasty(ctx, o.Latency) {
				out.Kind = errors.Canceled
			}
		}
		m.Observe(o.Key, out)
	})
}

// patience is how long Telegram may take for an answer before a caller who no
// longer waits has a reason to.
const patience = longEnough

// hasty reports whether an attempt failed since its caller did not want to wait
// any longer, which says nothing of the bot. A deadline that passes only after
// a while is another matter: when Telegram does not answer, deadlines are what
// ends calls.
func hasty(ctx context.Context, waited time.Duration) bool {
	err := ctx.Err()
	return err != nil && (!errors.Is(err, context.DeadlineExceeded) || waited < patience)
}

// usageObserver returns an observer that counts every attempt in a recorder,
// with the exception of healthObserver. Updates are counted where they are
// received.
func usageObserver(r *usage.Recorder) Observer {
	return ObserverFunc(func(ctx context.Context, o Observation) {
		if findsOut(ctx) {
			return
		}
		r.Observe(o.Key, usage.Call{
			At:      o.Start.Add(o.Latency),
			Method:  o.Method,
			Chat:    usage.Chat(o.Chat),
			Kind:    o.Kind,
			Latency: o.Latency,
		})
	})
}

// observers tells several, one after the other.
type observers []Observer

// Observe implements [Observer].
func (all observers) Observe(ctx context.Context, o Observation) {
	for _, observer := range all {
		observer.Observe(ctx, o)
	}
}

// isPoll reports whether a method's latency is how long nothing happened.
func isPoll(method string) bool { return strings.EqualFold(method, "getUpdates") }
