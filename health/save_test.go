package health_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/healthtest"
)

// flaky is a store whose calls fail, before or after they did their work, or
// hang until their context ends.
type flaky struct {
	health.Store
	mu     sync.Mutex
	fails  func(op string) string // "", "before", "after", "hang"
	merges []int                  // how many snapshots each had
	at     []time.Time
}

var errDown = errors.New("store is down")

func (s *flaky) do(ctx context.Context, op string, work func() error) error {
	how := ""
	if s.fails != nil {
		how = s.fails(op)
	}
	switch how {
	case "before":
		return errDown
	case "hang":
		<-ctx.Done()
		return ctx.Err()
	}
	err := work()
	if how == "after" {
		return errDown
	}
	return err
}

func (s *flaky) Merge(ctx context.Context, f health.Flush, snaps []health.Snapshot) error {
	s.mu.Lock()
	s.merges, s.at = append(s.merges, len(snaps)), append(s.at, time.Now())
	s.mu.Unlock()
	return s.do(ctx, "merge", func() error { return s.Store.Merge(ctx, f, snaps) })
}

func (s *flaky) Load(ctx context.Context, after string, limit int) (list []health.Snapshot, err error) {
	err = s.do(ctx, "load", func() (err error) { list, err = s.Store.Load(ctx, after, limit); return })
	return list, err
}

func TestWhatWasSavedIsThereAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := health.NewMemoryStore()
		ctx := t.Context()
		h := &told{}
		alerts := health.AlertConfig{Handlers: []health.AlertHandler{h}}
		m := newMonitor(t, health.Config{Store: store, Alerts: alerts})
		require.ErrorIs(t, m.Ready(), errors.Unavailable)
		require.NoError(t, m.Start(ctx))
		synctest.Wait()
		require.NoError(t, m.Ready())
		calls(m, "ill", 30, errors.None)
		calls(m, "ill", 5, errors.Timeout)
		time.Sleep(2 * time.Second)
		calls(m, "ill", 1, errors.Timeout)
		calls(m, "well", 3, errors.None)
		m.Update("well", time.Time{})
		m.Suspend("unpaid", "no money")
		m.Quarantine("revoked", "")
		m.SetWebhook("well", health.WebhookInfo{Set: true, Pending: 3, LastErrorAt: time.Now().Add(-time.Hour), LastError: "x"})
		m.Observe("limited", health.Outcome{Kind: errors.RateLimited, RetryAfter: time.Hour})
		m.Suspend("back", "")
		m.Resume("back")
		var before []health.Report
		ids := []string{"ill", "well", "unpaid", "revoked", "limited", "back"}
		for _, id := range ids {
			before = append(before, get(t, m, id))
		}
		require.NoError(t, m.Stop(ctx))
		require.NoError(t, m.Stop(ctx))

		time.Sleep(10 * time.Second)
		h.alerts = nil
		m = newMonitor(t, health.Config{Store: store, Alerts: alerts})
		require.NoError(t, m.Start(ctx))
		synctest.Wait()
		for i, id := range ids {
			got, want := get(t, m, id), before[i]
			want.Window, want.LongWindow = got.Window, got.LongWindow // which are of this process
			want.Reason = got.Reason
			assert.Equal(t, want, got)
		}
		assert.Equal(t, "suspended: no money", get(t, m, "unpaid").Reason)
		assert.Len(t, m.Unhealthy(), 1)
		assert.Equal(t, 2, m.Fleet().Suspended)
		assert.Equal(t, 1, m.Fleet().Unhealthy)
		time.Sleep(time.Minute)
		calls(m, "ill", 3, errors.None)
		assert.Equal(t, health.Healthy, get(t, m, "ill").Status)
		require.NoError(t, m.Stop(ctx))
		require.Len(t, h.all(), 1, "what was told before the restart is not told again")
		assert.Equal(t, "platform", h.all()[0].Group, "a recovery is told with what it recovers from")
	})
}

func TestOnlyWhatChangedIsSavedInBatchesEveryFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &flaky{Store: health.NewMemoryStore()}
		m := newMonitor(t, health.Config{Store: store, SaveBatch: 40})
		require.NoError(t, m.Start(t.Context()))
		start := time.Now()
		for _, id := range names(100) {
			m.Observe(id, health.Outcome{})
		}
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		assert.Equal(t, []int{40, 40, 20}, store.merges)
		assert.WithinDuration(t, start.Add(5*time.Minute), store.at[0], 30*time.Second)
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.Len(t, store.merges, 3, "nothing changed")
		m.Update("tenant-000007", time.Time{})
		m.Observe("new", health.Outcome{})
		require.NoError(t, m.Stop(t.Context()))
		assert.Equal(t, []int{40, 40, 20, 2}, store.merges)
	})
}

