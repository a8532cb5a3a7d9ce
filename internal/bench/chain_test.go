package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session"
)

// BenchmarkChain is what stands between a call and the wire: retry, a breaker
// for the bot and one for the platform, and limits for all, the bot and the
// chat; for 10,000 bots with a chat each, in no order. The limits are kept and
// bind nobody.
//
// failsafe-go has no keys and no levels, so its policies are composed for each
// bot beforehand and found in a map.
func BenchmarkChain(b *testing.B) {
	const bots = 10_000
	names := make([]string, bots)
	for i := range names {
		names[i] = fmt.Sprintf("tenant-%d", i)
	}
	ctx := context.Background()
	b.Run("tgfleet", func(b *testing.B) {
		guard, err := session.NewGuard(session.GuardConfig{Limit: wideLimits()})
		if err != nil {
			b.Fatal(err)
		}
		defer guard.Close()
		done := session.InvokerFunc(func(context.Context, *session.Call) (json.RawMessage, error) { return nil, nil })
		chain := session.Chain(done, guard.Middleware())
		calls := make([]session.Call, bots)
		for i := range calls {
			calls[i] = session.Call{Key: names[i], Method: "sendMessage", Chat: session.ChatID{ID: int64(i + 1)}, Attempt: 1}
		}
		inNoOrder(b, bots, func(i int) error {
			_, err := chain.Invoke(ctx, &calls[i])
			return err
		})
	})
	b.Run("failsafe-go", func(b *testing.B) {
		platform := circuitbreaker.NewBuilder[any]().WithFailureRateThreshold(0.5, 20, 10*time.Second).WithDelay(5 * time.Second).Build()
		all := ratelimiter.NewBursty[any](1<<30, time.Second)
		executors := make(map[string]failsafe.Executor[any], bots)
		for _, name := range names {
			executors[name] = failsafe.With[any](
				retrypolicy.NewBuilder[any]().WithMaxRetries(3).WithBackoff(time.Second, 30*time.Second).Build(),
				circuitbreaker.NewBuilder[any]().WithFailureThreshold(5).WithDelay(time.Minute).Build(),
				platform,
				all,
				ratelimiter.NewBursty[any](1<<30, time.Second), // the bot's
				ratelimiter.NewBursty[any](1<<30, time.Second), // the chat's
			)
		}
		fn := func() error { return nil }
		inNoOrder(b, bots, func(i int) error { return executors[names[i]].WithContext(ctx).Run(fn) })
	})
}

// wideLimits returns limits that are applied but never delay a call.
func wideLimits() session.LimitConfig {
	limit := ratelimit.Limit{Rate: 1e9, Burst: 1 << 30}
	return session.LimitConfig{
		Default:    session.Limits{Bot: limit, Paid: limit, Private: limit, Group: limit},
		Total:      limit,
		ColdStarts: []ratelimit.Limit{},
	}
}

// inNoOrder calls f for all of n in no order, once beforehand and then as long as the
// benchmark lasts.
func inNoOrder(b *testing.B, n int, f func(i int) error) {
	i := 0
	next := func() {
		i = (i + 7919) % n
		if err := f(i); err != nil {
			b.Fatal(err)
		}
	}
	for range n {
		next()
	}
	b.ReportAllocs()
	for b.Loop() {
		next()
	}
}
