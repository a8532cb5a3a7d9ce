package storetest

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
)

// two returns two stores over the same data, or one twice.
func (s suite) two(t *testing.T) [2]tenant.Store {
	store := s.Open(t, s.ring)
	if s.Again == nil {
		return [2]tenant.Store{store, store}
	}
	return [2]tenant.Store{store, s.Again(t, store, s.ring)}
}

func (s suite) together(t *testing.T) {
	t.Run("of two writers of one version one wins", func(t *testing.T) {
		stores := s.two(t)
		a := put(t, stores[0], Record(t, "a", 1))
		var wg sync.WaitGroup
		var won atomic.Int64
		for i := range 20 {
			wg.Go(func() {
				_, err := stores[i%2].Put(t.Context(), a, entry("won"))
				if err == nil {
					won.Add(1)
				} else {
					assert.ErrorIs(t, err, errors.Stale)
				}
			})
		}
		wg.Wait()
		assert.Equal(t, int64(1), won.Load())
		assert.Len(t, logOf(t, stores[1], "a"), 1)
	})
	t.Run("of many who claim a bot one gets it", func(t *testing.T) {
		stores := s.two(t)
		var wg sync.WaitGroup
		var won atomic.Int64
		for i := range 20 {
			wg.Go(func() {
				_, err := stores[i%2].Put(t.Context(), Record(t, fmt.Sprint("t", i/2), 1))
				switch {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, errors.Exists):
					assert.ErrorIs(t, err, errors.TokenTaken)
				}
			})
		}
		wg.Wait()
		assert.Equal(t, int64(1), won.Load())
		assert.Len(t, listAll(t, stores[0], tenant.Filter{}), 1)
	})
	t.Run("a reader sees a change whole", func(t *testing.T) {
		stores := s.two(t)
		r := put(t, stores[0], numbered(t, "a", 1))
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					got, err := stores[i].Get(t.Context(), "a")
					if !assert.NoError(t, err) {
						return
					}
					checkNumbered(t, got)
				}
			})
		}
		for n := int64(2); n <= 100; n++ {
			next := numbered(t, "a", n)
			next.Version = r.Version
			r = put(t, stores[n%2], next)
		}
		close(stop)
		wg.Wait()
	})
}

// numbered returns a record whose every part says the version it will have.
func numbered(t testing.TB, id string, version int64) tenant.Record {
	r := Record(t, id, 1000+version)
	n := strconv.FormatInt(version, 10)
	r.Name, r.Reason, r.Metadata = n, n, map[string]string{"n": n}
	r.Version = version - 1
	return r
}

func checkNumbered(t testing.TB, r tenant.Record) {
	n := strconv.FormatInt(r.Version, 10)
	assert.Equal(t, []string{n, n, n, strconv.FormatInt(1000+r.Version, 10)},
		[]string{r.Name, r.Reason, r.Metadata["n"], strconv.FormatInt(r.Token.ID()%1_000_000_000, 10)}, "half a change")
}

func (s suite) contexts(t *testing.T) {
	t.Run("one that has ended does nothing", func(t *testing.T) {
		store := s.Open(t, s.ring)
		a := put(t, store, Record(t, "a", 1))
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer cancel()
		for ctx, want := range map[context.Context]errors.Kind{canceled: errors.Canceled, late: errors.Timeout} {
			_, err := store.Get(ctx, "a")
			assert.ErrorIs(t, err, want)
			_, err = store.GetMany(ctx, []string{"a"})
			assert.ErrorIs(t, err, want)
			_, err = store.ByBot(ctx, 1)
			assert.ErrorIs(t, err, want)
			_, err = store.List(ctx, tenant.Filter{})
			assert.ErrorIs(t, err, want)
			_, err = store.Put(ctx, Record(t, "z", 99))
			assert.ErrorIs(t, err, want)
			_, err = store.Put(ctx, a)
			assert.ErrorIs(t, err, want)
			assert.ErrorIs(t, store.Delete(ctx, "a", a.Version), want)
			assert.ErrorIs(t, store.SetHealth(ctx, map[string]string{"a": "x"}), want)
			_, err = store.Log(ctx, tenant.LogFilter{})
			assert.ErrorIs(t, err, want)
		}
		got, err := store.Get(t.Context(), "a")
		require.NoError(t, err)
		equal(t, a, got)
		_, err = store.Get(t.Context(), "z")
		assert.ErrorIs(t, err, errors.NotFound)
	})
	t.Run("one that ends in the middle leaves all or nothing", func(t *testing.T) {
		store := s.Open(t, s.ring)
		for round := range 60 {
			id := fmt.Sprint("t", round)
			ctx, cancel := context.WithCancel(t.Context())
			stop := make(chan struct{})
			go func() {
				// About as long as a change takes, from almost none to all.
				for range round * 200 {
					select {
					case <-stop:
						return
					default:
					}
				}
				cancel()
			}()
			r := numbered(t, id, 1)
			r.BotID = int64(1_000_000 + round)
			r.Token = Record(t, id, r.BotID).Token
			_, err := store.Put(ctx, r, entry("one"), entry("two"))
			close(stop)
			cancel()
			got, there := settled(t, store, id, 2)
			if there {
				assert.Equal(t, int64(1), got.Version)
			} else {
				assert.ErrorIs(t, err, errors.Canceled)
			}
		}
	})
}

// settled returns the record of a tenant that somebody gave up creating, with
// that many entries of the log, once both are there or neither. A server may
// still have been carrying it out; what is there by half stays so.
func settled(t *testing.T, s tenant.Store, id string, entries int) (r tenant.Record, there bool) {
	t.Helper()
	for begin := time.Now(); ; {
		r, err := s.Get(t.Context(), id)
		if err != nil {
			require.ErrorIs(t, err, errors.NotFound)
		}
		n := len(logOf(t, s, id))
		switch {
		case err == nil && n == entries:
			return r, true
		case err != nil && n == 0:
			return r, false
		}
		require.Less(t, time.Since(begin), patience, "half a change: the record is there: %v, and %d entries", err == nil, n)
	}
}
