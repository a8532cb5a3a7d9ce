package health_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
)

func TestADecisionIsSavedAtOnceAndOutlivesACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := health.NewMemoryStore()
		ctx, kill := context.WithCancel(t.Context())
		m := newMonitor(t, health.Config{Store: store, SaveBatch: 2})
		m.Suspend("early", "") // before there is anybody to save it
		require.NoError(t, m.Start(ctx))
		for _, id := range names(100) {
			m.Observe(id, health.Outcome{})
		}
		for i := range 5 {
			m.Suspend(fmt.Sprint("shop", i), "unpaid")
		}
		synctest.Wait()
		got := stored(t, store)
		assert.Len(t, got, 6, "and nothing else is hurried")
		assert.Equal(t, "unpaid", got["shop4"].Suspension.Reason)
		m.Resume("shop4")
		synctest.Wait()
		assert.False(t, stored(t, store)["shop4"].Suspension.Suspended)
		kill()
		require.Error(t, m.Stop(t.Context()))

		m = newMonitor(t, health.Config{Store: store})
		require.NoError(t, m.Start(t.Context()))
		synctest.Wait()
		assert.Equal(t, 5, m.Fleet().Suspended)
		require.NoError(t, m.Stop(t.Context()))
	})
}

func TestAResumptionIsKeptWhateverTheReplicaKnowsOfTheSuspension(t *testing.T) {
	start := func(t *testing.T, store health.Store) *health.Monitor {
		m := newMonitor(t, health.Config{Store: store})
		require.NoError(t, m.Start(t.Context()))
		return m
	}
	for _, c := range []struct {
		name string
		do   func(t *testing.T, store health.Store) *health.Monitor
	}{
		{"it was told by another replica after this one started", func(t *testing.T, store health.Store) *health.Monitor {
			m := start(t, store)
			synctest.Wait()
			other := start(t, store)
			other.Suspend("a", "unpaid")
			require.NoError(t, other.Stop(t.Context()))
			time.Sleep(time.Second)
			m.Resume("a")
			return m
		}},
		{"it is not loaded yet", func(t *testing.T, store health.Store) *health.Monitor {
			other := start(t, store)
			calls(other, "a", 9, errors.Unauthorized)
			other.Quarantine("a", "")
			require.NoError(t, other.Stop(t.Context()))
			time.Sleep(time.Second)
			m := newMonitor(t, health.Config{Store: store})
			m.Resume("a")
			require.NoError(t, m.Start(t.Context()))
			synctest.Wait()
			assert.Zero(t, get(t, m, "a").ConsecutiveFailures, "it begins anew")
			return m
		}},
		{"it is of a clock that is ahead", func(t *testing.T, store health.Store) *health.Monitor {
			require.NoError(t, store.Merge(t.Context(), health.Flush{Writer: "w", Seq: 1}, []health.Snapshot{
				{Tenant: "a", Suspension: &health.Suspension{Suspended: true, At: time.Now().Add(time.Hour)}}}))
			m := start(t, store)
			synctest.Wait()
			assert.Equal(t, health.Suspended, get(t, m, "a").Status)
			m.Resume("a")
			return m
		}},
		{"it is of a clock that is ahead and not loaded yet", func(t *testing.T, store health.Store) *health.Monitor {
			require.NoError(t, store.Merge(t.Context(), health.Flush{Writer: "w", Seq: 1}, []health.Snapshot{
				{Tenant: "a", Suspension: &health.Suspension{Suspended: true, At: time.Now().Add(time.Hour)}}}))
			m := newMonitor(t, health.Config{Store: store})
			m.Resume("a")
			require.NoError(t, m.Start(t.Context()))
			return m
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := health.NewMemoryStore()
				m := c.do(t, store)
				require.NoError(t, m.Stop(t.Context()))
				assert.Equal(t, health.Healthy, get(t, m, "a").Status)
				assert.False(t, stored(t, store)["a"].Suspension.Suspended)
				m = start(t, store)
				synctest.Wait()
				assert.Equal(t, health.Healthy, get(t, m, "a").Status)
				require.NoError(t, m.Stop(t.Context()))
			})
		})
	}
}

func TestThereIsAlwaysRoomForASuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := health.NewMemoryStore()
		m := newMonitor(t, health.Config{Store: store, MaxTenants: 3})
		require.NoError(t, m.Start(t.Context()))
		synctest.Wait()
		for _, id := range []string{"a", "b", "c", "d"} {
			m.Observe(id, health.Outcome{})
		}
		m.Suspend("x", "unpaid")
		m.Quarantine("y", "")
		assert.Equal(t, health.Suspended, get(t, m, "x").Status)
		f := m.Fleet()
		assert.Equal(t, []int{5, 2, 3}, []int{f.Tenants, f.Suspended, f.Healthy})
		require.NoError(t, m.Stop(t.Context()))

		m = newMonitor(t, health.Config{Store: store, MaxTenants: 1})
		require.NoError(t, m.Start(t.Context()))
		synctest.Wait()
		assert.Equal(t, 2, m.Fleet().Suspended)
		require.NoError(t, m.Stop(t.Context()))
	})
}

