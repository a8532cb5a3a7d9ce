package tenant_test

import (
	"context"
	"math/rand/v2"
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

// lagging is a store whose answers take long, each its own time: what was
// stored first may be known last.
type lagging struct {
	tenant.Store
	rand func() time.Duration
}

func (s *lagging) Get(ctx context.Context, id string) (tenant.Record, error) {
	r, err := s.Store.Get(ctx, id)
	time.Sleep(s.rand())
	return r, err
}

func (s *lagging) GetMany(ctx context.Context, ids []string) (map[string]tenant.Record, error) {
	all, err := s.Store.GetMany(ctx, ids)
	time.Sleep(s.rand())
	return all, err
}

func (s *lagging) Put(ctx context.Context, r tenant.Record, log ...tenant.Entry) (tenant.Record, error) {
	r, err := s.Store.Put(ctx, r, log...)
	time.Sleep(s.rand())
	return r, err
}

func (s *lagging) Delete(ctx context.Context, id string, version int64, log ...tenant.Entry) error {
	err := s.Store.Delete(ctx, id, version, log...)
	time.Sleep(s.rand())
	return err
}

// slowLimiter notes what it was last told, after a while.
type slowLimiter struct {
	rand func() time.Duration
	busy atomic.Bool

	mu   sync.Mutex
	last session.Limits
}

func (l *slowLimiter) SetTenant(_ string, limits session.Limits) error {
	if !l.busy.CompareAndSwap(false, true) {
		panic("two at a time")
	}
	time.Sleep(l.rand())
	l.busy.Store(false)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = limits
	return nil
}

// Several change a tenant at the same time, while others open its bot. Whoever
// is late does not bring back what was before.
func TestWhatWasStoredLastCounts(t *testing.T) {
	for seed := range uint64(150) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			random := rand.New(rand.NewPCG(seed, 1))
			n := func(n int) int {
				mu.Lock()
				defer mu.Unlock()
				return random.IntN(n)
			}
			lag := func() time.Duration { return time.Duration(n(20)) * time.Millisecond }
			s, err := session.New(session.Config{Transport: nowhere{}})
			require.NoError(t, err)
			store := &lagging{Store: tenant.NewMemoryStore(), rand: lag}
			limiter := &slowLimiter{rand: lag}
			p, err := tenant.NewPool(s, store, tenant.PoolConfig{Limiter: limiter})
			require.NoError(t, err)
			m := tenant.NewManager(p, tenant.ManagerConfig{})
			_, err = store.Store.Put(bg, record(t, "shop", 1))
			require.NoError(t, err)

			var wg sync.WaitGroup
			for i := range 4 {
				wg.Go(func() {
					for range 4 {
						switch n(4) {
						case 0, 1:
							_, err := m.SetLimits(bg, "shop", session.Limits{Weight: 1 + n(9)})
							assert.NoError(t, err)
						case 2:
							_, err := m.Suspend(bg, "shop", string(rune('a'+i)))
							assert.NoError(t, err)
						default:
							_, err := m.Resume(bg, "shop")
							assert.NoError(t, err)
						}
						time.Sleep(lag())
					}
				})
			}
			for range 2 {
				wg.Go(func() {
					if n(2) == 0 {
						_, _ = p.Warm(bg, []string{"shop"})
					}
					for range 8 {
						l, err := p.Acquire(bg, "shop")
						if err != nil {
							assert.ErrorIs(t, err, errors.Suspended)
							time.Sleep(lag())
							continue
						}
						time.Sleep(lag())
						l.Release()
						time.Sleep(lag())
					}
				})
			}
			wg.Wait()
			last, err := m.Resume(bg, "shop")
			require.NoError(t, err)
			l, err := p.Acquire(bg, "shop")
			require.NoError(t, err, "seed %d", seed)
			require.Equal(t, last.Limits, limiter.last, "seed %d", seed)
			l.Release()
			require.NoError(t, p.Close(bg))
			require.NoError(t, s.Close(bg))
		})
	}
}

