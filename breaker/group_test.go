package breaker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/breaker"
)

func newGroup(t testing.TB, cfg breaker.GroupConfig[int]) *breaker.Group[int] {
	t.Helper()
	g, err := breaker.NewGroup(cfg)
	require.NoError(t, err)
	return g
}

func groupCalls(t testing.TB, g *breaker.Group[int], key, n int, err error) {
	t.Helper()
	for range n {
		p, refusal := g.Allow(key)
		require.NoError(t, refusal)
		p.Done(bg, err)
	}
}

func TestEachKeyHasABreakerOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type change struct {
			key int
			to  breaker.State
		}
		var told []change
		g := newGroup(t, breaker.GroupConfig[int]{OnStateChange: func(key int, c breaker.Change) { told = append(told, change{key, c.To}) }})
		groupCalls(t, g, 1, 5, errBoom)
		groupCalls(t, g, 2, 4, errBoom)
		assert.ErrorIs(t, g.Do(bg, 1, func(context.Context) error { return nil }), breaker.ErrOpen)
		assert.Equal(t, breaker.Open, g.State(1))
		assert.Positive(t, g.RemainingDelay(1))
		assert.NoError(t, g.Do(bg, 2, func(context.Context) error { return nil }))
		assert.Zero(t, g.RemainingDelay(3))
		assert.Equal(t, breaker.Counts{}, g.Counts(3))
		assert.Equal(t, 2, g.Stats().Keys, "to ask for a key does not make it")
		g.Reset(1)
		g.Reset(3)
		groupCalls(t, g, 1, 1, nil)
		g.Trip(2, time.Second)
		require.NoError(t, g.Force(3, breaker.Disabled))
		require.Error(t, g.Force(3, 17))
		groupCalls(t, g, 3, 20, errBoom)
		assert.Equal(t, []change{{1, breaker.Open}, {1, breaker.Closed}, {2, breaker.Open}, {3, breaker.Disabled}}, told)
	})
}

func TestAStateThatIsNotNeutralIsNeverEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const room = 20
		g := newGroup(t, breaker.GroupConfig[int]{
			Breaker: breaker.Config{FailureRate: 1, MinCalls: 100, Window: time.Hour, Jitter: -1, ConsecutiveFailures: 3, SlowAfter: time.Second},
			MaxKeys: room,
		})
		groupCalls(t, g, 1, 3, errBoom) // open
		groupCalls(t, g, 2, 2, errBoom) // on its way
		running, err := g.Allow(3)      // under way
		require.NoError(t, err)
		require.NoError(t, g.Force(4, breaker.ForcedOpen))
		require.NoError(t, g.Force(5, breaker.Disabled))
		groupCalls(t, g, 6, 2, errBoom) // a failure in the window
		groupCalls(t, g, 6, 1, nil)
		slow, err := g.Allow(8)
		require.NoError(t, err)
		g.Trip(7, time.Second)
		time.Sleep(time.Second)
		slow.Done(bg, nil)
		probe, err := g.Allow(7) // half-open
		require.NoError(t, err)

		for i := range 5000 {
			groupCalls(t, g, 100+i, 1, nil)
			require.LessOrEqual(t, g.Stats().Keys, room)
		}
		assert.Zero(t, g.Stats().Unrecorded)
		assert.Equal(t, breaker.Open, g.State(1))
		assert.Equal(t, 59*time.Second, g.RemainingDelay(1))
		groupCalls(t, g, 2, 1, errBoom)
		assert.Equal(t, breaker.Open, g.State(2))
		assert.Equal(t, 1, g.Counts(3).InFlight)
		assert.Equal(t, breaker.ForcedOpen, g.State(4))
		assert.Equal(t, breaker.Disabled, g.State(5))
		assert.Equal(t, 2, g.Counts(6).Failures)
		assert.Equal(t, 1, g.Counts(8).Slow)
		assert.Equal(t, breaker.HalfOpen, g.State(7))
		running.Done(bg, errBoom)
		assert.Equal(t, 1, g.Counts(3).ConsecutiveFailures)
		probe.Done(bg, nil)
		assert.Equal(t, 1, g.Counts(7).Successes)
	})
}

