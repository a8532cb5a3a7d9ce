package tenant_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
)

// unreadable has a store fail whenever one of these is among what it is to
// read, as a database does with a page that is damaged.
func unreadable(ids ...string) func([]string) error {
	return func(asked []string) error {
		if slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(asked, id) }) {
			return &errors.Error{Kind: errors.Internal, Op: "get tenants", Err: errors.New("a page is damaged")}
		}
		return nil
	}
}

func TestOneRowThatCantBeReadFailsOneOpen(t *testing.T) {
	for name, c := range map[string]struct {
		bad     []int
		queries int64 // two read all: one may be alone before the others come
	}{
		"one":            {[]int{417}, 2 + 20},
		"the last":       {[]int{999}, 2 + 20},
		"two neighbours": {[]int{0, 1}, 2 + 38},
		"ten":            {[]int{3, 104, 205, 306, 407, 508, 609, 710, 811, 912}, 160},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, store, ids := distantPool(t, 1000, time.Millisecond)
				var bad []string
				for _, i := range c.bad {
					bad = append(bad, ids[i])
				}
				store.fault = unreadable(bad...)
				var wg sync.WaitGroup
				for _, id := range ids {
					wg.Go(func() {
						l, err := p.Acquire(bg, id)
						if slices.Contains(bad, id) {
							assert.ErrorIs(t, err, errors.Internal, id)
							return
						}
						if assert.NoError(t, err, id) {
							l.Release()
						}
					})
				}
				wg.Wait()
				assert.LessOrEqual(t, store.queries.Load(), c.queries)
				assert.Equal(t, 1000-len(bad), p.Stats().Open)

				for _, id := range ids {
					p.Evict(id)
				}
				store.queries.Store(0)
				n, err := p.Warm(bg, ids)
				assert.ErrorIs(t, err, errors.Internal)
				assert.ErrorContains(t, err, "tenants did not open")
				assert.Equal(t, 1000-len(bad), n)
				assert.LessOrEqual(t, store.queries.Load(), c.queries)
			})
		})
	}
}

// A query that is answered when the bound is met does not lift it.
func TestTheBoundOfReadsHoldsWhereTheLastOneIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, store, ids := distantPool(t, 1000, time.Millisecond)
		var bad []string
		for i := 0; i < len(ids); i += 67 {
			bad = append(bad, ids[i])
		}
		store.fault = unreadable(bad...)
		_, err := p.Warm(bg, ids)
		assert.ErrorIs(t, err, errors.Internal)
		assert.EqualValues(t, 200, store.queries.Load())
	})
}

// Where so much is damaged that to find it all would be a storm, some fail that
// could be read.
func TestRowsThatCantBeReadAreNoStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, store, ids := distantPool(t, 1000, time.Millisecond)
		var bad []string
		for i := 0; i < len(ids); i += 3 {
			bad = append(bad, ids[i])
		}
		acquireAll := func() {
			var wg sync.WaitGroup
			for _, id := range ids {
				wg.Go(func() {
					l, err := p.Acquire(bg, id)
					if err == nil {
						l.Release()
					} else {
						assert.ErrorIs(t, err, errors.Internal, id)
					}
				})
			}
			wg.Wait()
		}
		store.fault = unreadable(bad...)
		acquireAll()
		assert.LessOrEqual(t, store.queries.Load(), int64(200))

		// A store that can read none is not asked as often.
		for _, id := range ids {
			p.Evict(id)
		}
		store.queries.Store(0)
		store.fault = unreadable(ids...)
		acquireAll()
		assert.LessOrEqual(t, store.queries.Load(), int64(32))
		for _, id := range ids {
			p.Evict(id)
		}

		// What waiting mends is not looked for.
		store.queries.Store(0)
		store.fault = func([]string) error { return errors.StoreUnavailable }
		n, err := p.Warm(bg, ids)
		assert.ErrorIs(t, err, errors.StoreUnavailable)
		assert.Zero(t, n)
		assert.Equal(t, int64(1), store.queries.Load())
	})
}

// A store that fails otherwise while one row is looked for fails those that were
// not read yet, with that error.
func TestAStoreThatGoesAwayMeanwhileIsNotAskedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, store, ids := distantPool(t, 100, time.Millisecond)
		var asked atomic.Int64
		var bad string
		store.fault = func(all []string) error {
			if len(all) == 1 {
				return nil // it came before the others
			}
			switch asked.Add(1) {
			case 1:
				bad = all[len(all)/3]
			case 6:
				return errors.StoreUnavailable
			}
			return unreadable(bad)(all)
		}
		var opened, unavailable atomic.Int64
		var wg sync.WaitGroup
		for _, id := range ids {
			wg.Go(func() {
				l, err := p.Acquire(bg, id)
				if err == nil {
					l.Release()
					opened.Add(1)
				} else if errors.Is(err, errors.StoreUnavailable) {
					unavailable.Add(1)
				}
			})
		}
		wg.Wait()
		assert.InDelta(t, 75, opened.Load(), 1, "a half, and a quarter")
		assert.InDelta(t, 25, unavailable.Load(), 1)
		assert.Equal(t, int64(6), asked.Load())
	})
}

// Those who follow changes hear of all that can be read, in few queries too.
func TestOneRowThatCantBeReadKeepsNoChangeFromBeingHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := session.New(session.Config{Transport: nowhere{}})
		require.NoError(t, err)
		store := &distant{Store: tenant.NewMemoryStore(), delay: time.Millisecond}
		p, err := tenant.NewPool(s, store, tenant.PoolConfig{})
		require.NoError(t, err)
		var ids []string
		for i := range 500 {
			r, err := store.Put(bg, record(t, string(rune('a'+i%26))+string(rune('a'+i/26)), int64(1000+i)))
			require.NoError(t, err)
			ids = append(ids, r.ID)
		}
		_, err = p.Warm(bg, ids)
		require.NoError(t, err)
		for _, id := range ids { // which nobody heard of
			r, err := store.Store.Get(bg, id)
			require.NoError(t, err)
			r.Status = tenant.Suspended
			_, err = store.Put(bg, r)
			require.NoError(t, err)
		}
		store.queries.Store(0)
		store.fault = unreadable(ids[77])
		m := tenant.NewManager(p, tenant.ManagerConfig{})
		ctx, cancel := context.WithCancel(bg)
		require.NoError(t, m.Start(ctx))
		time.Sleep(time.Second)
		assert.Zero(t, p.Stats().Open)
		assert.LessOrEqual(t, store.queries.Load(), int64(1+18))
		cancel()
		m.Stop()
		require.NoError(t, p.Close(bg))
		require.NoError(t, s.Close(bg))
	})
}
