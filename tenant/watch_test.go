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
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
)

// replica is one of several services over one store.
type replica struct {
	*tenant.Manager
	pool   *tenant.Pool
	opened atomic.Int64
	closed atomic.Int64
	told   sync.Map // limits by tenant
}

// SetTenant implements [tenant.Limiter].
func (r *replica) SetTenant(id string, limits session.Limits) error {
	r.told.Store(id, limits)
	return nil
}

// limits returns what the replica's limiter was last told.
func (r *replica) limits(id string) session.Limits {
	l, _ := r.told.Load(id)
	limits, _ := l.(session.Limits)
	return limits
}

func newReplica(t *testing.T, srv *bottest.Server, store tenant.Store) *replica {
	s, err := session.New(session.Config{Transport: srv.Transport()})
	require.NoError(t, err)
	r := &replica{}
	r.pool, err = tenant.NewPool(s, store, tenant.PoolConfig{Limiter: r, OnOpen: []tenant.Hook{
		func(context.Context, *tenant.Tenant) (func(context.Context) error, error) {
			r.opened.Add(1)
			return func(context.Context) error { r.closed.Add(1); return nil }, nil
		},
	}})
	require.NoError(t, err)
	r.Manager = tenant.NewManager(r.pool, tenant.ManagerConfig{})
	require.NoError(t, r.Start(bg))
	t.Cleanup(func() {
		r.Stop()
		require.NoError(t, r.pool.Close(bg))
		require.NoError(t, s.Close(bg))
	})
	return r
}

func (r *replica) use(t *testing.T, id string) (token string) {
	t.Helper()
	require.NoError(t, r.pool.Do(bg, id, func(ctx context.Context, tt *tenant.Tenant) error {
		token = tt.Record.Token.Reveal()
		_, err := tt.Bot.GetMeWithContext(ctx, nil)
		return err
	}))
	return token
}

func TestAChangeInOneReplicaReachesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
		defer srv.Close()
		store := tenant.NewMemoryStore()
		a, b := newReplica(t, srv, store), newReplica(t, srv, store)
		bot := srv.NewBot("shop_bot")
		_, err := a.Register(bg, "shop", bot.Token())
		require.NoError(t, err)
		synctest.Wait() // a bot that is opening meanwhile is opened anew
		a.use(t, "shop")
		b.use(t, "shop")

		token := bot.RotateToken()
		_, err = a.Rotate(bg, "shop", token)
		require.NoError(t, err)
		synctest.Wait()
		assert.Equal(t, int64(1), b.closed.Load(), "the old bot is closed")
		assert.Equal(t, token, b.use(t, "shop"))
		a.use(t, "shop")
		synctest.Wait()
		assert.Equal(t, int64(2), a.opened.Load(), "its own change closes nothing twice")

		lease, err := b.pool.Acquire(bg, "shop")
		require.NoError(t, err)
		_, err = a.Suspend(bg, "shop", "unpaid")
		require.NoError(t, err)
		synctest.Wait()
		assert.Error(t, lease.Context().Err(), "who uses the bot is told to stop")
		lease.Release()
		_, err = b.pool.Acquire(bg, "shop")
		assert.ErrorIs(t, err, errors.Suspended)
		_, err = b.Resume(bg, "shop")
		require.NoError(t, err)
		a.use(t, "shop")

		lease, err = b.pool.Acquire(bg, "shop")
		require.NoError(t, err)
		require.NoError(t, a.Remove(bg, "shop"))
		synctest.Wait()
		assert.Error(t, lease.Context().Err())
		lease.Release()
		_, err = b.pool.Acquire(bg, "shop")
		assert.ErrorIs(t, err, errors.NotFound)

		assert.Error(t, a.Start(bg), "it runs")
		a.Stop()
		a.Stop()
		require.NoError(t, a.Start(bg))
	})
}

// deaf is a store whose watch fails, and misses all meanwhile.
type deaf struct {
	*tenant.MemoryStore
	cut     atomic.Pointer[context.CancelFunc]
	down    atomic.Bool
	watches atomic.Int64
}

func (s *deaf) Watch(ctx context.Context, f func(tenant.Change)) error {
	s.watches.Add(1)
	if s.down.Load() {
		return errors.StoreUnavailable
	}
	ctx, cancel := context.WithCancel(ctx)
	s.cut.Store(&cancel)
	return s.MemoryStore.Watch(ctx, f)
}

