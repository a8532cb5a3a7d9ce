package tenant_test

import (
	"context"
	"fmt"
	"runtime"
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

// distant is a store that takes time, and counts queries.
type distant struct {
	tenant.Store
	delay   time.Duration
	queries atomic.Int64
	fault   func(ids []string) error
	hang    func(ids []string) bool // whether one ends with its context only
	hanging atomic.Int64
}

func (s *distant) Get(ctx context.Context, id string) (tenant.Record, error) {
	if err := s.travel(ctx, []string{id}); err != nil {
		return tenant.Record{}, err
	}
	return s.Store.Get(ctx, id)
}

func (s *distant) GetMany(ctx context.Context, ids []string) (map[string]tenant.Record, error) {
	if err := s.travel(ctx, ids); err != nil {
		return nil, err
	}
	return s.Store.GetMany(ctx, ids)
}

func (s *distant) travel(ctx context.Context, ids []string) error {
	s.queries.Add(1)
	if s.hang != nil && s.hang(ids) {
		s.hanging.Add(1)
		defer s.hanging.Add(-1)
		<-ctx.Done()
		return ctx.Err()
	}
	select {
	case <-time.After(s.delay):
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.fault != nil {
		return s.fault(ids)
	}
	return nil
}

// distantPool returns a pool of n tenants whose store takes time.
func distantPool(t testing.TB, n int, delay time.Duration) (*tenant.Pool, *distant, []string) {
	s, err := session.New(session.Config{Transport: nowhere{}})
	require.NoError(t, err)
	store := &distant{Store: tenant.NewMemoryStore(), delay: delay}
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("tenant-%06d", i)
		_, err := store.Put(bg, record(t, ids[i], int64(1000+i)))
		require.NoError(t, err)
	}
	p, err := tenant.NewPool(s, store, tenant.PoolConfig{MaxOpen: n + 1})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, p.Close(bg))
		require.NoError(t, s.Close(bg))
	})
	return p, store, ids
}

func TestOpensAtTheSameTimeAreReadTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, store, ids := distantPool(t, 10_000, 10*time.Millisecond)
		start := time.Now()
		var wg sync.WaitGroup
		for _, id := range ids {
			wg.Go(func() {
				l, err := p.Acquire(bg, id)
				assert.NoError(t, err)
				l.Release()
			})
		}
		wg.Wait()
		assert.LessOrEqual(t, store.queries.Load(), int64(12))
		assert.LessOrEqual(t, time.Since(start), 120*time.Millisecond)
	})
}

func TestWarmReadsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, store, ids := distantPool(t, 10_000, 10*time.Millisecond)
		n, err := p.Warm(bg, ids)
		require.NoError(t, err)
		assert.Equal(t, len(ids), n)
		assert.Equal(t, len(ids), p.Stats().Open)
		assert.Equal(t, int64(10), store.queries.Load())
		n, err = p.Warm(bg, ids)
		require.NoError(t, err)
		assert.Equal(t, len(ids), n)
		assert.Equal(t, int64(10), store.queries.Load(), "what is open is not read")
	})
}

// What Warm read ahead is as old as its query. A change since then counts,
// whether it comes before the query's answer or after it.
func TestNoChangeIsLostToWhatWasReadAhead(t *testing.T) {
	for _, evictAt := range []time.Duration{5 * time.Millisecond, 15 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			s, err := session.New(session.Config{Transport: nowhere{}})
			require.NoError(t, err)
			store := &distant{Store: tenant.NewMemoryStore(), delay: 10 * time.Millisecond}
			const n = 200
			ids := make([]string, n)
			for i := range ids {
				ids[i] = fmt.Sprintf("tenant-%06d", i)
				_, err := store.Put(bg, record(t, ids[i], int64(1000+i)))
				require.NoError(t, err)
			}
			// The query reads at once and its answer travels; an open takes
			// so long that the last ones begin after the change.
			early := &reading{distant: store}
			p, err := tenant.NewPool(s, early, tenant.PoolConfig{OnOpen: []tenant.Hook{
				func(context.Context, *tenant.Tenant) (func(context.Context) error, error) {
					time.Sleep(10 * time.Millisecond)
					return nil, nil
				},
			}})
			require.NoError(t, err)
			go func() {
				time.Sleep(evictAt)
				for _, id := range ids {
					r, err := store.Store.Get(bg, id)
					assert.NoError(t, err)
					r.Reason = "changed"
					_, err = store.Put(bg, r)
					assert.NoError(t, err)
					p.Evict(id)
				}
			}()
			_, err = p.Warm(bg, ids)
			require.NoError(t, err)
			for _, id := range ids {
				l, err := p.Acquire(bg, id)
				require.NoError(t, err)
				assert.Equal(t, "changed", l.Tenant().Record.Reason)
				l.Release()
			}
			require.NoError(t, p.Close(bg))
			require.NoError(t, s.Close(bg))
		})
	}
}

