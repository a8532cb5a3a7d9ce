package retry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	goretry "github.com/sethvargo/go-retry"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/retry"
	"pgregory.net/rapid"
)

func TestTheZeroPolicyRepeatsThreeTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p retry.Policy
		began, calls := time.Now(), 0
		assert.Equal(t, errDown, p.Do(t.Context(), failing(&calls, errDown)))
		assert.Equal(t, 4, calls)
		assert.LessOrEqual(t, time.Since(began), 7*time.Second)

		var s retry.State
		for range 3 {
			_, ok := s.Next(t.Context(), errDown)
			assert.True(t, ok)
		}
		_, ok := s.Next(t.Context(), errDown)
		assert.False(t, ok)
		assert.Equal(t, retry.Exhausted, s.Reason())
		assert.Equal(t, 4, s.Attempts())
	})
}

func TestNewNamesEveryBadField(t *testing.T) {
	_, err := retry.New(retry.Config{Initial: -1, Max: -1, Factor: math.NaN(), Jitter: 9})
	require.Error(t, err)
	for _, field := range []string{"Initial", "Max", "Factor", "jitter: Jitter(9)"} {
		assert.ErrorContains(t, err, field)
	}
	for name, cfg := range map[string]retry.Config{
		"a cap below the first": {Initial: time.Minute, Max: time.Second},
		"a factor that shrinks": {Factor: 0.5},
		"an endless factor":     {Factor: math.Inf(1)},
	} {
		_, err := retry.New(cfg)
		assert.Error(t, err, name)
	}
	_, err = retry.New(retry.Config{Initial: time.Hour})
	assert.NoError(t, err, "the default cap gives way")
}

func TestNegativeIsNone(t *testing.T) {
	p := newPolicy(t, retry.Config{Retries: -1, Waits: -1, MaxElapsed: -1})
	calls := 0
	assert.Equal(t, errDown, p.Do(t.Context(), failing(&calls, errDown)))
	refusal := &limited{after: time.Second}
	assert.Same(t, refusal, p.Do(t.Context(), failing(&calls, refusal)))
}

func TestDoValueReturnsWhatTheLastCallDid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p retry.Policy
		calls := 0
		v, err := retry.DoValue(t.Context(), p, func(context.Context) (int, error) {
			if calls++; calls < 3 {
				return calls, errDown
			}
			return calls, nil
		})
		assert.NoError(t, err)
		assert.Equal(t, 3, v)
		v, err = retry.DoValue(t.Context(), p, func(context.Context) (int, error) { calls++; return calls, errDown })
		assert.Equal(t, errDown, err)
		assert.Equal(t, 7, v)
	})
}

func TestAnOperationEndsWithinItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPolicy(t, retry.Config{Jitter: retry.None, Retries: 100, MaxElapsed: 10 * time.Second})
		began, calls := time.Now(), 0
		assert.Equal(t, errDown, p.Do(t.Context(), failing(&calls, errDown)))
		assert.Equal(t, 7*time.Second, time.Since(began), "the next delay would end after it")
		assert.Equal(t, 4, calls)

		// The attempts' own time counts.
		s := p.Start()
		time.Sleep(10 * time.Second)
		_, ok := s.Next(t.Context(), errDown)
		assert.False(t, ok)
		assert.Equal(t, retry.OutOfTime, s.Reason())
		assert.Equal(t, errDown, s.Err())
	})
}

func TestADelayThatWouldEndAfterTheDeadlineIsNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPolicy(t, retry.Config{Jitter: retry.None})
		ctx, cancel := context.WithTimeout(context.Background(), 2500*time.Millisecond)
		defer cancel()
		began, calls := time.Now(), 0
		assert.Equal(t, errDown, p.Do(ctx, failing(&calls, errDown)))
		assert.Equal(t, time.Second, time.Since(began))
		assert.Equal(t, 2, calls)
		// Nor one that ends with it, which would leave the attempt no time.
		s := p.Start()
		ctx, cancel = context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, ok := s.Next(ctx, errDown)
		assert.False(t, ok)
	})
}