func (s *deaf) GetMany(ctx context.Context, ids []string) (map[string]tenant.Record, error) {
	if s.down.Load() {
		return nil, errors.StoreUnavailable
	}
	return s.MemoryStore.GetMany(ctx, ids)
}

func TestWhatWasMissedIsFoundAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
		defer srv.Close()
		memory := tenant.NewMemoryStore()
		store := &deaf{MemoryStore: memory}
		a, b := newReplica(t, srv, memory), newReplica(t, srv, store)
		bots := map[string]*bottest.Bot{}
		for _, id := range []string{"rotated", "removed", "replaced", "suspended", "same"} {
			bots[id] = srv.NewBot(id + "_bot")
			_, err := a.Register(bg, id, bots[id].Token())
			require.NoError(t, err)
			synctest.Wait()
			b.use(t, id)
		}

		store.down.Store(true)
		(*store.cut.Load())()
		time.Sleep(10 * time.Minute) // it asks again, and not all the time
		assert.Less(t, store.watches.Load(), int64(60))
		_, err := a.Rotate(bg, "rotated", bots["rotated"].RotateToken())
		require.NoError(t, err)
		require.NoError(t, a.Remove(bg, "removed"))
		require.NoError(t, a.Remove(bg, "replaced"))
		_, err = a.Register(bg, "replaced", bots["replaced"].RotateToken())
		require.NoError(t, err, "whose record is another")
		_, err = a.Suspend(bg, "suspended", "")
		require.NoError(t, err)
		for id := range bots {
			if id != "same" {
				l, err := b.pool.Acquire(bg, id)
				require.NoError(t, err, "it has not heard of it")
				l.Release()
			}
		}
		b.use(t, "same")
		closed := b.closed.Load()

		store.down.Store(false)
		time.Sleep(2 * time.Minute)
		assert.Equal(t, closed+4, b.closed.Load())
		b.use(t, "same")
		assert.Equal(t, closed+4, b.closed.Load())
		assert.Equal(t, bots["rotated"].Token(), b.use(t, "rotated"))
		assert.Equal(t, bots["replaced"].Token(), b.use(t, "replaced"))
		_, err = b.pool.Acquire(bg, "removed")
		assert.ErrorIs(t, err, errors.NotFound)
		_, err = b.pool.Acquire(bg, "suspended")
		assert.ErrorIs(t, err, errors.Suspended)
	})
}

// late is a store whose changes are heard when the test says so.
type late struct {
	*tenant.MemoryStore
	changes chan tenant.Change
}

func (s *late) Watch(ctx context.Context, f func(tenant.Change)) error {
	for {
		select {
		case c := <-s.changes:
			f(c)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestAChangeThatIsHeardLateHarmsNoNewerBot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
		defer srv.Close()
		store := &late{tenant.NewMemoryStore(), make(chan tenant.Change)}
		r := newReplica(t, srv, store)
		bot := srv.NewBot("shop_bot")
		register := func() {
			_, err := r.Register(bg, "shop", bot.Token())
			require.NoError(t, err)
		}
		register()
		require.NoError(t, r.Remove(bg, "shop"))
		register()
		_, err := r.Suspend(bg, "shop", "")
		require.NoError(t, err)
		_, err = r.Resume(bg, "shop")
		require.NoError(t, err)
		lease, err := r.pool.Acquire(bg, "shop")
		require.NoError(t, err)
		for _, c := range []tenant.Change{
			{ID: "shop", Version: 1}, {ID: "shop"}, {ID: "shop", Version: 1},
			{ID: "shop", Version: 2, Status: tenant.Suspended}, {ID: "shop", Version: 3},
		} {
			store.changes <- c
			synctest.Wait()
			assert.NoError(t, lease.Context().Err(), "%+v", c)
		}
		lease.Release()
		r.use(t, "shop")
		assert.Equal(t, int64(1), r.opened.Load())
		assert.Equal(t, int64(0), r.closed.Load())
	})
}

func TestAManagerStopsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
		f.Stop() // without Start
		ctx, cancel := context.WithCancel(bg)
		require.NoError(t, f.Start(ctx))
		cancel()
		synctest.Wait()
		require.NoError(t, f.Start(bg))
		f.Stop()
	})
}

