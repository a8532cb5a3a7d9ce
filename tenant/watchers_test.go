package tenant_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
)

func TestWhoWatchesAPoolHearsOfChanges(t *testing.T) {
	f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
	f.register(t, "a")
	_, err := f.Suspend(bg, "a", "test")
	require.NoError(t, err)
	var heard []string
	stop := f.pool.Watch(func(id string) {
		heard = append(heard, id)
		assert.NoError(t, f.getMe(id), "it is lent by then")
	})
	others := 0
	stopOther := f.pool.Watch(func(string) { others++ })
	_, err = f.Resume(bg, "a")
	require.NoError(t, err)
	assert.Equal(t, []string{"a"}, heard)
	stop()
	stop()
	_, err = f.Suspend(bg, "a", "test")
	require.NoError(t, err)
	assert.Len(t, heard, 1)
	assert.Equal(t, 2, others, "the others go on hearing")
	stopOther()
}

func TestWhoWatchesAPoolHearsOfOthersChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
		defer srv.Close()
		store := tenant.NewMemoryStore()
		here, there := newReplica(t, srv, store), newReplica(t, srv, store)
		_, err := here.Register(bg, "a", srv.NewBot("a_bot").Token())
		require.NoError(t, err)
		for _, inUse := range []bool{false, true} {
			done := make(chan struct{})
			var wg sync.WaitGroup
			if inUse { // by somebody who takes no notice of its end
				wg.Go(func() {
					_ = here.pool.Do(bg, "a", func(context.Context, *tenant.Tenant) error { <-done; return nil })
				})
			}
			synctest.Wait()
			_, err = there.Suspend(bg, "a", "test")
			require.NoError(t, err)
			synctest.Wait()
			heard := 0
			stop := here.pool.Watch(func(string) { heard++ })
			_, err = there.Resume(bg, "a")
			require.NoError(t, err)
			synctest.Wait()
			assert.Positive(t, heard, "in use: %v", inUse)
			stop()
			close(done)
			wg.Wait()
		}
	})
}
