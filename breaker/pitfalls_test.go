package breaker_test

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/breaker"
)

// These are mistakes that well-known breakers made.

// halfOpen returns a breaker that is half-open and needs one success.
func halfOpen(t testing.TB, cfg breaker.Config) *breaker.Breaker {
	cfg.Successes = 1
	b := newBreaker(t, cfg)
	require.NoError(t, b.Force(breaker.HalfOpen))
	return b
}

func TestAPanicInAProbeDoesNotLeaveTheBreakerStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := halfOpen(t, breaker.Config{})
		assert.PanicsWithValue(t, "oh", func() {
			_ = b.Do(bg, func(context.Context) error { panic("oh") })
		})
		assert.Equal(t, breaker.Open, b.State(), "what panicked has not shown that it works")
		time.Sleep(b.RemainingDelay())
		calls(t, b, 1, nil)
		assert.Equal(t, breaker.Closed, b.State())
	})
}

func TestAPanicInAMiddlewareGivesTheProbeBack(t *testing.T) {
	b := halfOpen(t, breaker.Config{})
	func() {
		defer func() { assert.NotNil(t, recover()) }()
		p := allow(t, b)
		defer p.Cancel()
		panic("oh")
	}()
	calls(t, b, 1, nil)
	assert.Equal(t, breaker.Closed, b.State())
}

func TestGoexitInAProbeDoesNotLeaveTheBreakerStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := halfOpen(t, breaker.Config{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = b.Do(bg, func(context.Context) error { runtime.Goexit(); return nil })
		})
		wg.Wait()
		assert.Equal(t, breaker.Open, b.State())
		assert.Zero(t, b.Counts().InFlight)
		time.Sleep(b.RemainingDelay())
		calls(t, b, 1, nil)
		assert.Equal(t, breaker.Closed, b.State())
	})
}

func TestAProbeThatNeverReturnsExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := halfOpen(t, breaker.Config{ProbeTimeout: time.Second})
		hung := allow(t, b)
		assert.Equal(t, breaker.HalfOpen, refused(t, b).State)
		time.Sleep(time.Second - 1)
		refused(t, b)
		time.Sleep(time.Nanosecond)
		second := allow(t, b)
		refused(t, b)
		// The first is back, too late to have a place that it could free.
		hung.Done(bg, errBoom)
		assert.Equal(t, breaker.Open, b.State())
		second.Done(bg, nil)
		assert.Equal(t, breaker.Open, b.State())
	})
}

func TestAnExpiredProbeFreesNobodyElsesPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := halfOpen(t, breaker.Config{ProbeTimeout: time.Second})
		hung := allow(t, b)
		time.Sleep(time.Second)
		second := allow(t, b)
		hung.Cancel()
		refused(t, b)
		second.Cancel()
		allow(t, b).Cancel()
	})
}

func TestAProbeWhoseResultIsIgnoredGivesItsPlaceBack(t *testing.T) {
	b := halfOpen(t, breaker.Config{Classify: classify})
	for range 10 {
		calls(t, b, 1, errIgnored)
		assert.Equal(t, breaker.HalfOpen, b.State())
	}
	calls(t, b, 1, nil)
	assert.Equal(t, breaker.Closed, b.State())
}

func TestAResultOfAnOlderGenerationCountsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told log
		b := newBreaker(t, breaker.Config{OnStateChange: told.add, Probes: 1, Successes: 2})
		var old []breaker.Permit
		for range 20 {
			old = append(old, allow(t, b))
		}
		calls(t, b, 5, errBoom)
		require.Equal(t, breaker.Open, b.State())
		old[0].Done(bg, nil)
		old[1].Done(bg, errBoom)
		require.Equal(t, breaker.Open, b.State())
		left := b.RemainingDelay()
		old[2].Done(bg, waitError(time.Hour))
		require.Equal(t, left, b.RemainingDelay())

		time.Sleep(left)
		probe := allow(t, b)
		told.take()
		for _, p := range old[3:9] { // neither closes it ...
			p.Done(bg, nil)
		}
		require.Equal(t, breaker.HalfOpen, b.State())
		for _, p := range old[9:15] { // ... nor opens it ...
			p.Done(bg, errBoom)
		}
		require.Equal(t, breaker.HalfOpen, b.State())
		refused(t, b) // ... nor makes room for probes

		probe.Done(bg, nil)
		calls(t, b, 1, nil)
		require.Equal(t, breaker.Closed, b.State())
		for _, p := range old[15:] { // closed again, but not the same
			p.Done(bg, errBoom)
		}
		require.Equal(t, breaker.Closed, b.State())
		require.Zero(t, b.Counts().ConsecutiveFailures)
		require.Len(t, told.take(), 1)
	})
}

