package breaker_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/breaker"
)

func TestTheZeroConfigOpensAfterFiveFailuresForAMinuteAndClosesAfterTwoSuccesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{})
		calls(t, b, 4, errBoom)
		calls(t, b, 1, nil)
		calls(t, b, 4, errBoom)
		assert.Equal(t, breaker.Closed, b.State())
		calls(t, b, 1, errBoom)
		assert.Equal(t, breaker.Open, b.State())
		assert.GreaterOrEqual(t, b.RemainingDelay(), time.Minute)
		assert.LessOrEqual(t, b.RemainingDelay(), 66*time.Second)
		assert.Equal(t, &breaker.OpenError{State: breaker.Open, RetryAfter: b.RemainingDelay()}, refused(t, b))
		time.Sleep(b.RemainingDelay())
		assert.Equal(t, breaker.Open, b.State(), "it stays open until a call comes")
		assert.Zero(t, b.RemainingDelay())
		probe := allow(t, b)
		assert.Equal(t, &breaker.OpenError{State: breaker.HalfOpen}, refused(t, b))
		probe.Done(bg, nil)
		assert.Equal(t, breaker.HalfOpen, b.State())
		calls(t, b, 1, nil)
		assert.Equal(t, breaker.Closed, b.State())
		assert.EqualValues(t, 2, b.Counts().Refused)
	})
}

func TestNewNamesEveryBadField(t *testing.T) {
	_, err := breaker.New(breaker.Config{
		FailureRate: 1.1, SlowRate: math.NaN(), SlowAfter: -1, Window: -1, MinCalls: -1, OpenTime: -1, OpenGrowth: 0.5,
		MaxOpenTime: -2, Jitter: 2, Probes: -1, ProbeTimeout: -1, Successes: -1, Start: breaker.Open,
	})
	require.Error(t, err)
	for _, name := range []string{"FailureRate", "SlowRate", "SlowAfter", "Window", "MinCalls", "OpenTime", "OpenGrowth",
		"MaxOpenTime", "Jitter", "Probes", "ProbeTimeout", "Successes", "Start"} {
		assert.ErrorContains(t, err, name+" is ")
	}
	for name, cfg := range map[string]breaker.Config{
		"both windows":                      {Window: time.Minute, WindowCalls: 10},
		"a rate that nothing is slow for":   {SlowRate: 0.5},
		"more calls than the window holds":  {WindowCalls: 10, MinCalls: 11},
		"too large a window":                {WindowCalls: 1_000_001},
		"too many probes":                   {Probes: 1001},
		"a time that is out of all reason":  {OpenTime: math.MaxInt64},
		"growth that is not a number":       {OpenGrowth: math.NaN()},
		"jitter that is not a number":       {Jitter: math.NaN()},
		"a state that there is not":         {Start: 17},
		"a longest time below the shortest": {OpenTime: time.Minute, MaxOpenTime: time.Second},
	} {
		_, err := breaker.New(cfg)
		assert.Error(t, err, name)
	}
	for name, cfg := range map[string]breaker.Config{
		"a window smaller than the usual least": {WindowCalls: 5, FailureRate: 0.5},
		"the longest time there is":             {OpenTime: 1 << 61, Jitter: 1},
		"infinite growth":                       {OpenGrowth: math.Inf(1)},
		"nothing that opens it":                 {ConsecutiveFailures: -1},
	} {
		_, err := breaker.New(cfg)
		assert.NoError(t, err, name)
	}
}

func TestTheLongestTimesDoNotOverflow(t *testing.T) {
	b := newBreaker(t, breaker.Config{OpenTime: 1 << 61, Jitter: 1, ConsecutiveFailures: 1,
		RetryAfter: func(error) time.Duration { return math.MaxInt64 }})
	calls(t, b, 1, errBoom)
	assert.Greater(t, b.RemainingDelay(), 70*365*24*time.Hour)
	b.Trip(math.MaxInt64)
	refused(t, b)
	require.NoError(t, b.Force(breaker.Open))
	refused(t, b)
}

