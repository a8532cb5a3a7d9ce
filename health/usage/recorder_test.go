package usage_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
)

// gate is a store that can be away.
type gate struct {
	usage.Store
	mu   sync.Mutex
	away bool
	adds []int
}

func (g *gate) set(away bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.away = away
}

func (g *gate) Add(ctx context.Context, f health.Flush, list []usage.Rollup) error {
	g.mu.Lock()
	away := g.away
	g.adds = append(g.adds, len(list))
	g.mu.Unlock()
	if away {
		return errors.New("away")
	}
	return g.Store.Add(ctx, f, list)
}

var ever = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)

func stored(t *testing.T, s usage.Store, tenant string) []usage.Rollup {
	t.Helper()
	list, err := s.Range(context.Background(), tenant, time.Time{}, ever)
	require.NoError(t, err)
	return list
}

func sum(list []usage.Rollup) (requests, updates uint64) {
	for _, r := range list {
		requests += r.Requests
		updates += r.Received
	}
	return requests, updates
}

func TestWhatIsReportedGoesIntoTheHourInWhichItHappened(t *testing.T) {
	store := usage.NewMemoryStore()
	r := newRecorder(t, usage.Config{Store: store})
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", 1800)) // 11:30 UTC
	for _, minutes := range []int{0, 29, 30, 31, -31, 120, 0, 95, 1} {
		r.Observe("a", usage.Call{At: at.Add(time.Duration(minutes) * time.Minute), Method: "sendMessage"})
	}
	r.Update("a", usage.Update{At: at, Type: "message"})
	r.Observe("a", usage.Call{At: at, Kind: errors.Canceled}) // says nothing
	r.Observe("a", usage.Call{At: time.Unix(-1, 0), Method: "sendMessage"})
	require.NoError(t, r.Flush(t.Context()))
	var got []string
	for _, u := range stored(t, store, "a") {
		got = append(got, fmt.Sprint(u.Start.Format("15:04"), " ", u.Requests, "+", u.Received))
	}
	assert.Equal(t, []string{"23:00 1+0", "10:00 1+0", "11:00 4+1", "12:00 2+0", "13:00 2+0"}, got)
}

func TestAFailingStoreLosesNothingAndBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		g := &gate{Store: usage.NewMemoryStore(), away: true}
		r := newRecorder(t, usage.Config{Store: g, Batch: 3, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, r.Start(t.Context()))
		require.ErrorIs(t, r.Start(t.Context()), errors.Exists)
		start := time.Now()
		for i := range 3600 {
			time.Sleep(time.Second)
			r.Observe(fmt.Sprint("t", i%10), usage.Call{Method: "sendMessage"})
			r.Update(fmt.Sprint("t", i%10), usage.Update{Type: "message"})
		}
		assert.Equal(t, time.Hour, time.Since(start))
		require.Error(t, r.Flush(t.Context()))
		g.set(false)
		require.NoError(t, r.Stop(t.Context()))
		require.NoError(t, r.Stop(t.Context()))
		assert.Contains(t, log.String(), "flush usage")
		for i := range 10 {
			calls, updates := sum(stored(t, g.Store, fmt.Sprint("t", i)))
			assert.EqualValues(t, 360, calls)
			assert.EqualValues(t, 360, updates)
		}
		assert.Zero(t, r.Dropped())
		for _, n := range g.adds {
			assert.LessOrEqual(t, n, 3)
		}
		require.ErrorIs(t, r.Start(t.Context()), errors.Closed)
	})
}

func TestWhatAStoreThatStaysAwayCostsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{Store: usage.NewMemoryStore(), away: true}
		r := newRecorder(t, usage.Config{Store: g, MaxRollups: 20})
		require.NoError(t, r.Start(t.Context()))
		for range 10 {
			for i := range 5 {
				for range 7 {
					r.Observe(fmt.Sprint("t", i), usage.Call{Method: "getMe"})
				}
			}
			time.Sleep(time.Hour)
		}
		assert.EqualValues(t, (10*5-20)*7, r.Dropped())
		start := time.Now()
		require.Error(t, r.Stop(t.Context()))
		assert.Less(t, time.Since(start), 2*time.Minute)

		// With the store back there is room again.
		g.set(false)
		require.NoError(t, r.Flush(t.Context()))
		var calls uint64
		for i := range 5 {
			n, _ := sum(stored(t, g.Store, fmt.Sprint("t", i)))
			calls += n
		}
		assert.EqualValues(t, 20*7, calls)
		r.Observe("new", usage.Call{Method: "getMe"})
		assert.EqualValues(t, (10*5-20)*7, r.Dropped())
	})
}

func TestStopEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t, usage.Config{Store: &gate{Store: usage.NewMemoryStore(), away: true}})
		require.NoError(t, r.Start(t.Context()))
		r.Observe("a", usage.Call{Method: "getMe"})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		require.Error(t, r.Stop(ctx))
		assert.Equal(t, 5*time.Second, time.Since(start))

		never := newRecorder(t, usage.Config{})
		require.NoError(t, never.Stop(t.Context()))
	})
}

func TestForgetDropsAllOfATenant(t *testing.T) {
	g := &gate{Store: usage.NewMemoryStore()}
	r := newRecorder(t, usage.Config{Store: g})
	report := func() {
		for _, id := range []string{"gone", "stays"} {
			r.Observe(id, usage.Call{Method: "getMe"})
			r.Observe(id, usage.Call{Method: "getMe", At: time.Now().Add(-3 * time.Hour)})
		}
	}
	report()
	require.NoError(t, r.Flush(t.Context()))
	report()
	g.set(true)
	require.Error(t, r.Flush(t.Context())) // on its way
	report()
	require.NoError(t, r.Forget(t.Context(), "gone"))
	g.set(false)
	require.NoError(t, r.Flush(t.Context()))
	assert.Empty(t, stored(t, g.Store, "gone"))
	calls, _ := sum(stored(t, g.Store, "stays"))
	assert.EqualValues(t, 6, calls)
}

func TestHoursBecomeDaysAndDaysEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := usage.NewMemoryStore()
		r := newRecorder(t, usage.Config{Store: store, Daily: 60 * usage.Day, FlushEvery: time.Hour})
		require.NoError(t, r.Start(t.Context()))
		for range 100 * 8 {
			r.Observe("a", usage.Call{Method: "getMe"})
			time.Sleep(3 * time.Hour)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		hours, days := 0, 0
		for _, u := range stored(t, store, "a") {
			age := time.Since(u.Start)
			if u.Daily {
				days++
				assert.EqualValues(t, 8, u.Requests)
				assert.Greater(t, age, 35*usage.Day)
				assert.Less(t, age, 61*usage.Day+2*time.Hour)
			} else {
				hours++
				assert.Less(t, age, 36*usage.Day+2*time.Hour)
			}
		}
		assert.InDelta(t, 35*8, hours, 8)
		assert.InDelta(t, 25, days, 2)

		rep, err := usage.NewReporter(store, nil).Report(t.Context(), "a", time.Now().Add(-50*usage.Day).Truncate(usage.Day), time.Now(), nil)
		require.NoError(t, err)
		assert.Len(t, rep.Days, 51)
		for _, d := range rep.Days[:50] {
			assert.EqualValues(t, 8, d.Requests, d.Date)
		}
		require.NoError(t, r.Stop(t.Context()))

		kept := newRecorder(t, usage.Config{Store: store, Hourly: -1, Daily: -1})
		require.NoError(t, kept.Tidy(t.Context()))
		assert.Len(t, stored(t, store, "a"), hours+days)
	})
}

func TestManyReportAtOnceAndNothingIsLost(t *testing.T) {
	store := usage.NewMemoryStore()
	r := newRecorder(t, usage.Config{Store: store, FlushEvery: time.Second})
	require.NoError(t, r.Start(t.Context()))
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 3000 {
				r.Observe(fmt.Sprint("t", i%20), usage.Call{Method: "sendMessage", Chat: usage.Chat{ID: int64(i)}, At: time.Now().Add(-time.Duration(i%3) * time.Hour)})
				r.Update(fmt.Sprint("t", i%20), usage.Update{Type: "message", Chat: usage.Chat{ID: int64(w)}})
				if i%500 == 0 {
					assert.NoError(t, r.Flush(context.Background()))
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, r.Stop(t.Context()))
	var calls, updates uint64
	for i := range 20 {
		c, u := sum(stored(t, store, fmt.Sprint("t", i)))
		calls, updates = calls+c, updates+u
	}
	assert.EqualValues(t, 24000, calls)
	assert.EqualValues(t, 24000, updates)
}

func TestAConfigIsChecked(t *testing.T) {
	_, err := usage.New(usage.Config{FlushEvery: -1, Batch: -1, MaxRollups: -1, TidyEvery: time.Millisecond, Hourly: time.Hour})
	for _, field := range []string{"Store", "FlushEvery", "Batch", "MaxRollups", "TidyEvery", "Hourly"} {
		assert.ErrorContains(t, err, field)
	}
	_, err = usage.New(usage.Config{Store: usage.NewMemoryStore(), Hourly: 35 * usage.Day, Daily: 30 * usage.Day})
	assert.ErrorContains(t, err, "Daily is below Hourly")
}
