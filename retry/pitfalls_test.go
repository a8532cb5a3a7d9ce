package retry_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	goretry "github.com/sethvargo/go-retry"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/retry"
)

// Each test of this file is a mistake that a well-known library made.

func TestTheServersRetryAfterIsAFloorJitterOnlyAddsAndACapDoesNotCutIt(t *testing.T) {
	for _, jitter := range []retry.Jitter{retry.Full, retry.Equal, retry.None} {
		for _, action := range []retry.Action{retry.Retry, retry.Wait} {
			t.Run(fmt.Sprint(jitter, " ", action), func(t *testing.T) {
				p := newPolicy(t, retry.Config{
					Initial: time.Second, Max: 2 * time.Second, Jitter: jitter, MaxElapsed: -1, Retries: 100, Waits: 100,
				})
				s := p.Start()
				for range 100 {
					delay, ok := s.Decide(t.Context(), errDown, retry.Decision{Action: action, After: time.Minute})
					require.True(t, ok)
					require.GreaterOrEqual(t, delay, time.Minute)
					require.LessOrEqual(t, delay, time.Minute+2*time.Second)
					if jitter == retry.None {
						require.Equal(t, time.Minute, delay)
					}
				}
			})
		}
	}
}

func TestAShortRetryAfterDoesNotCutTheBackOff(t *testing.T) {
	p := newPolicy(t, retry.Config{Jitter: retry.None})
	s := p.Start()
	for _, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
		delay, ok := s.Decide(t.Context(), errDown, retry.Decision{Action: retry.Retry, After: time.Millisecond})
		require.True(t, ok)
		assert.Equal(t, want, delay)
	}
}

func TestARetryAfterThatDoesNotFitFailsAtOnceWithTheErrorThatCarriesIt(t *testing.T) {
	for name, row := range map[string]struct {
		deadline, elapsed time.Duration
	}{
		"the deadline":          {deadline: time.Minute, elapsed: -1},
		"the deadline, exactly": {deadline: time.Hour, elapsed: -1},
		"the elapsed time":      {deadline: 24 * time.Hour, elapsed: time.Minute},
		"the default":           {deadline: 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPolicy(t, retry.Config{MaxElapsed: row.elapsed})
				ctx, cancel := context.WithTimeout(context.Background(), row.deadline)
				defer cancel()
				began, calls := time.Now(), 0
				refusal := &limited{after: time.Hour}
				err := p.Do(ctx, failing(&calls, refusal))
				assert.Same(t, refusal, err, "as it is")
				assert.Zero(t, time.Since(began))
				assert.Equal(t, 1, calls)
			})
		})
	}
}

func TestARetryAfterThatFitsIsNotLostToJitterThatDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPolicy(t, retry.Config{Initial: time.Hour, Max: time.Hour, MaxElapsed: -1})
		for range 100 {
			ctx, cancel := context.WithTimeout(context.Background(), 61*time.Second)
			s := p.Start()
			delay, ok := s.Next(ctx, &limited{after: time.Minute})
			require.True(t, ok)
			require.GreaterOrEqual(t, delay, time.Minute)
			require.Less(t, delay, 61*time.Second)
			cancel()
		}
	})
}

func TestTheLastErrorIsNeverLostAlsoWhenTheContextEndsWhileWaiting(t *testing.T) {
	errWhy := errors.New("the customer left")
	for name, row := range map[string]struct {
		end  func(t *testing.T) context.Context
		want []error
	}{
		"cancelled": {func(t *testing.T) context.Context {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(time.Second, cancel)
			return ctx
		}, []error{context.Canceled}},
		"cancelled with a cause": {func(t *testing.T) context.Context {
			ctx, cancel := context.WithCancelCause(context.Background())
			time.AfterFunc(time.Second, func() { cancel(errWhy) })
			return ctx
		}, []error{context.Canceled, errWhy}},
		"a deadline that the context does not tell of": {func(t *testing.T) context.Context {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			t.Cleanup(cancel)
			return withoutDeadline{ctx}
		}, []error{context.DeadlineExceeded}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPolicy(t, retry.Config{Initial: 10 * time.Second, Jitter: retry.None})
				began, calls := time.Now(), 0
				refusal := &limited{after: 20 * time.Second}
				err := p.Do(row.end(t), failing(&calls, fmt.Errorf("send: %w", refusal)))
				assert.Equal(t, time.Second, time.Since(began), "at once")
				assert.Equal(t, 1, calls)
				for _, want := range row.want {
					assert.ErrorIs(t, err, want)
				}
				found, ok := errors.AsType[*limited](err)
				require.True(t, ok)
				assert.Same(t, refusal, found)
				i, ok := errors.AsType[*retry.Interrupted](err)
				require.True(t, ok)
				assert.EqualError(t, i.Err, "send: rate limited")
				assert.Contains(t, err.Error(), "send: rate limited")
			})
		})
	}
}

