package health_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
)

// Whenever processes crash, each that starts goes on where the handlers were
// left, and nothing is told twice.
func TestCrashesNeitherLoseNorDoubleWhatIsTold(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 1))
				store, h := health.NewMemoryStore(), &told{}
				tenants := names(8)
				for range 12 {
					ctx, kill := context.WithCancel(t.Context())
					m := newMonitor(t, health.Config{Store: store, Thresholds: health.Thresholds{Hold: time.Second},
						Alerts: health.AlertConfig{Handlers: []health.AlertHandler{h}}})
					require.NoError(t, m.Start(ctx))
					synctest.Wait()
					for range rng.IntN(60) {
						id := tenants[rng.IntN(len(tenants))]
						switch rng.IntN(8) {
						case 0:
							m.Suspend(id, "why")
						case 1:
							m.Resume(id)
						case 2, 3, 4:
							calls(m, id, 5, errors.Timeout)
						default:
							time.Sleep(time.Second)
							calls(m, id, 20, errors.None)
						}
						time.Sleep(time.Duration(rng.IntN(int(20 * time.Second))))
					}
					synctest.Wait() // a crash between telling and noting it may double an alert
					kill()
					_ = m.Stop(t.Context())
				}
				m := newMonitor(t, health.Config{Store: store, Alerts: health.AlertConfig{Handlers: []health.AlertHandler{h}}})
				require.NoError(t, m.Start(t.Context()))
				synctest.Wait()
				require.NoError(t, m.Stop(t.Context()))
				last := map[string]health.Status{}
				total := 0
				for _, a := range h.all() {
					for _, tr := range a.Transitions {
						require.Equal(t, last[tr.Tenant], tr.From, "%s at %v", tr.Tenant, tr.At)
						last[tr.Tenant] = tr.To
						total++
					}
				}
				for _, id := range tenants {
					if r, found := m.Get(id); found {
						assert.Equal(t, r.Status, last[id], id)
					}
				}
				assert.Greater(t, total, 10)
			})
		})
	}
}

// Two replicas share a tenant: it fails with one, which tells of it, and not with
// the other, which saves last and came to that status before.
func TestARecoveryThatAnotherReplicaSawIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, h := health.NewMemoryStore(), &told{}
		now := time.Now()
		snap := health.Snapshot{Tenant: "a",
			State: health.State{At: now.Add(-time.Minute), Status: health.Healthy, Since: now.Add(-time.Hour), Streak: 9},
			Told:  &health.Told{At: now.Add(-10 * time.Minute), Status: health.Unhealthy, Group: "platform"}}
		require.NoError(t, store.Merge(t.Context(), health.Flush{Writer: "w", Seq: 1}, []health.Snapshot{snap}))
		for range 3 {
			time.Sleep(time.Minute)
			m := newMonitor(t, health.Config{Store: store, Alerts: health.AlertConfig{Handlers: []health.AlertHandler{h}}})
			require.NoError(t, m.Start(t.Context()))
			synctest.Wait()
			require.NoError(t, m.Stop(t.Context()))
		}
		require.Len(t, h.all(), 1)
		assert.Equal(t, health.Healthy, h.all()[0].Transitions[0].To)
		assert.Equal(t, health.Healthy, stored(t, store)["a"].Told.Status)
	})
}

// An alert that Stop has no time for is told by the next process.
func TestWhatAHandlerWasKeptFromIsToldByTheNextProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, h := health.NewMemoryStore(), &told{}
		hang := health.AlertFunc(func(ctx context.Context, _ health.Alert) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
		start := func(handler health.AlertHandler) *health.Monitor {
			m := newMonitor(t, health.Config{Store: store, Alerts: health.AlertConfig{Handlers: []health.AlertHandler{handler}}})
			require.NoError(t, m.Start(t.Context()))
			synctest.Wait()
			return m
		}
		m := start(hang)
		m.Suspend("a", "")
		time.Sleep(time.Minute) // the handler has it
		calls(m, "b", 5, errors.Timeout)
		require.NoError(t, m.Stop(t.Context()))
		m = start(h)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(t, h.all(), 2)
		require.NoError(t, m.Stop(t.Context()))
		require.NoError(t, start(h).Stop(t.Context()))
		assert.Len(t, h.all(), 2)
	})
}

// What fails before the past is loaded was told by the process before.
func TestATransitionIsNotToldAgainForWantOfThePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &told{}
		slow := &flaky{Store: health.NewMemoryStore()}
		start := func() *health.Monitor {
			m := newMonitor(t, health.Config{Store: slow, Alerts: health.AlertConfig{Handlers: []health.AlertHandler{h}}})
			require.NoError(t, m.Start(t.Context()))
			return m
		}
		m := start()
		calls(m, "a", 5, errors.Timeout)
		require.NoError(t, m.Stop(t.Context()))
		require.Len(t, h.all(), 1)
		loads := 0
		slow.fails = func(op string) string {
			if op == "load" {
				if loads++; loads < 4 {
					return "before"
				}
			}
			return ""
		}
		m = start()
		calls(m, "a", 5, errors.Timeout)
		calls(m, "new", 5, errors.Timeout)
		time.Sleep(10 * time.Minute)
		require.NoError(t, m.Ready())
		require.NoError(t, m.Stop(t.Context()))
		require.Len(t, h.all(), 2)
		require.Len(t, h.all()[1].Transitions, 1)
		assert.Equal(t, "new", h.all()[1].Transitions[0].Tenant)
	})
}
