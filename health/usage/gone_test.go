package usage_test

import (
	"context"
	"fmt"
	"slices"
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

func TestWhoWasRemovedBeforeACrashIsRemovedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := usage.NewMemoryStore()
		now := time.Now().UTC().Truncate(time.Hour)
		var rollups []usage.Rollup
		for i := range 1100 { // more than are asked for at once
			rollups = append(rollups, usage.Rollup{Tenant: fmt.Sprint("t", i), Start: now.Add(-3 * time.Hour), Requests: 1})
		}
		rollups = append(rollups,
			usage.Rollup{Tenant: "t0", Start: now.Add(-48 * time.Hour).Truncate(usage.Day), Daily: true, Requests: 1},
			usage.Rollup{Tenant: "t0", Start: now, Requests: 1}) // until the crash
		require.NoError(t, store.Add(t.Context(), health.Flush{Writer: "killed", Seq: 1}, rollups))

		var mu sync.Mutex
		failing, asked := true, 0
		gone := func(_ context.Context, tenants []string) ([]string, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			assert.LessOrEqual(t, len(tenants), 500)
			list := slices.DeleteFunc(slices.Clone(tenants), func(id string) bool { return id != "t0" && id != "t1099" })
			if failing {
				return list, errors.New("away")
			}
			return append(list, "t5"), nil // of whom it was asked, once
		}
		r := newRecorder(t, usage.Config{Store: store, Gone: gone})
		require.NoError(t, r.Start(t.Context()))
		time.Sleep(30 * time.Minute)
		assert.Len(t, stored(t, store, "t0"), 3, "after an error nothing is removed")
		assert.Equal(t, 1, asked)
		mu.Lock()
		failing = false
		mu.Unlock()
		time.Sleep(40 * time.Minute)
		assert.Empty(t, stored(t, store, "t1099"))
		assert.Empty(t, stored(t, store, "t5"))
		assert.Len(t, stored(t, store, "t6"), 1)
		assert.LessOrEqual(t, len(stored(t, store, "t0")), 1)
		time.Sleep(28 * time.Hour) // a day, give or take a tenth, after the last look
		assert.Empty(t, stored(t, store, "t0"))
		ids, err := store.Tenants(t.Context(), "", 2000)
		require.NoError(t, err)
		assert.Len(t, ids, 1097)
		require.NoError(t, r.Stop(t.Context()))
	})
}

func TestWhoRegistersMeanwhileLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(59*time.Minute + 59*time.Second) // a full hour is near
		store := usage.NewMemoryStore()
		start := time.Now().UTC().Truncate(time.Hour)
		add := func(seq uint64, at time.Time) {
			rollup := usage.Rollup{Tenant: "a", Start: at.UTC().Truncate(time.Hour), Requests: 1}
			require.NoError(t, store.Add(t.Context(), health.Flush{Writer: "other", Seq: seq}, []usage.Rollup{rollup}))
		}
		add(1, start.Add(-time.Hour))
		gone := func(_ context.Context, tenants []string) ([]string, error) {
			add(2, time.Now()) // by a replica with which it registered when this one had looked
			time.Sleep(2 * time.Second)
			add(3, time.Now())
			return tenants, nil
		}
		r := newRecorder(t, usage.Config{Store: store, Gone: gone})
		require.NoError(t, r.Start(t.Context()))
		time.Sleep(time.Minute)
		got := stored(t, store, "a")
		require.Len(t, got, 2)
		assert.Equal(t, start, got[0].Start)
		require.NoError(t, r.Stop(t.Context()))
	})
}