func TestAStoreThatFailsIsTriedAgainAndBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		down := true
		store := &flaky{Store: health.NewMemoryStore()}
		store.fails = func(string) string {
			store.mu.Lock()
			defer store.mu.Unlock()
			if down {
				return "hang"
			}
			return ""
		}
		m := newMonitor(t, health.Config{Store: store, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, m.Start(t.Context()))
		start := time.Now()
		calls(m, "a", 100, errors.None)
		assert.Equal(t, 10*time.Second, time.Since(start), "no call waits")
		assert.EqualValues(t, 100, get(t, m, "a").Requests)
		time.Sleep(time.Hour)
		require.Error(t, m.Ready())
		store.mu.Lock()
		down = false
		store.mu.Unlock()
		time.Sleep(2 * time.Minute)
		require.NoError(t, m.Ready())
		require.NoError(t, m.Stop(t.Context()))
		assert.EqualValues(t, 100, stored(t, store.Store)["a"].Requests)
		assert.Contains(t, log.String(), "load health snapshots")

		down = true
		m = newMonitor(t, health.Config{Store: store})
		require.NoError(t, m.Start(t.Context()))
		m.Observe("a", health.Outcome{})
		start = time.Now()
		require.Error(t, m.Stop(t.Context()), "a store that stays away is given up")
		assert.Less(t, time.Since(start), 2*time.Minute)
	})
}

func stored(t require.TestingT, s health.Store) map[string]health.Snapshot {
	all := map[string]health.Snapshot{}
	after := ""
	for {
		page, err := s.Load(context.Background(), after, 0)
		require.NoError(t, err)
		if len(page) == 0 {
			return all
		}
		for _, snap := range page {
			all[snap.Tenant], after = snap, snap.Tenant
		}
	}
}

// Two replicas save to a store that fails in all ways, one after the other is
// killed or stopped and starts again. What is stored is what was counted, but
// for what the killed ones had not saved.
func TestReplicasAddUpAndNothingIsCountedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, chance := rand.New(rand.NewPCG(5, 6)), rand.New(rand.NewPCG(7, 8))
		memory := health.NewMemoryStore()
		var mu sync.Mutex
		store := func() *flaky {
			return &flaky{Store: memory, fails: func(string) string {
				mu.Lock()
				defer mu.Unlock()
				return []string{"", "", "", "", "before", "after"}[chance.IntN(6)]
			}}
		}
		type replica struct {
			m    *health.Monitor
			kill context.CancelFunc
		}
		start := func() *replica {
			ctx, cancel := context.WithCancel(t.Context())
			m := newMonitor(t, health.Config{Store: store(), SaveBatch: 7})
			require.NoError(t, m.Start(ctx))
			return &replica{m, cancel}
		}
		replicas := []*replica{start(), start()}
		var counted, lost int
		var lately [2]int // since the last time all was surely saved
		for i := range 600 {
			for which, rep := range replicas {
				for range r.IntN(20) {
					rep.m.Observe(fmt.Sprint("t", r.IntN(30)), health.Outcome{Latency: time.Duration(1+r.IntN(200)) * time.Millisecond})
					counted++
					lately[which]++
				}
			}
			time.Sleep(time.Minute)
			if i%29 != 0 {
				continue
			}
			which := r.IntN(2)
			old := replicas[which]
			if r.IntN(2) == 0 {
				old.kill()
			}
			if old.m.Stop(t.Context()) != nil {
				lost += lately[which]
			}
			old.kill()
			lately[which] = 0
			replicas[which] = start()
		}
		for which, rep := range replicas {
			if rep.m.Stop(t.Context()) != nil {
				lost += lately[which]
			}
			rep.kill()
		}
		var sum uint64
		for _, snap := range stored(t, memory) {
			sum += snap.Requests
		}
		assert.LessOrEqual(t, sum, uint64(counted))
		assert.GreaterOrEqual(t, sum, uint64(counted-lost))
		assert.Less(t, sum, uint64(counted), "a killed replica loses what it had not saved, or this tests nothing")

		m := newMonitor(t, health.Config{Store: memory})
		require.NoError(t, m.Start(t.Context()))
		synctest.Wait()
		var loaded uint64
		for i := range 30 {
			loaded += get(t, m, fmt.Sprint("t", i)).Requests
		}
		assert.Equal(t, sum, loaded)
		require.NoError(t, m.Stop(t.Context()))
	})
}

func TestForgetAlsoForgetsWhatIsOnItsWayToTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		how := ""
		set := func(to string) { mu.Lock(); how = to; mu.Unlock() }
		store := &flaky{Store: health.NewMemoryStore(), fails: func(string) string { mu.Lock(); defer mu.Unlock(); return how }}
		m := newMonitor(t, health.Config{Store: store})
		require.NoError(t, m.Start(t.Context()))
		synctest.Wait()
		set("before")
		m.Observe("gone", health.Outcome{})
		m.Observe("stays", health.Outcome{})
		time.Sleep(10 * time.Minute)
		require.NoError(t, m.Forget(t.Context(), "gone"))
		set("after")
		time.Sleep(2 * time.Minute)
		set("")
		require.NoError(t, m.Stop(t.Context()))
		got := stored(t, store.Store)
		assert.NotContains(t, got, "gone")
		assert.EqualValues(t, 1, got["stays"].Requests)
	})
}

// BenchmarkStore is a memory store: what a database adds is measured with the
// database.
func BenchmarkStore(b *testing.B) {
	healthtest.BenchmarkStore(b, func(testing.TB) health.Store { return health.NewMemoryStore() })
}