func TestWithoutRoomCallsPassUnrecordedUntilSomethingIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		g := newGroup(t, breaker.GroupConfig[int]{MaxKeys: 3, ForgetAfter: time.Hour,
			OnStateChange: func(key int, c breaker.Change) { told = append(told, fmt.Sprint(key, " ", c)) }})
		groupCalls(t, g, 1, 5, errBoom)
		groupCalls(t, g, 2, 1, errBoom)
		hung, err := g.Allow(3)
		require.NoError(t, err)
		groupCalls(t, g, 4, 20, errBoom)
		assert.Equal(t, breaker.Closed, g.State(4))
		assert.Equal(t, breaker.GroupStats{Keys: 3, Unrecorded: 20}, g.Stats())

		// The cool-down is over, but a probe is still due.
		time.Sleep(59 * time.Minute)
		groupCalls(t, g, 4, 1, nil)
		assert.Equal(t, breaker.GroupStats{Keys: 3, Unrecorded: 21}, g.Stats())
		assert.Equal(t, breaker.Open, g.State(1))

		time.Sleep(10 * time.Minute)
		told = nil
		for key := range 3 { // each takes the place of one
			groupCalls(t, g, 4+key, 1, errBoom)
		}
		assert.Equal(t, breaker.GroupStats{Keys: 3, Unrecorded: 21}, g.Stats())
		assert.Equal(t, []string{"1 open to closed: forgotten"}, told)
		hung.Done(bg, errBoom) // harms nobody
		assert.Equal(t, breaker.Counts{}, g.Counts(3))

		// A key that is forced is kept even so.
		require.NoError(t, g.Force(9, breaker.ForcedOpen))
		assert.Equal(t, breaker.ForcedOpen, g.State(9))
		time.Sleep(24 * time.Hour)
		for key := range 10 {
			groupCalls(t, g, 100+key, 1, nil)
		}
		assert.Equal(t, breaker.ForcedOpen, g.State(9))
		assert.LessOrEqual(t, g.Stats().Keys, 3)
	})
}

func TestAGroupThatBeginsForcedOpenRefusesWithoutRoomToo(t *testing.T) {
	g := newGroup(t, breaker.GroupConfig[int]{MaxKeys: 1, Breaker: breaker.Config{Start: breaker.ForcedOpen}})
	require.NoError(t, g.Force(1, breaker.Closed))
	groupCalls(t, g, 1, 1, nil)
	for range 3 {
		_, err := g.Allow(2)
		assert.ErrorIs(t, err, breaker.ErrOpen)
	}
	assert.Zero(t, g.Stats().Unrecorded)
}

// However long nobody has called: what counts is when something was learned
// last, and until when a key is open.
func TestAKeyIsNotForgottenWhileWhatItKnowsIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, breaker.GroupConfig[int]{MaxKeys: 2, ForgetAfter: time.Hour})
		g.Trip(1, 24*time.Hour)
		late, err := g.Allow(2)
		require.NoError(t, err)
		time.Sleep(23 * time.Hour)
		late.Done(bg, errBoom)
		groupCalls(t, g, 3, 1, nil)
		assert.Equal(t, breaker.Open, g.State(1))
		assert.Equal(t, 1, g.Counts(2).ConsecutiveFailures)
		assert.EqualValues(t, 1, g.Stats().Unrecorded)
		time.Sleep(time.Hour)
		groupCalls(t, g, 3, 1, nil)
		assert.Equal(t, breaker.Open, g.State(1))
		assert.Zero(t, g.Counts(2).ConsecutiveFailures)
		assert.EqualValues(t, 1, g.Stats().Unrecorded)
	})
}

// Nobody notes when calls are made. A key that always has one under way looks
// the same from one time to the next, but for how many there were.
func TestAKeyThatIsInUseIsNotTakenForOneWhosePermitWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, breaker.GroupConfig[int]{MaxKeys: 1, ForgetAfter: time.Hour})
		held, err := g.Allow(1)
		require.NoError(t, err)
		for range 10 {
			groupCalls(t, g, 2, 1, nil) // looks for room
			time.Sleep(59 * time.Minute)
			next, err := g.Allow(1)
			require.NoError(t, err)
			held.Done(bg, nil)
			held = next
		}
		assert.Equal(t, 1, g.Counts(1).InFlight)
		assert.EqualValues(t, 10, g.Stats().Unrecorded)
		held.Cancel()
		groupCalls(t, g, 2, 1, errBoom)
		assert.Equal(t, 1, g.Counts(2).ConsecutiveFailures)
	})
}

func TestAGroupShrinksToWhatIsInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, breaker.GroupConfig[int]{})
		for key := range 1000 {
			groupCalls(t, g, key, 1, nil)
		}
		assert.Equal(t, 1000, g.Stats().Keys, "they may be used again")
		for key := range 2000 {
			time.Sleep(time.Second)
			groupCalls(t, g, 1000+key, 1, nil)
			groupCalls(t, g, 1, 1, nil)
		}
		assert.Less(t, g.Stats().Keys, 400)
	})
}

func TestAGroupNamesEveryBadField(t *testing.T) {
	_, err := breaker.NewGroup(breaker.GroupConfig[int]{MaxKeys: -1, ForgetAfter: -1,
		Breaker: breaker.Config{Probes: -1, OnStateChange: func(breaker.Change) {}}})
	require.Error(t, err)
	for _, name := range []string{"MaxKeys", "ForgetAfter", "Probes", "OnStateChange"} {
		assert.ErrorContains(t, err, name)
	}
}

func TestTheCallbackOfAGroupMayCallTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g *breaker.Group[int]
		var told []string
		g = newGroup(t, breaker.GroupConfig[int]{MaxKeys: 2, ForgetAfter: time.Minute, OnStateChange: func(key int, c breaker.Change) {
			told = append(told, fmt.Sprint(key, " ", c))
			if key != 1 || c.To != breaker.Open {
				return
			}
			_, _, _ = g.State(key), g.Stats(), g.RemainingDelay(key)
			groupCalls(t, g, 50, 1, nil)
			g.Trip(100, time.Second)
			assert.NoError(t, g.Force(key, breaker.WatchOnly))
			g.Reset(key)
			panic("oh")
		}})
		g.Trip(1, 0)
		assert.Equal(t, breaker.Closed, g.State(1))
		assert.Equal(t, []string{
			"1 closed to open: manual",
			"100 closed to open: manual", // another key need not wait
			"1 open to watch-only: manual",
			"1 watch-only to closed: manual",
		}, told)
	})
}

func TestAGroupIsSafeForConcurrentUse(t *testing.T) {
	g := newGroup(t, breaker.GroupConfig[int]{MaxKeys: 30, ForgetAfter: time.Nanosecond,
		Breaker: breaker.Config{FailureRate: 0.5, SlowAfter: time.Millisecond, Window: time.Second, MinCalls: 3, OpenTime: time.Microsecond}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				key := rand.N(60)
				switch rand.N(20) {
				case 0:
					g.Trip(key, time.Microsecond)
				case 1:
					g.Reset(key)
				case 2:
					_ = g.Counts(key)
				default:
					if p, err := g.Allow(key); err == nil {
						if rand.N(2) == 0 {
							p.Done(bg, nil)
						} else {
							p.Done(bg, errBoom)
						}
					}
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkMemory is what a key of a group takes, its map entry included.
func BenchmarkMemory(b *testing.B) {
	for name, cfg := range map[string]breaker.Config{
		"default":         {},
		"rates by count":  {FailureRate: 0.5, SlowAfter: time.Second},
		"rates by time":   {FailureRate: 0.5, SlowAfter: time.Second, Window: time.Minute},
		"after a failure": {},
	} {
		b.Run(name, func(b *testing.B) {
			const keys = 50_000
			for b.Loop() {
				g := newGroup(b, breaker.GroupConfig[int]{Breaker: cfg})
				before := heap()
				for key := range keys {
					groupCalls(b, g, key, 1, nil)
					if name == "after a failure" {
						groupCalls(b, g, key, 1, errBoom)
					}
				}
				b.ReportMetric(float64(heap()-before)/keys, "B/key")
				runtime.KeepAlive(g)
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