func TestAChangeThatLeavesTheBotAsItIsEndsNoInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
		defer srv.Close()
		memory := tenant.NewMemoryStore()
		store := &deaf{MemoryStore: memory}
		a, b := newReplica(t, srv, memory), newReplica(t, srv, store)
		_, err := a.Register(bg, "shop", srv.NewBot("shop_bot").Token())
		require.NoError(t, err)
		synctest.Wait()
		leases := []tenant.Lease{}
		for _, r := range []*replica{a, b} { // each has a poller, for days
			l, err := r.pool.Acquire(bg, "shop")
			require.NoError(t, err)
			leases = append(leases, l)
		}
		check := func(what string) {
			synctest.Wait()
			a.use(t, "shop")
			b.use(t, "shop")
			assert.Equal(t, int64(1), a.opened.Load(), what)
			assert.Equal(t, int64(1), b.opened.Load(), what)
		}
		for _, weight := range []int{2, 3, 0} {
			_, err = a.SetLimits(bg, "shop", session.Limits{Weight: weight})
			require.NoError(t, err)
			check("limits")
			assert.Equal(t, session.Limits{Weight: weight}, b.limits("shop"), "another replica's limits bind at once")
		}
		r, err := memory.Get(bg, "shop")
		require.NoError(t, err)
		r.Metadata = map[string]string{"plan": "pro"}
		_, err = memory.Put(bg, r)
		require.NoError(t, err)
		check("metadata")

		store.down.Store(true)
		(*store.cut.Load())()
		_, err = a.SetLimits(bg, "shop", session.Limits{Weight: 4})
		require.NoError(t, err)
		store.down.Store(false)
		time.Sleep(time.Minute)
		check("a watch that was begun anew")
		assert.Equal(t, session.Limits{Weight: 4}, b.limits("shop"), "what was missed binds too")
		for _, l := range leases {
			assert.NoError(t, l.Context().Err())
			l.Release()
		}
	})
}

func TestAnInstanceThatEndsHearsOfWhatWasMissedToo(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, r *replica, bot *bottest.Bot){
		"suspended": func(t *testing.T, r *replica, _ *bottest.Bot) {
			_, err := r.Suspend(bg, "shop", "unpaid")
			require.NoError(t, err)
		},
		"removed": func(t *testing.T, r *replica, _ *bottest.Bot) {
			require.NoError(t, r.Remove(bg, "shop"))
		},
		"another's": func(t *testing.T, r *replica, bot *bottest.Bot) {
			require.NoError(t, r.Remove(bg, "shop"))
			_, err := r.Register(bg, "shop", bot.Token())
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
				defer srv.Close()
				memory := tenant.NewMemoryStore()
				store := &deaf{MemoryStore: memory}
				a, b := newReplica(t, srv, memory), newReplica(t, srv, store)
				bot := srv.NewBot("shop_bot")
				_, err := a.Register(bg, "shop", bot.Token())
				require.NoError(t, err)
				synctest.Wait()
				lease, err := b.pool.Acquire(bg, "shop")
				require.NoError(t, err)
				defer lease.Release()
				_, err = a.Rotate(bg, "shop", bot.RotateToken())
				require.NoError(t, err)
				synctest.Wait()
				require.NoError(t, lease.Context().Err(), "it ends with its last lease")

				store.down.Store(true)
				(*store.cut.Load())()
				time.Sleep(time.Minute)
				change(t, a, bot)
				store.down.Store(false)
				time.Sleep(time.Minute)
				assert.Error(t, lease.Context().Err())
			})
		})
	}
}

// partly is a store one of whose records can't be read.
type partly struct {
	*tenant.MemoryStore
	bad atomic.Pointer[string]
}

func (s *partly) Get(ctx context.Context, id string) (tenant.Record, error) {
	if bad := s.bad.Load(); bad != nil && *bad == id {
		return tenant.Record{}, errors.Internal
	}
	return s.MemoryStore.Get(ctx, id)
}

func (s *partly) GetMany(ctx context.Context, ids []string) (map[string]tenant.Record, error) {
	if bad := s.bad.Load(); bad != nil && slices.Contains(ids, *bad) {
		return nil, errors.Internal
	}
	return s.MemoryStore.GetMany(ctx, ids)
}

