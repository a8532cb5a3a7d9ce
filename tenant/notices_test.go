package tenant_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
)

// lossy is a store that quarantines and whose answers are lost, and that then
// can't be reached for a while.
type lossy struct {
	tenant.Store
	lose atomic.Bool
	made bool // the change that is answered so was made
	down time.Duration

	mu   sync.Mutex // guards what follows
	back time.Time
}

func (s *lossy) gone() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.back) {
		return &errors.Error{Kind: errors.StoreUnavailable, Op: "get tenant", Delivery: errors.NotDelivered}
	}
	return nil
}

func (s *lossy) Get(ctx context.Context, id string) (tenant.Record, error) {
	if err := s.gone(); err != nil {
		return tenant.Record{}, err
	}
	return s.Store.Get(ctx, id)
}

func (s *lossy) Put(ctx context.Context, r tenant.Record, log ...tenant.Entry) (stored tenant.Record, err error) {
	if err := s.gone(); err != nil {
		return tenant.Record{}, err
	}
	lose := r.Status == tenant.Quarantined && s.lose.CompareAndSwap(true, false)
	if !lose || s.made {
		stored, err = s.Store.Put(ctx, r, log...)
	}
	if lose {
		s.mu.Lock()
		s.back = time.Now().Add(s.down)
		s.mu.Unlock()
		return tenant.Record{}, &errors.Error{Kind: errors.StoreUnavailable, Op: "put tenant", Delivery: errors.MaybeDelivered}
	}
	return stored, err
}

func TestAQuarantineWhoseAnswerIsLostIsHeardOf(t *testing.T) {
	for _, started := range []bool{true, false} {
		for _, made := range []bool{true, false} {
			for _, down := range []time.Duration{0, time.Minute} {
				if !started && down > 0 {
					continue // there is nobody to ask again
				}
				t.Run(fmt.Sprintf("started %v, made %v, then down for %v", started, made, down), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var heard atomic.Int64
						store := &lossy{made: made, down: down}
						store.lose.Store(true)
						f := newFleetOn(t, func(s tenant.Store) tenant.Store { store.Store = s; return store }, tenant.PoolConfig{},
							tenant.ManagerConfig{ConfirmFor: quick, OnQuarantine: func(_ context.Context, r tenant.Record, err error) {
								assert.Equal(t, "shop", r.ID)
								assert.Equal(t, tenant.Quarantined, r.Status)
								assert.ErrorIs(t, err, errors.Unauthorized)
								heard.Add(1)
							}})
						bot := f.register(t, "shop")
						if started {
							require.NoError(t, f.Start(bg))
							t.Cleanup(f.Stop)
							synctest.Wait()
						}
						bot.Revoke()
						assert.ErrorIs(t, f.getMe("shop"), errors.Unauthorized)
						time.Sleep(10 * time.Minute)
						assert.Equal(t, int64(1), heard.Load())
						assert.ErrorIs(t, f.getMe("shop"), errors.Suspended)
						time.Sleep(10 * time.Minute)
						assert.Equal(t, int64(1), heard.Load())
						var logged int
						for _, e := range f.log(t) {
							if e.Action == tenant.ActionQuarantine {
								logged++
							}
						}
						assert.Equal(t, 1, logged)
					})
				})
			}
		}
	}
}

// Whoever hears of a quarantine may hang: the others are quarantined all the
// same, and heard of.
func TestAHookThatHangsHoldsUpNoOtherTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, hanging = 60, 20
		free := make(chan struct{})
		var heard, over sync.Map
		f, bots := started(t, n, tenant.ManagerConfig{ConfirmFor: quick, MaxQuarantines: -1,
			OnQuarantine: func(ctx context.Context, r tenant.Record, _ error) {
				heard.Store(r.ID, true)
				var i int
				_, err := fmt.Sscanf(r.ID, "shop-%d", &i)
				assert.NoError(t, err)
				switch {
				case i < hanging/2: // and takes no notice of its context
					<-free
				case i < hanging:
					<-ctx.Done()
					over.Store(r.ID, true)
				}
			}})
		for i, bot := range bots {
			bot.Revoke()
			assert.ErrorIs(t, f.getMe(fmt.Sprint("shop-", i)), errors.Unauthorized)
		}
		time.Sleep(16 * time.Second)
		assert.Equal(t, map[tenant.Status]int{tenant.Quarantined: n}, f.statuses(t))
		for i := range bots {
			_, ok := heard.Load(fmt.Sprint("shop-", i))
			assert.True(t, ok, i)
		}
		time.Sleep(10 * time.Second)
		for i := hanging / 2; i < hanging; i++ {
			_, ok := over.Load(fmt.Sprint("shop-", i))
			assert.True(t, ok, "their time is bounded")
		}
		close(free)
		f.Stop()
	})
}

// So many may hang at a time and no more; who comes after them is told once one
// of them ends, and what is stored does not wait.
func TestHooksThatHangAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		var now, most, total atomic.Int64
		f, bots := started(t, n, tenant.ManagerConfig{ConfirmFor: quick, MaxQuarantines: -1,
			OnQuarantine: func(ctx context.Context, r tenant.Record, _ error) {
				most.Store(max(most.Load(), now.Add(1)))
				<-ctx.Done()
				now.Add(-1)
				total.Add(1)
			}})
		for i, bot := range bots {
			bot.Revoke()
			assert.ErrorIs(t, f.getMe(fmt.Sprint("shop-", i)), errors.Unauthorized)
		}
		time.Sleep(18 * time.Second)
		assert.Equal(t, map[tenant.Status]int{tenant.Quarantined: n}, f.statuses(t))
		assert.Equal(t, int64(64), now.Load())
		f.Stop() // waits for all, of whom none is left out
		assert.Equal(t, int64(n), total.Load())
		assert.Equal(t, int64(64), most.Load())
	})
}

// A tenant's notices come one after the other, in their order.
func TestAHookHearsOfATenantInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var heard []string
		free := make(chan struct{})
		f, bots := started(t, 1, tenant.ManagerConfig{
			ConfirmFor: quick,
			OnAccepted: func(context.Context, tenant.Record) {
				<-free
				mu.Lock()
				defer mu.Unlock()
				heard = append(heard, "accepted")
				panic("a hook that panics harms nobody")
			},
			OnQuarantine: func(context.Context, tenant.Record, error) {
				mu.Lock()
				defer mu.Unlock()
				heard = append(heard, "quarantined")
			},
		})
		end := f.srv.Fail(bottest.Fault{Bot: bots[0], Do: bottest.Unauthorized401()})
		assert.ErrorIs(t, f.getMe("shop-0"), errors.Unauthorized)
		end()
		time.Sleep(2 * time.Second)
		bots[0].Revoke()
		assert.ErrorIs(t, f.getMe("shop-0"), errors.Unauthorized)
		time.Sleep(time.Minute)
		assert.Equal(t, map[tenant.Status]int{tenant.Quarantined: 1}, f.statuses(t))
		assert.Empty(t, heard)
		close(free)
		f.Stop()
		assert.Equal(t, []string{"accepted", "quarantined"}, heard)
	})
}
