package health_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
)

// register says who is gone: all but those that are in it.
type register struct {
	mu    sync.Mutex
	known []string
	err   error
	asked int
	then  func() // called when it has looked
}

func (r *register) gone(_ context.Context, tenants []string) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked += len(tenants)
	if r.then != nil {
		defer r.then()
	}
	return slices.DeleteFunc(slices.Clone(tenants), func(id string) bool { return slices.Contains(r.known, id) }), r.err
}

func (r *register) set(err error, known ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err, r.known = err, known
}

// killed returns a store in which a process left an ill tenant and a well one.
func killed(t *testing.T) health.Store {
	store := health.NewMemoryStore()
	ctx, kill := context.WithCancel(t.Context())
	m := newMonitor(t, health.Config{Store: store})
	require.NoError(t, m.Start(ctx))
	calls(m, "gone", 30, errors.Timeout)
	calls(m, "stays", 30, errors.Timeout)
	time.Sleep(6 * time.Minute)
	kill()
	_ = m.Stop(t.Context())
	require.Len(t, stored(t, store), 2)
	return store
}

func TestATenantThatWasRemovedBeforeACrashIsNotLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, reg, alerts := killed(t), &register{known: []string{"stays"}}, &told{}
		m := newMonitor(t, health.Config{Store: store, Gone: reg.gone, Alerts: health.AlertConfig{Handlers: []health.AlertHandler{alerts}}})
		require.NoError(t, m.Start(t.Context()))
		time.Sleep(time.Second)
		_, found := m.Get("gone")
		assert.False(t, found)
		assert.Equal(t, health.Unhealthy, get(t, m, "stays").Status)
		assert.NotContains(t, stored(t, store), "gone")
		assert.Contains(t, stored(t, store), "stays")
		time.Sleep(time.Hour)
		require.NoError(t, m.Stop(t.Context()))
		require.NotEmpty(t, alerts.all())
		for _, a := range alerts.all() {
			for _, tr := range a.Transitions {
				assert.Equal(t, "stays", tr.Tenant)
			}
		}
		assert.EqualValues(t, 1, m.Fleet().Tenants)
	})
}

func TestWhoWasBusyUntilACrashGoesWithinHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, reg := killed(t), &register{known: []string{"stays"}}
		busy := stored(t, store)["gone"]
		busy.LastUpdate = time.Now()
		require.NoError(t, store.Merge(t.Context(), health.Flush{Writer: "w", Seq: 1}, []health.Snapshot{busy}))
		m := newMonitor(t, health.Config{Store: store, Gone: reg.gone})
		require.NoError(t, m.Start(t.Context()))
		time.Sleep(time.Second)
		get(t, m, "gone") // it may be somebody new
		time.Sleep(70 * time.Minute)
		_, found := m.Get("gone")
		assert.False(t, found)
		assert.Empty(t, slices.DeleteFunc(m.Unhealthy(), func(r health.Report) bool { return r.Tenant == "stays" }))
		assert.NotContains(t, stored(t, store), "gone")
		get(t, m, "stays")
		require.NoError(t, m.Stop(t.Context()))
	})
}

func TestALookUpThatFailsForgetsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, reg := killed(t), &register{err: errDown}
		m := newMonitor(t, health.Config{Store: store, Gone: reg.gone})
		require.NoError(t, m.Start(t.Context()))
		time.Sleep(5 * time.Hour)
		require.NoError(t, m.Ready())
		get(t, m, "gone")
		assert.Len(t, stored(t, store), 2)
		reg.set(nil, "stays")
		time.Sleep(70 * time.Minute)
		_, found := m.Get("gone")
		assert.False(t, found)
		get(t, m, "stays")
		require.NoError(t, m.Stop(t.Context()))
		assert.NotContains(t, stored(t, store), "gone")
	})
}

func TestWhoRegistersMeanwhileLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, reg := killed(t), &register{err: errDown}
		m := newMonitor(t, health.Config{Store: store, Gone: reg.gone})
		other := newMonitor(t, health.Config{Store: store})
		require.NoError(t, m.Start(t.Context()))
		require.NoError(t, other.Start(t.Context()))
		time.Sleep(time.Minute)
		reg.mu.Lock()
		reg.err, reg.then = nil, func() { // both were unknown, and one registers now, with two replicas
			m.Observe("gone", health.Outcome{})
			other.Suspend("gone", "unpaid") // saved at once
			synctest.Wait()
		}
		reg.mu.Unlock()
		time.Sleep(70 * time.Minute)
		assert.EqualValues(t, 31, get(t, m, "gone").Requests)
		require.NotNil(t, stored(t, store)["gone"].Suspension)
		_, found := m.Get("stays")
		assert.False(t, found)
		require.NoError(t, m.Stop(t.Context()))
		require.NoError(t, other.Stop(t.Context()))
		assert.EqualValues(t, 31, stored(t, store)["gone"].Requests)
	})
}

func TestReplicasForgetAlsoWhoIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := &register{}
		m := newMonitor(t, health.Config{Gone: reg.gone})
		require.NoError(t, m.Start(t.Context()))
		for i := range 1200 {
			m.Observe(string(rune('a'+i)), health.Outcome{})
		}
		time.Sleep(26 * time.Hour)
		assert.Zero(t, m.Fleet().Tenants)
		assert.Equal(t, 1200, reg.asked, "once each")
		require.NoError(t, m.Stop(t.Context()))
	})
}

func TestOfEachTimeOfASnapshotTheLatestCounts(t *testing.T) {
	at := time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC)
	for name, s := range map[string]health.Snapshot{
		"success":    {LastSuccess: at},
		"failure":    {LastFailure: at},
		"update":     {LastUpdate: at},
		"state":      {State: health.State{At: at}},
		"webhook":    {Webhook: &health.WebhookInfo{At: at}},
		"suspension": {Suspension: &health.Suspension{At: at}},
		"told":       {Told: &health.Told{At: at}},
	} {
		t.Run(name, func(t *testing.T) {
			s.RateLimitedUntil = at.Add(time.Hour) // which is no time at which it was
			assert.Equal(t, at, s.Latest())
			s.Merge(health.Snapshot{LastSuccess: at.Add(-time.Hour), State: health.State{At: at.Add(-time.Minute)}})
			assert.Equal(t, at, s.Latest())
		})
	}
	assert.Zero(t, (&health.Snapshot{Requests: 1}).Latest())
}
