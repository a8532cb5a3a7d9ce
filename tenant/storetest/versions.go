package storetest

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
)

func (s suite) versions(t *testing.T) {
	t.Run("begin above those of who was removed without a word", func(t *testing.T) {
		stores := s.two(t)
		first := put(t, stores[0], Record(t, "a", 1))
		for range 3 {
			first = put(t, stores[0], first)
		}
		require.NoError(t, stores[0].Delete(t.Context(), "a", first.Version))
		anew := put(t, stores[1], Record(t, "a", 2))
		assert.Greater(t, anew.Version, first.Version)
		for _, old := range []tenant.Record{first, {ID: "a", Version: 1}, {ID: "a", Version: 2}} {
			assert.ErrorIs(t, stores[0].Delete(t.Context(), "a", old.Version), errors.Stale)
		}
		_, err := stores[0].Put(t.Context(), first)
		assert.ErrorIs(t, err, errors.Stale)
		require.ErrorIs(t, stores[0].Delete(t.Context(), "a", anew.Version+1<<40), errors.Stale)
		require.NoError(t, stores[0].Delete(t.Context(), "a", anew.Version))
		last := put(t, stores[0], Record(t, "a", 1))
		assert.Greater(t, last.Version, anew.Version)
		assert.Less(t, last.Version, anew.Version+1<<40, "what was refused counts for nothing")
	})
	t.Run("are given once, whoever creates and removes at the same time", func(t *testing.T) {
		stores := s.two(t)
		var mu sync.Mutex
		given := make(map[int64]int)
		var wg sync.WaitGroup
		for w := range 4 {
			store := stores[w%2]
			wg.Go(func() {
				for range 30 {
					r, err := store.Put(t.Context(), Record(t, "a", int64(w+1)))
					if err != nil {
						assert.ErrorIs(t, err, errors.Exists)
						if r, err = store.Get(t.Context(), "a"); err != nil {
							continue // gone again
						}
						assert.NoError(t, r.TokenErr)
						if err := store.Delete(t.Context(), "a", r.Version); err != nil && !errors.Is(err, errors.NotFound) {
							assert.ErrorIs(t, err, errors.Stale)
						}
						continue
					}
					mu.Lock()
					given[r.Version]++
					mu.Unlock()
					if r, err = store.Put(t.Context(), r); err == nil {
						mu.Lock()
						given[r.Version]++
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		for version, n := range given {
			assert.Equal(t, 1, n, "version %d", version)
		}
		assert.NotEmpty(t, given)
	})
}