func TestWhatChangedIsSavedHoweverManySavesThereWere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := health.NewMemoryStore()
		m := newMonitor(t, health.Config{Store: store, SaveEvery: time.Second})
		require.NoError(t, m.Start(t.Context()))
		// In each of 400 saves there are some; then all change once more.
		for _, id := range names(4000) {
			m.Observe(id, health.Outcome{})
			time.Sleep(100 * time.Millisecond)
		}
		for _, id := range names(4000) {
			m.Observe(id, health.Outcome{})
		}
		require.NoError(t, m.Stop(t.Context()))
		got := stored(t, store)
		for _, id := range names(4000) {
			require.EqualValues(t, 2, got[id].Requests, id)
		}
	})
}

func TestStoredTimesOfAClockThatWasAheadFreezeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := health.NewMemoryStore()
		ahead := time.Now().Add(1000 * time.Hour)
		require.NoError(t, store.Merge(t.Context(), health.Flush{Writer: "w", Seq: 1}, []health.Snapshot{{
			Tenant: "a", LastFailure: ahead, LastFailureKind: errors.Timeout, LastSuccess: ahead, LastUpdate: ahead, RateLimitedUntil: ahead,
			State: health.State{At: ahead, Since: ahead, Status: health.Unhealthy, Cause: 1, Streak: -9}}}))
		m := newMonitor(t, health.Config{Store: store})
		require.NoError(t, m.Start(t.Context()))
		synctest.Wait()
		r := get(t, m, "a")
		assert.Equal(t, health.Unhealthy, r.Status)
		for _, at := range []time.Time{r.Since, r.LastFailure, r.LastSuccess, r.LastUpdate} {
			assert.False(t, at.After(time.Now()))
		}
		assert.True(t, r.RateLimitedUntil.Equal(ahead), "this one is to come")
		calls(m, "a", 1, errors.Unavailable)
		assert.Equal(t, errors.Unavailable, get(t, m, "a").LastFailureKind)
		time.Sleep(2 * time.Minute)
		calls(m, "a", 3, errors.None)
		assert.Equal(t, health.Healthy, get(t, m, "a").Status)
		require.NoError(t, m.Stop(t.Context()))
	})
}

func TestASteadilyDegradedBotIsSoAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := health.NewMemoryStore()
		h := &told{}
		start := func() *health.Monitor {
			m := newMonitor(t, health.Config{Store: store, Alerts: health.AlertConfig{Handlers: []health.AlertHandler{h}}})
			require.NoError(t, m.Start(t.Context()))
			synctest.Wait()
			return m
		}
		m := start()
		for range 10 {
			for range 10 {
				calls(m, "a", 3, errors.None)
				calls(m, "a", 1, errors.Timeout)
				time.Sleep(10 * time.Second)
			}
			require.NoError(t, m.Stop(t.Context()))
			time.Sleep(2 * time.Minute)
			m = start()
		}
		assert.Equal(t, health.Degraded, get(t, m, "a").Status)
		calls(m, "a", 3, errors.None)
		assert.Contains(t, get(t, m, "a").Reason, "7 more calls")
		calls(m, "a", 7, errors.None)
		assert.Equal(t, health.Healthy, get(t, m, "a").Status)
		require.NoError(t, m.Stop(t.Context()))
		n := 0
		for _, a := range h.all() {
			n += len(a.Transitions)
		}
		assert.Equal(t, 2, n, "once down, once up")
	})
}

func TestA409NowAndThenIsFoundAndForgottenInGoodTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{})
		for range 200 {
			calls(m, "a", 20, errors.None)
			time.Sleep(59 * time.Second)
			m.Observe("a", health.Outcome{Kind: errors.Conflict, Poll: true})
		}
		assert.Equal(t, health.Degraded, get(t, m, "a").Status)
		for range 45 {
			calls(m, "a", 5, errors.None)
			time.Sleep(time.Minute)
		}
		assert.Equal(t, health.Healthy, get(t, m, "a").Status)
		for range 20 { // a rival that is there for a moment, once in a while
			m.Observe("a", health.Outcome{Kind: errors.Conflict, Poll: true})
			time.Sleep(11 * time.Minute)
			calls(m, "a", 20, errors.None)
			assert.Equal(t, health.Healthy, get(t, m, "a").Status)
		}
	})
}

func TestAWebhooksErrorThatIsOverDegradesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{})
		m.SetWebhook("a", health.WebhookInfo{Set: true})
		failed := time.Now().Add(time.Minute)
		time.Sleep(time.Hour)
		m.SetWebhook("a", health.WebhookInfo{Set: true, LastErrorAt: failed, LastError: "x"})
		assert.Equal(t, health.Healthy, get(t, m, "a").Status)
		m.SetWebhook("b", health.WebhookInfo{Set: true})
		failed = time.Now().Add(time.Minute)
		time.Sleep(time.Hour)
		m.SetWebhook("b", health.WebhookInfo{Set: true, LastErrorAt: failed, LastError: "x", Pending: 3})
		assert.Equal(t, health.Degraded, get(t, m, "b").Status, "updates still wait")
	})
}