// reading is a store that reads before it travels.
type reading struct{ *distant }

func (s *reading) GetMany(ctx context.Context, ids []string) (map[string]tenant.Record, error) {
	found, err := s.Store.GetMany(ctx, ids)
	return found, errors.Join(err, s.travel(ctx, ids))
}

func TestASingleOpenWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, store, ids := distantPool(t, 1, 10*time.Millisecond)
		start := time.Now()
		l, err := p.Acquire(bg, ids[0])
		require.NoError(t, err)
		l.Release()
		assert.Equal(t, 10*time.Millisecond, time.Since(start))
		assert.Equal(t, int64(1), store.queries.Load())
		_, err = p.Acquire(bg, "no\x00body")
		assert.ErrorIs(t, err, errors.NotFound)
		assert.Equal(t, int64(1), store.queries.Load(), "what no id can be fails nobody's query")
	})
}

func TestWhoGivesUpFailsNobodyElsesOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, store, ids := distantPool(t, 100, time.Second)
		ctx, cancel := context.WithCancel(bg)
		var wg sync.WaitGroup
		for i, id := range ids {
			wg.Go(func() {
				ctx := ctx
				if i%2 == 0 {
					ctx = bg
				}
				l, err := p.Acquire(ctx, id)
				if i%2 == 0 {
					assert.NoError(t, err)
				} else {
					assert.ErrorIs(t, err, errors.Canceled)
				}
				l.Release()
			})
		}
		time.Sleep(time.Millisecond)
		cancel()
		wg.Wait()
		// When all have given up the query ends too.
		before := store.queries.Load()
		ctx, cancel = context.WithTimeout(bg, time.Millisecond)
		defer cancel()
		_, err := p.Acquire(ctx, ids[1])
		assert.ErrorIs(t, err, errors.Timeout)
		synctest.Wait()
		assert.Equal(t, before+1, store.queries.Load())
	})
}

// One read hangs for ever. Those who come while it does, right after it or
// later, wait no longer than it takes to see that it hangs.
func TestAQueryThatHangsHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, store, ids := distantPool(t, 40, time.Millisecond)
		store.hang = func(all []string) bool { return slices.Contains(all, ids[0]) }
		ctx, cancel := context.WithTimeout(bg, 10*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			start := time.Now()
			_, err := p.Acquire(ctx, ids[0])
			assert.ErrorIs(t, err, errors.Timeout)
			assert.Equal(t, 10*time.Second, time.Since(start))
		})
		synctest.Wait()
		acquire := func(id string, bound time.Duration) {
			start := time.Now()
			l, err := p.Acquire(bg, id)
			assert.NoError(t, err)
			l.Release()
			assert.LessOrEqual(t, time.Since(start), bound, id)
		}
		// Nobody comes after these who could begin the next query.
		for _, id := range ids[1:20] {
			wg.Go(func() { acquire(id, 102*time.Millisecond) })
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		for _, id := range ids[20:] { // it is known to hang by now
			acquire(id, time.Millisecond)
		}
		wg.Wait()
		synctest.Wait()
		assert.Zero(t, store.hanging.Load(), "it ends with the last who waits for it")
	})
}

func TestSeveralQueriesMayHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, store, ids := distantPool(t, 10, time.Millisecond)
		store.hang = func(all []string) bool { return all[0] < ids[3] }
		ctx, cancel := context.WithTimeout(bg, 10*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for _, id := range ids {
			wg.Go(func() {
				l, err := p.Acquire(ctx, id)
				if id < ids[3] {
					assert.ErrorIs(t, err, errors.Timeout, id)
					return
				}
				assert.NoError(t, err, id)
				l.Release()
			})
			time.Sleep(200 * time.Millisecond)
		}
		wg.Wait()
	})
}

func TestCloseEndsThoughAQueryDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := session.New(session.Config{Transport: nowhere{}})
		require.NoError(t, err)
		store := &distant{Store: tenant.NewMemoryStore()}
		ends := make(chan struct{})
		store.fault = func([]string) error { <-ends; return nil }
		p, err := tenant.NewPool(s, store, tenant.PoolConfig{CloseTimeout: time.Second, OpenTimeout: time.Second})
		require.NoError(t, err)
		_, err = p.Acquire(bg, "shop")
		assert.ErrorIs(t, err, errors.Timeout)
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		start := time.Now()
		assert.ErrorIs(t, p.Close(ctx), errors.Timeout)
		assert.Equal(t, 2*time.Second, time.Since(start))
		close(ends)
		require.NoError(t, p.Close(bg))
		require.NoError(t, s.Close(bg))
	})
}

// Opens that come one after another, faster than they are read, are read
// together, and none waits for long.
func TestAStormIsReadInFewQueries(t *testing.T) {
	for _, gap := range []time.Duration{20 * time.Microsecond, 100 * time.Microsecond, 200 * time.Microsecond} {
		t.Run(gap.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, store, ids := distantPool(t, 10_000, 300*time.Microsecond)
				var longest atomic.Int64
				var wg sync.WaitGroup
				for _, id := range ids {
					wg.Go(func() {
						start := time.Now()
						l, err := p.Acquire(bg, id)
						assert.NoError(t, err)
						l.Release()
						for took := int64(time.Since(start)); ; {
							old := longest.Load()
							if took <= old || longest.CompareAndSwap(old, took) {
								return
							}
						}
					})
					time.Sleep(gap)
				}
				wg.Wait()
				assert.LessOrEqual(t, store.queries.Load(), int64(100), "10 for 1,000")
				assert.LessOrEqual(t, time.Duration(longest.Load()), 26*time.Millisecond)
			})
		})
	}
}

func TestOpensOneAfterAnotherWaitForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, store, ids := distantPool(t, 100, 10*time.Microsecond)
		start := time.Now()
		for _, id := range ids {
			l, err := p.Acquire(bg, id)
			require.NoError(t, err)
			l.Release()
		}
		assert.Equal(t, time.Millisecond, time.Since(start))
		assert.Equal(t, int64(100), store.queries.Load())
	})
}

func TestAStoreThatPanicsHarmsOneQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, store, ids := distantPool(t, 10, time.Millisecond)
		for name, fault := range map[string]func([]string) error{
			"panic":  func([]string) error { panic("boom") },
			"Goexit": func([]string) error { runtime.Goexit(); return nil },
		} {
			store.fault = fault
			var wg sync.WaitGroup
			for _, id := range ids {
				wg.Go(func() {
					_, err := p.Acquire(bg, id)
					assert.ErrorIs(t, err, errors.Internal, name)
				})
			}
			wg.Wait()
			store.fault = nil
			for _, id := range ids {
				p.Evict(id) // forgets the cool-down
			}
			n, err := p.Warm(bg, ids)
			require.NoError(t, err)
			assert.Equal(t, len(ids), n)
			for _, id := range ids {
				p.Evict(id)
			}
		}
	})
}

func TestWarmSaysWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, store, ids := distantPool(t, 20, time.Millisecond)
		r, err := store.Store.Get(bg, ids[3])
		require.NoError(t, err)
		r.Status = tenant.Suspended
		_, err = store.Put(bg, r)
		require.NoError(t, err)
		n, err := p.Warm(bg, append(ids, "nobody"))
		require.NoError(t, err)
		assert.Equal(t, 19, n)
		n, err = p.Warm(bg, nil)
		require.NoError(t, err)
		assert.Zero(t, n)

		for _, id := range ids {
			p.Evict(id)
		}
		store.fault = func([]string) error { return errors.StoreUnavailable }
		n, err = p.Warm(bg, ids)
		assert.Zero(t, n)
		assert.ErrorIs(t, err, errors.StoreUnavailable)
		ctx, cancel := context.WithCancel(bg)
		cancel()
		_, err = p.Warm(ctx, ids)
		assert.ErrorIs(t, err, errors.Canceled)
	})
}