func TestAShareOfFailuresOpensItOnceThereAreEnoughCalls(t *testing.T) {
	for name, cfg := range map[string]breaker.Config{
		"by count": {WindowCalls: 100},
		"by time":  {Window: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg.ConsecutiveFailures, cfg.FailureRate, cfg.MinCalls = -1, 0.07, 100
				b := newBreaker(t, cfg)
				calls(t, b, 7, errBoom)
				calls(t, b, 92, nil)
				assert.Equal(t, breaker.Closed, b.State())
				calls(t, b, 1, nil) // 7 of 100, which is 0.07 exactly
				assert.Equal(t, breaker.Open, b.State())
			})
		})
	}
}

func TestWhatIsOutOfTheWindowDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{ConsecutiveFailures: -1, FailureRate: 0.5, Window: 10 * time.Second, MinCalls: 10})
		calls(t, b, 9, errBoom)
		time.Sleep(9 * time.Second)
		assert.Equal(t, 9, b.Counts().Failures)
		time.Sleep(time.Second)
		assert.Zero(t, b.Counts().Failures)
		calls(t, b, 9, errBoom)
		assert.Equal(t, breaker.Closed, b.State())
		// A burst across any edge is a burst.
		time.Sleep(8 * time.Second)
		calls(t, b, 1, errBoom)
		assert.Equal(t, breaker.Open, b.State())
	})
}

func TestItStaysOpenForAsLongAsTheFailureSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{ConsecutiveFailures: 2, RetryAfter: retryAfter, Jitter: -1})
		calls(t, b, 1, errBoom)
		calls(t, b, 1, waitError(5*time.Second))
		assert.Equal(t, 5*time.Second, b.RemainingDelay(), "less than its own time")
		b.Reset()
		calls(t, b, 1, errBoom)
		calls(t, b, 1, waitError(time.Hour))
		assert.Equal(t, time.Hour, b.RemainingDelay(), "more than its longest time")
		b.Reset()
		calls(t, b, 1, waitError(time.Hour))
		time.Sleep(time.Minute)
		calls(t, b, 1, errBoom)
		assert.Equal(t, 59*time.Minute, b.RemainingDelay(), "an earlier failure said it")
		b.Reset()
		calls(t, b, 1, waitError(time.Hour))
		calls(t, b, 1, nil)
		calls(t, b, 2, errBoom)
		assert.Equal(t, time.Minute, b.RemainingDelay(), "a success has shown otherwise")
		b.Reset()
		calls(t, b, 2, waitError(-time.Hour))
		assert.Equal(t, time.Minute, b.RemainingDelay(), "a negative time is none")
	})
}

func TestJitterOnlyAdds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{ConsecutiveFailures: 1, RetryAfter: retryAfter, Jitter: 0.5})
		least, most := time.Duration(math.MaxInt64), time.Duration(0)
		for range 2000 {
			b.Reset()
			calls(t, b, 1, waitError(10*time.Second))
			least, most = min(least, b.RemainingDelay()), max(most, b.RemainingDelay())
		}
		assert.GreaterOrEqual(t, least, 10*time.Second)
		assert.Less(t, least, 10500*time.Millisecond)
		assert.LessOrEqual(t, most, 15*time.Second)
		assert.Greater(t, most, 14500*time.Millisecond)
	})
}

func TestOpenTimesGrowUntilItCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{ConsecutiveFailures: 1, Jitter: -1, OpenTime: 10 * time.Second, MaxOpenTime: time.Minute, Successes: 1})
		for range 2 {
			for _, want := range []time.Duration{10, 20, 40, 60, 60} {
				calls(t, b, 1, errBoom)
				require.Equal(t, want*time.Second, b.RemainingDelay())
				time.Sleep(b.RemainingDelay())
			}
			calls(t, b, 1, nil)
			require.Equal(t, breaker.Closed, b.State())
		}
	})
}

func TestForcedOpenLastsUntilItIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{})
		running := allow(t, b)
		require.NoError(t, b.Force(breaker.ForcedOpen))
		time.Sleep(24 * time.Hour)
		assert.Equal(t, &breaker.OpenError{State: breaker.ForcedOpen}, refused(t, b))
		running.Done(bg, nil)
		b.Trip(time.Second)
		assert.Equal(t, breaker.ForcedOpen, b.State())
		assert.Zero(t, b.RemainingDelay())
		b.Reset()
		calls(t, b, 1, nil)
	})
}

func TestDisabledLetsAllPassAndRecordsNothing(t *testing.T) {
	b := newBreaker(t, breaker.Config{Start: breaker.Disabled, FailureRate: 0.1, MinCalls: 1})
	calls(t, b, 100, errBoom)
	b.Trip(time.Hour)
	calls(t, b, 100, errBoom)
	assert.Equal(t, breaker.Counts{State: breaker.Disabled, Watched: breaker.Disabled}, b.Counts())
	require.NoError(t, b.Force(breaker.Closed))
	calls(t, b, 1, errBoom)
	assert.Equal(t, breaker.Open, b.State())
	b.Reset()
	assert.Equal(t, breaker.Disabled, b.State())
}

func TestWatchOnlyRefusesNothingAndReportsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told log
		b := newBreaker(t, breaker.Config{Start: breaker.WatchOnly, Jitter: -1, OnStateChange: told.add, Successes: 1})
		calls(t, b, 5, errBoom)
		assert.Equal(t, breaker.WatchOnly, b.State())
		assert.Equal(t, breaker.Open, b.Counts().Watched)
		calls(t, b, 10, nil)
		assert.EqualValues(t, 10, b.Counts().Refused)
		time.Sleep(time.Minute)
		probe := allow(t, b)
		calls(t, b, 3, errBoom) // beside the probe; they would have been refused
		probe.Done(bg, nil)
		assert.EqualValues(t, 13, b.Counts().Refused)
		assert.Equal(t, []breaker.Change{
			{From: breaker.Closed, To: breaker.Open, Reason: breaker.ReasonConsecutiveFailures, Watched: true, OpenFor: time.Minute},
			{From: breaker.Open, To: breaker.HalfOpen, Reason: breaker.ReasonTimeOver, Watched: true},
			{From: breaker.HalfOpen, To: breaker.Closed, Reason: breaker.ReasonRecovered, Watched: true},
		}, told.take())
	})
}

func TestTripOpensForNoLessThanItSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{Jitter: -1})
		b.Trip(time.Hour)
		assert.Equal(t, time.Hour, b.RemainingDelay())
		b.Trip(time.Minute)
		assert.Equal(t, time.Hour, b.RemainingDelay())
		b.Trip(2 * time.Hour)
		assert.Equal(t, 2*time.Hour, b.RemainingDelay())
		b.Reset()
		b.Trip(-1)
		assert.Equal(t, time.Minute, b.RemainingDelay())
	})
}

func TestProbeNowEndsTheOpenTimeAndForgetsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(t, breaker.Config{Jitter: -1, OpenTime: time.Minute, MaxOpenTime: time.Hour})
		b.ProbeNow()
		assert.Equal(t, breaker.Closed, b.State())
		b.Trip(0)
		b.ProbeNow()
		assert.Zero(t, b.RemainingDelay())
		p, err := b.Allow()
		require.NoError(t, err)
		p.Done(bg, errBoom)
		assert.Equal(t, 2*time.Minute, b.RemainingDelay(), "it grows")
		require.NoError(t, b.Force(breaker.ForcedOpen))
		b.ProbeNow()
		assert.Equal(t, breaker.ForcedOpen, b.State())
	})
}

func TestForceKnowsNoOtherStates(t *testing.T) {
	b := newBreaker(t, breaker.Config{})
	assert.Error(t, b.Force(17))
	assert.Equal(t, breaker.Closed, b.State())
}

