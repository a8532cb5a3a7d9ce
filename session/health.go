package session

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
)

// HealthObserver returns an observer that tells a monitor of every attempt.
func HealthObserver(m *health.Monitor) Observer {
	return ObserverFunc(func(ctx context.Context, o Observation) {
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
const patience = 5 * time.Second

// hasty reports whether an attempt failed since its caller did not want to wait
// any longer, which says nothing of the bot. A deadline that passes only after
// a while is another matter: when Telegram does not answer, deadlines are what
// ends calls.
func hasty(ctx context.Context, waited time.Duration) bool {
	err := ctx.Err()
	return err != nil && (!errors.Is(err, context.DeadlineExceeded) || waited < patience)
}

// UsageObserver returns an observer that counts every attempt in a recorder.
// Updates are counted where they are received.
func UsageObserver(r *usage.Recorder) Observer {
	return ObserverFunc(func(_ context.Context, o Observation) {
		r.Observe(o.Key, usage.Call{
			At:      o.Start.Add(o.Latency),
			Method:  o.Method,
			Chat:    usage.Chat(o.Chat),
			Kind:    o.Kind,
			Latency: o.Latency,
		})
	})
}

// Observers returns an observer that tells several, one after the other. Nil
// ones are skipped.
func Observers(observers ...Observer) Observer {
	return ObserverFunc(func(ctx context.Context, o Observation) {
		for _, observer := range observers {
			if observer != nil {
				observer.Observe(ctx, o)
			}
		}
	})
}

// ObserveRefusals is the middleware that tells an observer of the calls which
// this program held back: those that were throttled, or met an open breaker.
// Place it outermost. [Observe], which has its place behind what refuses, does
// not see them, so none is told of twice.
func ObserveRefusals(observer Observer) Middleware {
	return func(next Invoker) Invoker {
		return InvokerFunc(func(ctx context.Context, call *Call) (json.RawMessage, error) {
			start := time.Now()
			result, err := next.Invoke(ctx, call)
			switch kind := errors.KindOf(err); kind {
			case errors.Throttled, errors.BreakerOpen:
				observer.Observe(ctx, Observation{
					Key:     call.Key,
					Method:  call.Method,
					Chat:    call.Chat,
					Attempt: call.Attempt,
					Start:   start,
					Latency: time.Since(start),
					Kind:    kind,
					Err:     err,
				})
			}
			return result, err
		})
	}
}

// isPoll reports whether a method's latency is how long nothing happened.
func isPoll(method string) bool { return strings.EqualFold(method, "getUpdates") }