func TestAPanicInOnRetryLosesNeitherTheErrorNorTheAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := newPolicy(t, retry.Config{
			Logger:  slog.New(slog.NewTextHandler(&log, nil)),
			OnRetry: func(context.Context, retry.Attempt) { panic(errors.New("canary")) },
		})
		calls := 0
		assert.Equal(t, errDown, p.Do(t.Context(), failing(&calls, errDown)))
		assert.Equal(t, 4, calls)
		assert.Contains(t, log.String(), "panic in OnRetry")
		assert.NotContains(t, log.String(), "canary")
	})
}

func TestOnRetryHearsOfWhatIsRepeatedAndOfNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []retry.Attempt
		p := newPolicy(t, retry.Config{
			Jitter:  retry.None,
			OnRetry: func(_ context.Context, a retry.Attempt) { told = append(told, a) },
		}).For("acme")
		calls, refusal, final := 0, &limited{after: 5 * time.Second}, retry.Permanent(errDown)
		assert.Equal(t, final, p.Do(t.Context(), failing(&calls, errDown, refusal, final)))
		assert.Equal(t, []retry.Attempt{
			{Key: "acme", Number: 1, Err: errDown, Action: retry.Retry, Delay: time.Second},
			{Key: "acme", Number: 2, Err: refusal, Action: retry.Wait, Delay: 5 * time.Second},
		}, told)
	})
}

func TestAPanicAndAGoexitInTheFunctionAreTheCallers(t *testing.T) {
	var p retry.Policy
	calls := 0
	assert.PanicsWithValue(t, "x", func() {
		_ = p.Do(t.Context(), func(context.Context) error { calls++; panic("x") })
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.Do(t.Context(), func(context.Context) error { calls++; runtime.Goexit(); return nil })
	}()
	<-done
	assert.Equal(t, 2, calls)
}

func TestAFailedWaitKeepsTheLastError(t *testing.T) {
	errClosed := errors.New("the queue is closed")
	ctx, cancel := context.WithCancel(t.Context())
	p := newPolicy(t, retry.Config{Wait: func(context.Context, time.Duration) error { return errClosed }})
	calls := 0
	err := p.Do(ctx, failing(&calls, errDown))
	assert.ErrorIs(t, err, errDown)
	assert.ErrorIs(t, err, errClosed)
	assert.NotErrorIs(t, err, context.Canceled)

	p = newPolicy(t, retry.Config{Wait: func(context.Context, time.Duration) error { cancel(); return errClosed }})
	err = p.Do(ctx, failing(&calls, errDown))
	for _, want := range []error{errDown, errClosed, context.Canceled} {
		assert.ErrorIs(t, err, want)
	}

	ctx, cancel = context.WithCancel(t.Context())
	p = newPolicy(t, retry.Config{Wait: func(context.Context, time.Duration) error { cancel(); return nil }})
	err = p.Do(ctx, failing(&calls, errDown))
	assert.ErrorIs(t, err, errDown)
	assert.ErrorIs(t, err, context.Canceled, "a wait that forgets the context does not start an attempt")
	assert.Equal(t, 3, calls)
}

func TestABackoffOfOnesOwnMayStopAndMayBeBad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		p := newPolicy(t, retry.Config{Backoff: func() goretry.Backoff {
			return goretry.WithMaxRetries(1, goretry.NewConstant(time.Second))
		}})
		assert.Equal(t, errDown, p.Do(t.Context(), failing(&calls, errDown)))
		assert.Equal(t, 2, calls)

		calls = 0
		p = newPolicy(t, retry.Config{Jitter: retry.None, Backoff: func() goretry.Backoff {
			return goretry.BackoffFunc(func() (time.Duration, bool) { return -time.Hour, false })
		}, OnRetry: func(_ context.Context, a retry.Attempt) { assert.Zero(t, a.Delay) }})
		assert.Equal(t, errDown, p.Do(t.Context(), failing(&calls, errDown)))
		assert.Equal(t, 4, calls)
		s := p.Start()
		_, ok := s.Decide(t.Context(), errDown, retry.Decision{Action: retry.Retry, After: -time.Minute})
		assert.True(t, ok)

		calls = 0
		p = newPolicy(t, retry.Config{Backoff: func() goretry.Backoff { return nil }})
		assert.Equal(t, errDown, p.Do(t.Context(), failing(&calls, errDown)))
		assert.Equal(t, 4, calls)
	})
}

