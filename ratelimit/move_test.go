package ratelimit_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/ratelimit"
)

func TestAKeyThatIsMovedKeepsWhatIsKnownOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, threeLevels(plenty, plenty, ratelimit.Limit{Rate: 1, Burst: 3}))
		require.NoError(t, admit(s, request{Tenant: "a", Key: "old", Cost: 3}))
		done := later(t.Context(), s, request{Tenant: "a", Key: "old"})
		s.Freeze(ratelimit.Scope[string]{Level: ratelimit.LevelKey, Tenant: "a", Key: "old"}, time.Now().Add(5*time.Second))
		s.Move("a", "old", "new")
		assert.Equal(t, 1, s.Stats(0).Keys)
		assert.NoError(t, admit(s, request{Tenant: "a", Key: "old", MaxWait: 1}), "the old one begins anew")
		began := time.Now()
		assert.NoError(t, admit(s, request{Tenant: "a", Key: "new", Free: true}))
		assert.Equal(t, 5*time.Second, time.Since(began), "frozen")
		assert.NoError(t, finished(t, done))
	})
}

// Two keys that turn out to be one have been one all along.
func TestTwoKeysThatBecomeOneKeepToTheLimitOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const burst = 4
		s := newScheduler[string](t, threeLevels(plenty, plenty, ratelimit.Limit{Rate: 1, Burst: burst}))
		var mu sync.Mutex
		var order []string
		ask := func(key string, lane, i int) {
			go func() {
				_, err := s.Admit(t.Context(), request{Tenant: "a", Key: key, Lane: lane, Slotless: true})
				assert.NoError(t, err)
				mu.Lock()
				defer mu.Unlock()
				order = append(order, fmt.Sprintf("%d/%02d", lane, i))
			}()
			synctest.Wait()
		}
		require.NoError(t, admit(s, request{Tenant: "a", Key: "@name", Cost: burst}))
		require.NoError(t, admit(s, request{Tenant: "a", Key: "-1001", Cost: burst}))
		for i := range 30 {
			ask([]string{"@name", "-1001"}[i%2], i/2%2, i)
		}
		s.Move("a", "@name", "-1001")
		s.Move("a", "@name", "-1001") // again is nothing
		for i := 30; i < 40; i++ {
			ask("-1001", 0, i)
		}
		began := time.Now()
		assert.Equal(t, 1, s.Stats(0).Keys)
		for n := 1; n <= 100; n++ {
			time.Sleep(time.Second)
			synctest.Wait()
			mu.Lock()
			assert.LessOrEqual(t, len(order), max(0, n-burst), "what both had missing adds up")
			mu.Unlock()
		}
		mu.Lock()
		defer mu.Unlock()
		require.Len(t, order, 40, "in %v", time.Since(began))
		last := map[byte]string{}
		for _, o := range order {
			assert.Greater(t, o, last[o[0]], "in the order in which they came, within a lane")
			last[o[0]] = o
		}
		assert.Zero(t, s.Stats(0).Waiting)
	})
}

func TestTwoKeysThatBecomeOneKeepTheLongerFreeze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, first := range []time.Duration{time.Second, time.Minute} {
			s := newScheduler[string](t, ratelimit.Config{})
			key := func(k string) ratelimit.Scope[string] {
				return ratelimit.Scope[string]{Level: ratelimit.LevelKey, Tenant: "a", Key: k}
			}
			s.Freeze(key("old"), time.Now().Add(first))
			s.Freeze(key("new"), time.Now().Add(30*time.Second))
			old, other := later(t.Context(), s, request{Tenant: "a", Key: "old"}), later(t.Context(), s, request{Tenant: "a", Key: "new"})
			s.Move("a", "old", "new")
			began := time.Now()
			assert.NoError(t, <-old)
			assert.NoError(t, <-other)
			assert.Equal(t, max(first, 30*time.Second), time.Since(began))
			assert.Zero(t, s.Stats(0).FrozenKeys)
		}
	})
}

func TestAMoveToWhereUnitsAreThereWakesWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler[string](t, ratelimit.Config{Tenant: ratelimit.Limits{Keys: []ratelimit.Limit{{Rate: 0.001, Burst: 2}}}})
		require.NoError(t, admit(s, request{Tenant: "a", Key: "old"}))
		big := later(t.Context(), s, request{Tenant: "a", Key: "old", Cost: 2, Lane: 1})
		small := later(t.Context(), s, request{Tenant: "a", Key: "old", Lane: 1})
		s.Freeze(ratelimit.Scope[string]{Level: ratelimit.LevelKey, Tenant: "a", Key: "new"}, time.Now().Add(time.Second))
		s.Move("a", "old", "new")
		urgent := later(t.Context(), s, request{Tenant: "a", Key: "new"})
		time.Sleep(time.Second)
		assert.NoError(t, finished(t, urgent), "it is of the more urgent lane")
		waiting(t, big)
		waiting(t, small)
		assert.NoError(t, <-small)
		assert.NoError(t, <-big)
	})
}

func TestMovesThatMeanNothing(t *testing.T) {
	s := newScheduler[string](t, threeLevels(plenty, plenty, ratelimit.Limit{Burst: 1}))
	require.NoError(t, admit(s, request{Tenant: "a", Key: "x"}))
	s.Move("a", "x", "x")
	s.Move("a", "x", "")
	s.Move("a", "", "x")
	s.Move("a", "y", "x")
	s.Move("b", "x", "y")
	assert.Error(t, admit(s, request{Tenant: "a", Key: "x", MaxWait: 1}), "all is as it was")
	f := newScheduler[float64](t, ratelimit.Config{Tenant: ratelimit.Limits{Keys: []ratelimit.Limit{{Burst: 1}}}})
	nan := nan()
	_, err := f.Admit(t.Context(), ratelimit.Request[float64]{Tenant: "a", Key: nan})
	assert.ErrorContains(t, err, "not equal to itself")
	f.Move("a", 1, nan)
	f.Freeze(ratelimit.Scope[float64]{Level: ratelimit.LevelKey, Tenant: "a", Key: nan}, time.Now().Add(time.Hour))
	assert.Zero(t, f.Stats(0).Keys)
}