func TestDoneCalledTwiceCountsOnce(t *testing.T) {
	b := newBreaker(t, breaker.Config{})
	p := allow(t, b)
	again := p // a copy is the same permit
	for range 10 {
		p.Done(bg, errBoom)
		again.Done(bg, errBoom)
		again.Cancel()
	}
	assert.Equal(t, 1, b.Counts().ConsecutiveFailures)
	assert.Zero(t, b.Counts().InFlight)
}

// Tickets are used again. A permit that was ended must not end a later call.
func TestDoneCalledTwiceDoesNotEndAnotherCall(t *testing.T) {
	b := newBreaker(t, breaker.Config{ConsecutiveFailures: -1})
	var ended []breaker.Permit
	for range 1000 {
		p := allow(t, b)
		p.Done(bg, nil)
		ended = append(ended, p)
	}
	running := make([]breaker.Permit, 100)
	for i := range running {
		running[i] = allow(t, b)
	}
	for _, p := range ended {
		p.Done(bg, errBoom)
		p.Pause()
		p.Resume()
	}
	assert.Equal(t, len(running), b.Counts().InFlight)
	assert.Zero(t, b.Counts().ConsecutiveFailures)
	for _, p := range running {
		p.Done(bg, errBoom)
	}
	assert.Equal(t, len(running), b.Counts().ConsecutiveFailures)
}

func TestDoneCalledTwiceAtOnceCountsOnce(t *testing.T) {
	b := newBreaker(t, breaker.Config{ConsecutiveFailures: -1})
	const permits = 300
	var wg sync.WaitGroup
	for range permits {
		p := allow(t, b)
		for range 4 {
			wg.Go(func() { p.Done(bg, errBoom) })
		}
		wg.Go(p.Pause)
	}
	wg.Wait()
	assert.Equal(t, permits, b.Counts().ConsecutiveFailures)
	assert.Zero(t, b.Counts().InFlight)
}

func TestTheCallbackMayCallTheBreakerAndSeesChangesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *breaker.Breaker
		var seen []string
		depth := 0
		b = newBreaker(t, breaker.Config{OnStateChange: func(c breaker.Change) {
			depth++
			defer func() { depth-- }()
			assert.Equal(t, 1, depth, "a change is told when the one before has been")
			seen = append(seen, c.String())
			switch c.To {
			case breaker.Open:
				assert.NotZero(t, b.RemainingDelay())
				assert.Equal(t, 1, b.Counts().Openings)
				_, err := b.Allow()
				assert.ErrorIs(t, err, breaker.ErrOpen)
				assert.NoError(t, b.Force(breaker.HalfOpen))
				allow(t, b).Done(bg, nil)
				allow(t, b).Done(bg, nil)
				assert.Equal(t, breaker.Closed, b.State())
			}
		}})
		calls(t, b, 5, errBoom)
		assert.Equal(t, []string{
			"closed to open: consecutive-failures",
			"open to half-open: manual",
			"half-open to closed: recovered",
		}, seen)
	})
}

func TestTheCallbackSeesChangesInOrderFromManyGoroutines(t *testing.T) {
	last, telling := breaker.Closed, false
	n := 0
	b := newBreaker(t, breaker.Config{ConsecutiveFailures: 1, Successes: 1, OnStateChange: func(c breaker.Change) {
		// The race detector sees it if two are told at once.
		assert.False(t, telling)
		telling = true
		assert.Equal(t, last, c.From)
		last = c.To
		n++
		runtime.Gosched()
		telling = false
	}})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 300 {
				switch i % 4 {
				case 0:
					assert.NoError(t, b.Force(breaker.HalfOpen))
				case 1:
					b.Trip(time.Hour)
				case 2:
					b.Reset()
				}
				if p, err := b.Allow(); err == nil {
					p.Done(bg, errBoom)
				}
			}
		})
	}
	wg.Wait()
	assert.Equal(t, last, b.State())
	assert.Positive(t, n)
}

func TestACallbackThatPanicsHarmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		n := 0
		b := newBreaker(t, breaker.Config{
			OnStateChange: func(breaker.Change) { n++; panic("secret") },
			Logger:        slog.New(slog.NewTextHandler(&out, nil)),
		})
		calls(t, b, 5, errBoom)
		assert.Equal(t, breaker.Open, b.State())
		time.Sleep(b.RemainingDelay())
		calls(t, b, 2, nil)
		assert.Equal(t, breaker.Closed, b.State())
		assert.Equal(t, 3, n)
		assert.Equal(t, 3, strings.Count(out.String(), "panic in OnStateChange"))
		assert.NotContains(t, out.String(), "secret")
	})
}

func TestACallbackThatEndsItsGoroutineHarmsNobody(t *testing.T) {
	var b *breaker.Breaker
	var seen []breaker.State
	b = newBreaker(t, breaker.Config{OnStateChange: func(c breaker.Change) {
		seen = append(seen, c.To)
		if c.To == breaker.Open {
			b.Reset() // a change that nobody else will tell
		}
		runtime.Goexit()
	}})
	var wg sync.WaitGroup
	wg.Go(func() { b.Trip(0) })
	wg.Wait()
	assert.Equal(t, []breaker.State{breaker.Open, breaker.Closed}, seen)
	wg.Go(func() { b.Trip(0) })
	wg.Wait()
	assert.Len(t, seen, 4)
}

func TestAClassifyThatPanicsOrEndsItsGoroutineGivesThePermitBack(t *testing.T) {
	end := func() { panic("oh") }
	b := halfOpen(t, breaker.Config{Classify: func(context.Context, error) breaker.Verdict {
		end()
		return breaker.Success
	}})
	assert.PanicsWithValue(t, "oh", func() { allow(t, b).Done(bg, nil) })
	assert.PanicsWithValue(t, "oh", func() { _ = b.Do(bg, func(context.Context) error { return nil }) })
	end = runtime.Goexit
	var wg sync.WaitGroup
	wg.Go(func() { allow(t, b).Done(bg, nil) })
	wg.Wait()
	assert.Equal(t, breaker.HalfOpen, b.State())
	end = func() {}
	calls(t, b, 1, nil)
	assert.Equal(t, breaker.Closed, b.State())
}

func TestARetryAfterThatPanicsLosesNoFailure(t *testing.T) {
	b := newBreaker(t, breaker.Config{RetryAfter: func(error) time.Duration { panic("oh") }})
	for range 5 {
		p := allow(t, b)
		assert.Panics(t, func() { p.Done(bg, errBoom) })
	}
	assert.Equal(t, breaker.Open, b.State())
}

func TestAClassifyMayCallTheBreaker(t *testing.T) {
	var b *breaker.Breaker
	b = newBreaker(t, breaker.Config{Classify: func(context.Context, error) breaker.Verdict {
		assert.Equal(t, 1, b.Counts().InFlight)
		b.Trip(0)
		return breaker.Failure
	}})
	allow(t, b).Done(bg, errBoom)
	assert.Equal(t, breaker.Open, b.State())
}

