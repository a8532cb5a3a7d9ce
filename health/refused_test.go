package health_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
)

// picky refuses a tenant, as a database does whose column is too short for it.
type picky struct{ health.Store }

func (p picky) Merge(ctx context.Context, f health.Flush, list []health.Snapshot) error {
	for _, s := range list {
		if len(s.Tenant) > 100 {
			return errors.BadRequest
		}
	}
	return p.Store.Merge(ctx, f, list)
}

func TestASnapshotThatTheStoreRefusesDoesNotKeepTheOthersOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		store := picky{health.NewMemoryStore()}
		m := newMonitor(t, health.Config{Store: store, SaveBatch: 30, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, m.Start(t.Context()))
		synctest.Wait()
		long := string(bytes.Repeat([]byte{'x'}, 101))
		for _, id := range append(names(100), long) {
			m.Observe(id, health.Outcome{})
		}
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		got := stored(t, store)
		assert.Len(t, got, 100)
		for id, snap := range got {
			assert.EqualValues(t, 1, snap.Requests, id)
		}
		assert.Contains(t, log.String(), "health snapshot dropped")
		m.Observe(long, health.Outcome{})
		m.Observe("new", health.Outcome{})
		require.NoError(t, m.Stop(t.Context()))
		assert.Len(t, stored(t, store), 101)
	})
}

func TestNobodyIsNoTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := health.NewMemoryStore()
		m := newMonitor(t, health.Config{Store: store})
		require.NoError(t, m.Start(t.Context()))
		synctest.Wait()
		m.Observe("", health.Outcome{})
		m.Update("", time.Time{})
		m.SetBreaker("", health.BreakerOpen)
		m.SetWebhook("", health.WebhookInfo{})
		m.Suspend("", "")
		m.Observe("a", health.Outcome{})
		_, found := m.Get("")
		assert.False(t, found)
		assert.Equal(t, "1 1 2", fmt.Sprint(m.Fleet().Tenants, m.Fleet().Untracked, m.Fleet().Requests))
		require.NoError(t, m.Stop(t.Context()))
		assert.Len(t, stored(t, store), 1)
	})
}

func TestARefusedSnapshotIsLoggedOnceAMinuteAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		m := newMonitor(t, health.Config{Store: picky{health.NewMemoryStore()}, SaveEvery: time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, m.Start(t.Context()))
		long := string(bytes.Repeat([]byte{'x'}, 101))
		for range 600 {
			m.Observe(long, health.Outcome{})
			m.Observe(long+"y", health.Outcome{})
			time.Sleep(time.Second)
		}
		require.NoError(t, m.Stop(t.Context()))
		assert.InDelta(t, 10, bytes.Count(log.Bytes(), []byte("snapshot dropped")), 1)
		assert.Contains(t, log.String(), "left_out=")
	})
}