func TestTheStateSaysWhyItStops(t *testing.T) {
	empty := newBudget(t, retry.BudgetConfig{Burst: 1, Share: 1e-6})
	require.True(t, empty.Withdraw(""))
	done, cancel := context.WithCancel(t.Context())
	cancel()
	late, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	for want, row := range map[retry.Reason]struct {
		ctx context.Context
		cfg retry.Config
		d   retry.Decision
	}{
		retry.Judged:     {done, retry.Config{}, retry.Decision{}},
		retry.Exhausted:  {t.Context(), retry.Config{Retries: -1}, retry.Decision{Action: retry.Retry}},
		retry.OutOfTime:  {late, retry.Config{}, retry.Decision{Action: retry.Wait, After: time.Minute}},
		retry.OverBudget: {t.Context(), retry.Config{Budget: empty}, retry.Decision{Action: retry.Wait}},
		retry.Ended:      {done, retry.Config{}, retry.Decision{Action: retry.Retry}},
		retry.NotStopped: {late, retry.Config{Budget: empty, UnbudgetedWaits: true}, retry.Decision{Action: retry.Wait}},
	} {
		t.Run(want.String(), func(t *testing.T) {
			s := newPolicy(t, row.cfg).Start()
			_, ok := s.Decide(row.ctx, errDown, row.d)
			assert.Equal(t, want == retry.NotStopped, ok)
			assert.Equal(t, want, s.Reason())
			assert.ErrorIs(t, s.Err(), errDown)
			if want != retry.Ended {
				assert.Equal(t, errDown, s.Err(), "as it is")
			}
		})
	}
}

func TestNoErrorIsNotRepeated(t *testing.T) {
	s := retry.Policy{}.Start()
	_, ok := s.Next(t.Context(), errDown)
	assert.True(t, ok)
	_, ok = s.Next(t.Context(), nil)
	assert.False(t, ok)
	assert.NoError(t, s.Err())
	assert.Equal(t, 1, s.Attempts())
	assert.NoError(t, retry.Permanent(nil))
	assert.ErrorIs(t, retry.Permanent(errDown), errDown)
	assert.EqualError(t, retry.Permanent(errDown), "down")
}

type may struct{}

func (may) Error() string   { return "try again" }
func (may) Retryable() bool { return true }

func TestClassifyJudgesByWhatAnErrorSays(t *testing.T) {
	for name, row := range map[string]struct {
		err  error
		want retry.Decision
	}{
		"nothing":                 {errDown, retry.Decision{Action: retry.Retry}},
		"an attempt's time-out":   {context.DeadlineExceeded, retry.Decision{Action: retry.Retry}},
		"when":                    {fmt.Errorf("x: %w", &limited{after: 5}), retry.Decision{Action: retry.Wait, After: 5}},
		"when, and it is at once": {&limited{}, retry.Decision{Action: retry.Retry}},
		"cancelled, and it may":   {errors.Join(may{}, context.Canceled), retry.Decision{Action: retry.Retry}},
		"cancelled":               {context.Canceled, retry.Decision{}},
	} {
		assert.Equal(t, row.want, retry.Classify(row.err), name)
	}
}