type withoutDeadline struct{ context.Context }

func (withoutDeadline) Deadline() (time.Time, bool) { return time.Time{}, false }

func TestTheLastErrorIsNotLostWhenTheContextEndsDuringTheAttempt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var p retry.Policy
	calls := 0
	err := p.Do(ctx, func(context.Context) error { calls++; cancel(); return errDown })
	assert.Equal(t, 1, calls)
	assert.ErrorIs(t, err, errDown)
	assert.ErrorIs(t, err, context.Canceled)

	err = p.Do(ctx, func(context.Context) error { calls++; return errDown })
	assert.Equal(t, context.Canceled, err, "it does not begin when the context is done")
	assert.Equal(t, 1, calls)
}

func TestAnAttemptThatTheContextEndedIsNotWrapped(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	late, done := context.WithDeadline(ctx, time.Now().Add(-time.Second))
	defer done()
	p := newPolicy(t, retry.Config{Classify: func(error) retry.Decision { return retry.Decision{Action: retry.Retry} }})
	s := p.Start()
	given := fmt.Errorf("send: %w", context.DeadlineExceeded)
	_, ok := s.Next(late, given)
	assert.False(t, ok)
	assert.Same(t, given, s.Err())
	assert.Equal(t, retry.Ended, s.Reason())
}