func TestTheCallersCancellationIsNoFailureAndATimeOutOfTheCalleeIs(t *testing.T) {
	cancelled, cancel := context.WithCancel(bg)
	cancel()
	late, stop := context.WithDeadline(bg, time.Unix(0, 0))
	defer stop()
	for _, c := range []struct {
		name string
		ctx  context.Context
		err  error
		want breaker.Verdict
	}{
		{"an answer", bg, nil, breaker.Success},
		{"an answer that came although the caller gave up", cancelled, nil, breaker.Success},
		{"an error", bg, errBoom, breaker.Failure},
		{"the caller gave up", cancelled, context.Canceled, breaker.Ignore},
		{"the caller gave up and the error hides it", cancelled, errBoom, breaker.Ignore},
		{"the callee gave up by itself", bg, context.Canceled, breaker.Failure},
		{"the callee's time-out", bg, context.DeadlineExceeded, breaker.Failure},
		{"the callee did not answer within the caller's time", late, context.DeadlineExceeded, breaker.Failure},
		{"no context", nil, errBoom, breaker.Failure},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBreaker(t, breaker.Config{ConsecutiveFailures: 2})
			calls(t, b, 1, errBoom)
			allow(t, b).Done(c.ctx, c.err)
			switch c.want {
			case breaker.Success:
				assert.Zero(t, b.Counts().ConsecutiveFailures)
			case breaker.Failure:
				assert.Equal(t, breaker.Open, b.State())
			default:
				assert.Equal(t, 1, b.Counts().ConsecutiveFailures)
			}
		})
	}
}

func TestAThousandCallsThatHangOpenTheBreakerBeforeTheyEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told log
		b := newBreaker(t, breaker.Config{SlowAfter: 4 * time.Second, OnStateChange: told.add})
		start := time.Now()
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				err := b.Do(bg, func(context.Context) error {
					time.Sleep(30 * time.Second)
					return context.DeadlineExceeded
				})
				assert.ErrorIs(t, err, context.DeadlineExceeded)
			})
		}
		synctest.Wait()
		for b.State() == breaker.Closed {
			time.Sleep(100 * time.Millisecond)
			if p, err := b.Allow(); err == nil {
				p.Done(bg, nil) // some are answered all the same
			}
		}
		assert.GreaterOrEqual(t, time.Since(start), 4*time.Second)
		assert.LessOrEqual(t, time.Since(start), 5*time.Second+100*time.Millisecond)
		assert.Equal(t, breaker.ReasonSlowRate, told.take()[0].Reason)
		wg.Wait()
		// What hung belonged to the time before.
		assert.Equal(t, 1, b.Counts().Openings)
	})
}

func TestSlowCallsCountAlthoughTheySucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{SlowAfter: time.Second, SlowRate: 0.5, MinCalls: 4})
		slow := func(d time.Duration, err error) {
			p := allow(t, b)
			time.Sleep(d)
			p.Done(bg, err)
		}
		slow(time.Second-1, nil)
		slow(time.Second-1, nil)
		slow(time.Second, nil)
		assert.Equal(t, breaker.Closed, b.State())
		slow(time.Second, nil)
		assert.Equal(t, breaker.Open, b.State())
		time.Sleep(b.RemainingDelay())
		slow(time.Second, nil)
		assert.Equal(t, breaker.Open, b.State(), "a slow probe has shown no recovery")
	})
}

func TestACallThatItsCallerGaveUpWasSlowAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{SlowAfter: 5 * time.Second, MinCalls: 5})
		ctx, cancel := context.WithCancel(bg)
		for range 5 {
			p := allow(t, b)
			defer func() { p.Done(ctx, ctx.Err()) }()
		}
		time.Sleep(5 * time.Second)
		cancel()
		for range 5 {
			p, err := b.Allow()
			require.NoError(t, err)
			p.Cancel()
		}
		time.Sleep(2 * time.Second)
		refused(t, b)
	})
}

func TestTimeThatACallWaitsHereIsNotTheCallees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{SlowAfter: time.Second, MinCalls: 1})
		p := allow(t, b)
		p.Pause()
		time.Sleep(time.Minute)
		assert.Zero(t, b.Counts().Overdue)
		p.Resume()
		time.Sleep(time.Second - 1)
		p.Done(bg, nil)
		assert.Equal(t, breaker.Closed, b.State())
		assert.Equal(t, 1, b.Counts().Calls)
		time.Sleep(time.Minute)
		assert.Zero(t, b.Counts().Overdue)

		p = allow(t, b)
		p.Pause()
		p.Resume()
		time.Sleep(time.Second)
		p.Done(bg, nil)
		assert.Equal(t, breaker.Open, b.State())
	})
}