func TestARecordThatCantBeReadMakesNobodyDeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
		defer srv.Close()
		memory := tenant.NewMemoryStore()
		store := &partly{MemoryStore: memory}
		a, b := newReplica(t, srv, memory), newReplica(t, srv, store)
		for _, id := range []string{"bad", "good"} {
			_, err := a.Register(bg, id, srv.NewBot(id+"_bot").Token())
			require.NoError(t, err)
			synctest.Wait()
			b.use(t, id)
		}
		lease, err := b.pool.Acquire(bg, "good")
		require.NoError(t, err)
		defer lease.Release()
		bad := "bad"
		store.bad.Store(&bad)
		r, err := memory.Get(bg, "bad")
		require.NoError(t, err)
		_, err = memory.Put(bg, r)
		require.NoError(t, err)
		_, err = a.Suspend(bg, "good", "unpaid")
		require.NoError(t, err)
		synctest.Wait()
		assert.Error(t, lease.Context().Err())
		assert.Equal(t, int64(1), b.closed.Load(), "who can't be read is used no more")
		_, err = b.pool.Acquire(bg, "bad")
		assert.ErrorIs(t, err, errors.Internal)
	})
}

// restored is a store in whose place an older copy of it is put, which those
// who watch hear.
type restored struct {
	tenant.Store
	restore chan tenant.Store
}

func (s *restored) Watch(ctx context.Context, f func(tenant.Change)) error {
	for {
		watch, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func(store tenant.Store) { ended <- store.Watch(watch, f) }(s.Store)
		select {
		case older := <-s.restore:
			cancel()
			<-ended
			s.Store = older
		case err := <-ended:
			cancel()
			return err
		}
	}
}

// Versions begin anew where an older copy ended, so a bot that is open has a
// greater one than the changes that come, or the same.
func TestChangesAreHeardAfterAnOlderCopyWasRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
		defer srv.Close()
		store, older := tenant.NewMemoryStore(), tenant.NewMemoryStore()
		bot := srv.NewBot("shop_bot")
		token, err := session.ParseToken(bot.Token())
		require.NoError(t, err)
		first := tenant.Record{ID: "shop", BotID: bot.ID(), Token: token, CreatedAt: time.Now()}
		last, err := older.Put(bg, first)
		require.NoError(t, err)
		record, err := store.Put(bg, first)
		require.NoError(t, err)
		for range 5 {
			record, err = store.Put(bg, record)
			require.NoError(t, err)
		}
		s := &restored{store, make(chan tenant.Store)}
		r := newReplica(t, srv, s)
		synctest.Wait()
		lease, err := r.pool.Acquire(bg, "shop")
		require.NoError(t, err)
		defer lease.Release()

		s.restore <- older
		synctest.Wait()
		assert.NoError(t, lease.Context().Err(), "it is the same bot")
		for last.Version < record.Version-1 { // by another replica
			last.Limits.Weight++
			last, err = older.Put(bg, last)
			require.NoError(t, err)
		}
		synctest.Wait()
		assert.Equal(t, last.Limits, r.limits("shop"))
		assert.NoError(t, lease.Context().Err(), "it still is")
		last.Status = tenant.Suspended
		_, err = older.Put(bg, last)
		require.NoError(t, err)
		synctest.Wait()
		assert.Error(t, lease.Context().Err(), "who uses the bot is told to stop")
	})
}

// closedStore is a store that was closed while somebody hears of a change.
type closedStore struct {
	tenant.Store
	closed atomic.Bool
	ended  atomic.Int64 // calls of those who hear
}

func (s *closedStore) GetMany(ctx context.Context, ids []string) (map[string]tenant.Record, error) {
	if s.closed.Load() {
		return nil, &errors.Error{Kind: errors.Closed, Op: "get tenants"}
	}
	return s.Store.GetMany(ctx, ids)
}

func (s *closedStore) Get(ctx context.Context, id string) (tenant.Record, error) {
	if s.closed.Load() {
		return tenant.Record{}, &errors.Error{Kind: errors.Closed, Op: "get tenant"}
	}
	return s.Store.Get(ctx, id)
}

func (s *closedStore) Watch(ctx context.Context, f func(tenant.Change)) error {
	if s.closed.Swap(true) {
		<-ctx.Done()
		return ctx.Err()
	}
	f(tenant.Change{})
	s.ended.Add(1)
	return &errors.Error{Kind: errors.Closed, Op: "watch tenants"}
}

// Or a database that waits for those who hear would wait for ever.
func TestWhoHearsOfAChangeAsksNoStoreThatWasClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &closedStore{}
		f := newFleetOn(t, func(s tenant.Store) tenant.Store { store.Store = s; return store }, tenant.PoolConfig{}, tenant.ManagerConfig{})
		f.register(t, "shop")
		require.NoError(t, f.getMe("shop"))
		require.NoError(t, f.Start(bg))
		time.Sleep(time.Minute)
		assert.Equal(t, int64(1), store.ended.Load())
		f.Stop()
	})
}