func TestDoCallsNothingWhenTheContextIsDone(t *testing.T) {
	b := newBreaker(t, breaker.Config{})
	ctx, cancel := context.WithCancel(bg)
	cancel()
	err := b.Do(ctx, func(context.Context) error { t.Error("called"); return nil })
	assert.ErrorIs(t, err, context.Canceled)
	b.Trip(0)
	err = b.Do(bg, func(context.Context) error { t.Error("called"); return nil })
	assert.ErrorIs(t, err, breaker.ErrOpen)
	assert.False(t, errors.Is(err, context.Canceled))
}

func TestACallThatIsLetInDoesNotAllocate(t *testing.T) {
	b := newBreaker(t, breaker.Config{FailureRate: 0.5, SlowAfter: time.Second, Window: time.Minute})
	g := newGroup(t, breaker.GroupConfig[int]{})
	fn := func(context.Context) error { return nil }
	// One call each: the race detector makes pools lose one in four, and the
	// mean is rounded down.
	for name, call := range map[string]func(){
		"in two steps": func() {
			p, _ := b.Allow()
			p.Pause()
			p.Resume()
			p.Done(bg, nil)
		},
		"with a function": func() { _ = b.Do(bg, fn) },
		"of a key": func() {
			p, _ := g.Allow(1)
			p.Done(bg, nil)
		},
		"of a key, with a function": func() { _ = g.Do(bg, 1, fn) },
	} {
		assert.Zero(t, testing.AllocsPerRun(1000, call), name)
	}
}

func TestTheZeroPermitDoesNothing(t *testing.T) {
	var p breaker.Permit
	p.Pause()
	p.Resume()
	p.Done(bg, errBoom)
	p.Cancel()
}

// Whatever many goroutines do, there are never more probes at once than may
// be, none while it is open, and in the end it can close.
func TestManyGoroutinesNeverGetMoreProbesThanMayBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const probes = 3
		var state atomic.Value
		b := newBreaker(t, breaker.Config{FailureRate: 0.5, MinCalls: 10, SlowAfter: time.Second, OpenTime: time.Second, Probes: probes,
			ProbeTimeout: time.Hour, Successes: 5, Window: 10 * time.Second, Classify: classify,
			OnStateChange: func(c breaker.Change) { state.Store(c.To) }})
		var healthy atomic.Bool
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for range 400 {
					err := b.Do(bg, func(context.Context) error {
						// No other goroutine runs between the admission and this,
						// or it is a probe that waits for its turn like any other.
						if b.State() == breaker.HalfOpen {
							assert.LessOrEqual(t, b.Counts().InFlight, probes)
						}
						time.Sleep(rand.N(100 * time.Millisecond))
						if rand.N(10) == 0 {
							return errIgnored
						}
						if !healthy.Load() && rand.N(3) > 0 {
							return errBoom
						}
						return nil
					})
					if errors.Is(err, breaker.ErrOpen) {
						time.Sleep(rand.N(200 * time.Millisecond))
					}
				}
				healthy.Store(true)
			})
		}
		wg.Wait()
		for b.State() != breaker.Closed {
			time.Sleep(b.RemainingDelay())
			if p, err := b.Allow(); err == nil {
				p.Done(bg, nil)
			}
		}
		assert.Zero(t, b.Counts().InFlight)
		assert.Zero(t, b.Counts().Overdue)
		assert.Equal(t, breaker.Closed, state.Load())
	})
}

func TestNamesOfStatesReasonsAndVerdicts(t *testing.T) {
	seen := map[string]bool{}
	for s := breaker.Closed; s <= breaker.WatchOnly; s++ {
		assert.NotContains(t, s.String(), "(")
		seen[s.String()] = true
	}
	assert.Len(t, seen, 6)
	for r := breaker.ReasonConsecutiveFailures; r <= breaker.ReasonForgotten; r++ {
		assert.NotContains(t, r.String(), "(")
		seen[r.String()] = true
	}
	assert.Len(t, seen, 14)
	assert.Equal(t, "State(9)", breaker.State(9).String())
	assert.Equal(t, "Reason(0)", breaker.Reason(0).String())
	assert.Equal(t, "failure", breaker.Failure.String())
}