// Whatever fails and however: never more repetitions than there may be, never
// a delay that is too short, too long or does not fit.
func TestPoliciesKeepTheirBounds(t *testing.T) {
	duration := func(t *rapid.T, name string, most time.Duration) time.Duration {
		return time.Duration(rapid.IntRange(1, int(most/time.Millisecond)).Draw(t, name)) * time.Millisecond
	}
	repeated := 0
	synctest.Test(t, func(t *testing.T) {
		// rapid asks a testing.T for its deadline, which a bubble's has not.
		rapid.Check(struct{ testing.TB }{t}, func(t *rapid.T) {
			budget := newRapidBudget(t, retry.BudgetConfig{Burst: rapid.SampledFrom([]int{1, 5, 20}).Draw(t, "burst")})
			cfg := retry.Config{
				Retries: rapid.SampledFrom([]int{-1, 0, 1, 4, 8}).Draw(t, "retries"),
				Waits:   rapid.SampledFrom([]int{-1, 0, 1, 4, 8}).Draw(t, "waits"),
				Initial: duration(t, "initial", 2*time.Second),
				Factor:  rapid.SampledFrom([]float64{0, 1, 1.5, 2, 10}).Draw(t, "factor"),
				Jitter:  rapid.SampledFrom([]retry.Jitter{retry.Full, retry.Equal, retry.None}).Draw(t, "jitter"),
				Budget:  budget,
			}
			cfg.Max = cfg.Initial + duration(t, "max", 10*time.Second)
			if rapid.Bool().Draw(t, "bounded") {
				cfg.MaxElapsed = duration(t, "elapsed", 2*time.Minute)
			} else {
				cfg.MaxElapsed = -1
			}
			ctx, cancel := context.WithTimeout(context.Background(), rapid.SampledFrom([]time.Duration{time.Second, time.Minute, 5 * time.Minute, 10 * time.Minute}).Draw(t, "timeout"))
			defer cancel()
			p, err := retry.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			s, began := p.Start(), time.Now()
			used := map[retry.Action]int{}
			for {
				time.Sleep(duration(t, "attempt", 2*time.Second))
				d := retry.Decision{
					Action: rapid.SampledFrom([]retry.Action{retry.Retry, retry.Wait}).Draw(t, "action"),
					After:  time.Duration(rapid.IntRange(-1, 20).Draw(t, "after")) * time.Second,
				}
				_, before := budget.Left("")
				delay, ok := s.Decide(ctx, errDown, d)
				_, after := budget.Left("")
				if !errors.Is(s.Err(), errDown) || ok != (s.Reason() == retry.NotStopped) {
					t.Fatalf("lost %v or the reason %v", s.Err(), s.Reason())
				}
				if !ok {
					if before != after {
						t.Fatal("took of the budget for nothing")
					}
					break
				}
				if before != after+1 {
					t.Fatal("did not take of the budget")
				}
				used[d.Action]++
				repeated++
				end, _ := ctx.Deadline()
				if cfg.MaxElapsed > 0 && began.Add(cfg.MaxElapsed).Before(end) {
					end = began.Add(cfg.MaxElapsed)
				}
				switch {
				case delay < 0, delay < d.After, delay >= max(d.After, 0)+cfg.Max+1:
					t.Fatalf("delay %v for %+v", delay, d)
				case !time.Now().Add(delay).Before(end):
					t.Fatalf("delay %v ends after %v", delay, end)
				case cfg.Jitter == retry.Equal && delay < cfg.Initial/2, cfg.Jitter == retry.None && delay < cfg.Initial:
					t.Fatalf("delay %v is below what is fixed", delay)
				}
				if err := s.Wait(ctx, delay); err != nil {
					t.Fatalf("a delay that fits was interrupted: %v", err)
				}
			}
			most := func(n int) int {
				if n == 0 {
					return 3
				}
				return max(n, 0)
			}
			if used[retry.Retry] > most(cfg.Retries) || used[retry.Wait] > most(cfg.Waits) {
				t.Fatalf("repeated %v of %d and %d", used, cfg.Retries, cfg.Waits)
			}
		})
	})
	assert.Positive(t, repeated, "the test has something to look at")
}