func TestAPolicyIsReusableAndSafeForConcurrentUse(t *testing.T) {
	for name, cfg := range map[string]retry.Config{
		"exponential": {},
		"by 3":        {Factor: 3, Max: time.Hour},
		"its own":     {Backoff: func() goretry.Backoff { return goretry.NewFibonacci(time.Second) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg.Jitter = retry.None
				p := newPolicy(t, cfg)
				want := map[string][]time.Duration{
					"exponential": {time.Second, 2 * time.Second, 4 * time.Second},
					"by 3":        {time.Second, 3 * time.Second, 9 * time.Second},
					"its own":     {time.Second, 2 * time.Second, 3 * time.Second},
				}[name]
				var wg sync.WaitGroup
				for range 50 {
					wg.Go(func() {
						for range 3 { // the second has as many attempts as the first
							last, i := time.Now(), 0
							err := p.Do(t.Context(), func(context.Context) error {
								if i > 0 {
									assert.Equal(t, want[i-1], time.Since(last))
								}
								i++
								last = time.Now()
								return errDown
							})
							assert.Equal(t, errDown, err)
							assert.Equal(t, 4, i)
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

func TestNoOverflowAfterManyAttempts(t *testing.T) {
	for name, cfg := range map[string]retry.Config{
		"exponential":           {},
		"a cap that is the end": {Max: math.MaxInt64, Initial: math.MaxInt64/2 + 1},
		"by 1.5":                {Factor: 1.5},
		"by the largest":        {Factor: math.MaxFloat64, Max: math.MaxInt64},
	} {
		for _, jitter := range []retry.Jitter{retry.Full, retry.Equal, retry.None} {
			t.Run(fmt.Sprint(name, " ", jitter), func(t *testing.T) {
				cfg.Retries, cfg.Waits, cfg.MaxElapsed, cfg.Jitter = math.MaxInt, math.MaxInt, -1, jitter
				p := newPolicy(t, cfg)
				s := p.Start()
				most := cfg.Max
				if most == 0 {
					most = 30 * time.Second
				}
				var least time.Duration // of the fixed part, once it is at the cap
				for i := range 10_000 {
					for _, d := range []retry.Decision{{Action: retry.Retry}, {Action: retry.Wait, After: math.MaxInt64 - 1}} {
						delay, ok := s.Decide(context.Background(), errDown, d)
						if !ok { // for ever is never
							require.Equal(t, retry.OutOfTime, s.Reason())
							continue
						}
						require.GreaterOrEqual(t, delay, max(d.After, least))
						if d.After == 0 {
							require.LessOrEqual(t, delay, most)
						}
					}
					if i > 100 && jitter == retry.Equal {
						least = most / 2
					}
				}
			})
		}
	}
}

func TestJitterOfZeroWorks(t *testing.T) {
	p := newPolicy(t, retry.Config{Jitter: retry.None, Retries: 7})
	s := p.Start()
	for _, want := range []int{1, 2, 4, 8, 16, 30, 30} {
		delay, ok := s.Next(t.Context(), errDown)
		require.True(t, ok)
		assert.Equal(t, time.Duration(want)*time.Second, delay)
	}
	// Nothing to draw from is no panic.
	for _, jitter := range []retry.Jitter{retry.Full, retry.Equal, retry.None} {
		p := newPolicy(t, retry.Config{Jitter: jitter, Initial: 1, Max: 1})
		s := p.Start()
		delay, ok := s.Next(t.Context(), errDown)
		assert.True(t, ok)
		assert.LessOrEqual(t, delay, time.Duration(1))
	}
}

func TestWaitingForRetryAfterDoesNotUseUpAttemptsMeantForFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []retry.Attempt
		p := newPolicy(t, retry.Config{
			Retries: 2, Waits: 3, Jitter: retry.None,
			OnRetry: func(_ context.Context, a retry.Attempt) { told = append(told, a) },
		})
		refusal, calls, began := &limited{after: 5 * time.Second}, 0, time.Now()
		err := p.Do(t.Context(), failing(&calls, refusal, refusal, errDown, refusal, errDown, errDown, nil))
		assert.Equal(t, errDown, err, "the third failure is one too many, the third wait is not")
		assert.Equal(t, 6, calls)
		// Nor do the delays for failures grow by the waits.
		assert.Equal(t, (5+5+5+1+2)*time.Second, time.Since(began))
		require.Len(t, told, 5)
		for i, a := range told {
			assert.Equal(t, i+1, a.Number)
		}

		calls = 0
		err = p.Do(t.Context(), failing(&calls, errDown, refusal, refusal, refusal, refusal, nil))
		assert.Same(t, refusal, err, "waits are bounded too")
		assert.Equal(t, 5, calls)
	})
}

type mustNot struct{ limited }

func (*mustNot) Retryable() bool { return false }

func TestWhatMustNotBeRepeatedIsNotWhateverElseItSays(t *testing.T) {
	for name, given := range map[string]error{
		"it says so":                       &mustNot{},
		"it says so, and when":             fmt.Errorf("x: %w", &mustNot{limited{after: time.Millisecond}}),
		"it is marked":                     retry.Permanent(errDown),
		"it is marked, and says when":      retry.Permanent(&limited{after: time.Millisecond}),
		"what is in it is marked":          errors.Join(errDown, fmt.Errorf("x: %w", retry.Permanent(errDown))),
		"a context of its own was stopped": fmt.Errorf("x: %w", context.Canceled),
	} {
		t.Run(name, func(t *testing.T) {
			var p retry.Policy
			calls := 0
			assert.Equal(t, given, p.Do(t.Context(), failing(&calls, given)))
			assert.Equal(t, 1, calls)
		})
	}
}

func TestWhenEverythingFailsTrafficGrowsByAtMostTheBudgetNotByTheAttemptCount(t *testing.T) {
	for name, failure := range map[string]error{"failures": errDown, "rate limits": &limited{after: time.Second}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPolicy(t, retry.Config{Budget: newBudget(t, retry.BudgetConfig{})})
				const tenants, each = 100, 100
				attempts := make([]int, tenants)
				var wg sync.WaitGroup
				for i := range tenants {
					wg.Go(func() {
						for range each {
							assert.Equal(t, failure, p.For(fmt.Sprint(i)).Do(t.Context(), func(context.Context) error {
								attempts[i]++
								return failure
							}))
							time.Sleep(time.Second)
						}
					})
				}
				wg.Wait()
				total := 0
				for _, n := range attempts {
					assert.LessOrEqual(t, n-each, each/5+10)
					total += n
				}
				const calls = tenants * each
				assert.LessOrEqual(t, total-calls, calls/10+100)
				assert.GreaterOrEqual(t, total-calls, calls/10, "what there is, is used")
			})
		})
	}
}

func TestOneFailingKeyDoesNotUseUpTheBudgetOfTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPolicy(t, retry.Config{Budget: newBudget(t, retry.BudgetConfig{})})
		for range 1000 {
			_ = p.For("bad").Do(t.Context(), func(context.Context) error { return errDown })
			for i := range 9 {
				_ = p.For(fmt.Sprint(i)).Do(t.Context(), func(context.Context) error { return nil })
			}
		}
		calls := 0
		require.NoError(t, p.For("good").Do(t.Context(), failing(&calls, errDown, errDown, nil)))
	})
}

func TestBackOffCanHappenInAQueueSoThatALaterMessageDoesNotOvertake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := make(chan struct{}, 1) // a chat's; who is in it, sends
		var sent []int
		p := newPolicy(t, retry.Config{Wait: func(ctx context.Context, delay time.Duration) error {
			assert.Len(t, queue, 1, "the wait happens in the place of the attempt")
			time.Sleep(delay)
			return ctx.Err()
		}})
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				queue <- struct{}{}
				defer func() { <-queue }()
				failures := 0
				assert.NoError(t, p.Do(t.Context(), func(context.Context) error {
					if failures++; i == 0 && failures < 3 {
						return &limited{after: time.Second}
					}
					sent = append(sent, i)
					return nil
				}))
			})
		}
		wg.Wait()
		assert.Equal(t, []int{0, 1}, sent)
	})
}