// While a bot is open, nothing but a change makes its limits known.
func TestTheLimitsStoredLastBind(t *testing.T) {
	for seed := range uint64(150) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			random := rand.New(rand.NewPCG(seed, 2))
			lag := func() time.Duration {
				mu.Lock()
				defer mu.Unlock()
				return time.Duration(random.IntN(20)) * time.Millisecond
			}
			s, err := session.New(session.Config{Transport: nowhere{}})
			require.NoError(t, err)
			store := &lagging{Store: tenant.NewMemoryStore(), rand: lag}
			limiter := &slowLimiter{rand: lag}
			p, err := tenant.NewPool(s, store, tenant.PoolConfig{Limiter: limiter})
			require.NoError(t, err)
			m := tenant.NewManager(p, tenant.ManagerConfig{})
			_, err = store.Store.Put(bg, record(t, "shop", 1))
			require.NoError(t, err)
			var wg sync.WaitGroup
			wg.Go(func() {
				_, err := p.Warm(bg, []string{"shop"})
				assert.NoError(t, err)
			})
			for i := range 4 {
				wg.Go(func() {
					time.Sleep(lag())
					_, err := m.SetLimits(bg, "shop", session.Limits{Weight: 2 + i})
					assert.NoError(t, err)
				})
			}
			wg.Wait()
			stored, err := store.Store.Get(bg, "shop")
			require.NoError(t, err)
			require.Equal(t, int64(5), stored.Version)
			require.Equal(t, stored.Limits, limiter.last, "seed %d", seed)
			require.NoError(t, p.Close(bg))
			require.NoError(t, s.Close(bg))
		})
	}
}

// answersLate is a store that is slow to say that it stored a suspension or a
// removal.
type answersLate struct{ tenant.Store }

func (s *answersLate) Put(ctx context.Context, r tenant.Record, log ...tenant.Entry) (tenant.Record, error) {
	r, err := s.Store.Put(ctx, r, log...)
	if r.Status == tenant.Suspended {
		time.Sleep(time.Second)
	}
	return r, err
}

func (s *answersLate) Delete(ctx context.Context, id string, version int64, log ...tenant.Entry) error {
	err := s.Store.Delete(ctx, id, version, log...)
	time.Sleep(time.Second)
	return err
}

// A suspension that is known late does not end who uses the bot since it was
// resumed, nor a removal who uses that of one with the same id.
func TestALateChangeLeavesAloneWhatWasOpenedSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
		bot := f.register(t, "shop")
		p, err := tenant.NewPool(f.s, &answersLate{f.store}, tenant.PoolConfig{})
		require.NoError(t, err)
		m := tenant.NewManager(p, tenant.ManagerConfig{})
		for name, change := range map[string][2]func() error{
			"suspension": {
				func() error { _, err := m.Suspend(bg, "shop", "unpaid"); return err },
				func() error { _, err := m.Resume(bg, "shop"); return err },
			},
			"removal": {
				func() error { return m.Remove(bg, "shop") },
				func() error { _, err := m.Register(bg, "shop", bot.Token()); return err },
			},
		} {
			old, err := p.Acquire(bg, "shop")
			require.NoError(t, err)
			var wg sync.WaitGroup
			wg.Go(func() { assert.NoError(t, change[0]()) })
			time.Sleep(100 * time.Millisecond)
			require.NoError(t, change[1](), name)
			old.Release() // evicted by the second change
			l, err := p.Acquire(bg, "shop")
			require.NoError(t, err, name)
			wg.Wait()
			assert.NoError(t, l.Context().Err(), name)
			ctx, cancel := context.WithTimeout(bg, time.Second)
			again, err := p.Acquire(ctx, "shop")
			cancel()
			assert.NoError(t, err, name)
			assert.Same(t, l.Tenant(), again.Tenant(), name)
			again.Release()
			l.Release()
		}
		require.NoError(t, p.Close(bg))
	})
}

// What is stored later counts, whatever the clock said of who stored it: a record
// that comes back from a backup is as old as it was then.
func TestARecordThatWasBroughtBackEndsTheBotThatWasOpenedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
		f.register(t, "shop")
		l, err := f.pool.Acquire(bg, "shop")
		require.NoError(t, err)
		old := l.Tenant().Record
		other := f.srv.NewBot("before_bot")
		// Another process does both before this one hears of either.
		require.NoError(t, f.store.Delete(bg, "shop", old.Version))
		back := record(t, "shop", other.ID())
		back.Token, err = session.ParseToken(other.Token())
		require.NoError(t, err)
		back.CreatedAt = old.CreatedAt.Add(-time.Hour)
		_, err = f.store.Put(bg, back)
		require.NoError(t, err)
		require.NoError(t, f.Start(bg))
		defer f.Stop()
		synctest.Wait()
		assert.Error(t, l.Context().Err(), "the bot is another tenant's")
		l.Release()
		l, err = f.pool.Acquire(bg, "shop")
		require.NoError(t, err)
		assert.Equal(t, other.ID(), l.Tenant().Record.BotID)
		l.Release()
	})
}
