package tenant_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
)

var (
	_ tenant.Health    = (*health.Monitor)(nil)
	_ tenant.Forgetter = (*usage.Recorder)(nil)
)

func newMonitor(t testing.TB, cfg health.Config) *health.Monitor {
	m, err := health.New(cfg)
	require.NoError(t, err)
	return m
}

func newRecorder(t testing.TB) (*usage.Recorder, *usage.MemoryStore) {
	store := usage.NewMemoryStore()
	r, err := usage.New(usage.Config{Store: store})
	require.NoError(t, err)
	return r, store
}

// status is a tenant's as a monitor knows it.
func status(m *health.Monitor, id string) string {
	r, found := m.Get(id)
	if !found {
		return "unknown"
	}
	return r.Status.String()
}

func TestHealthHearsWhoMayBeUsed(t *testing.T) {
	monitor := newMonitor(t, health.Config{})
	recorder, counted := newRecorder(t)
	f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{Health: monitor, Forget: []tenant.Forgetter{recorder}})
	bot := f.register(t, "shop")
	assert.Equal(t, "healthy", status(monitor, "shop"), "who is registered is known")

	_, err := f.Suspend(bg, "shop", "unpaid")
	require.NoError(t, err)
	r, _ := monitor.Get("shop")
	assert.Equal(t, "suspended: unpaid", r.Reason)
	_, err = f.Rotate(bg, "shop", bot.RotateToken())
	require.NoError(t, err)
	assert.Equal(t, "suspended", status(monitor, "shop"), "a new token does not lift a suspension")
	_, err = f.Resume(bg, "shop")
	require.NoError(t, err)
	assert.Equal(t, "healthy", status(monitor, "shop"))

	require.NoError(t, f.getMe("shop"))
	bot.Revoke()
	require.Error(t, f.getMe("shop"))
	r, _ = monitor.Get("shop")
	assert.Equal(t, health.Suspended, r.Status)
	assert.Contains(t, r.Reason, "quarantined")
	_, err = f.Rotate(bg, "shop", bot.RotateToken())
	require.NoError(t, err)
	assert.Equal(t, "healthy", status(monitor, "shop"))

	recorder.Observe("shop", usage.Call{Method: "getMe"})
	require.NoError(t, recorder.Flush(bg))
	recorder.Observe("shop", usage.Call{Method: "getMe"})
	require.NoError(t, f.Remove(bg, "shop"))
	assert.Equal(t, "unknown", status(monitor, "shop"))
	require.NoError(t, recorder.Flush(bg))
	rollups, err := counted.Range(bg, "shop", time.Now().Add(-2*time.Hour), time.Now().Add(time.Hour))
	require.NoError(t, err)
	assert.Empty(t, rollups, "whoever gets the id next gets no figures")
}

// forgetful fails to forget as often as it is told.
type forgetful struct{ fails, calls atomic.Int64 }

func (f *forgetful) Forget(ctx context.Context, id string) error {
	f.calls.Add(1)
	if f.fails.Add(-1) >= 0 {
		return errors.StoreUnavailable
	}
	return ctx.Err()
}

func TestWhatWasNotForgottenIsForgottenTheNextTime(t *testing.T) {
	monitor, bad := newMonitor(t, health.Config{}), &forgetful{}
	f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{Health: monitor, Forget: []tenant.Forgetter{bad}})
	f.register(t, "shop")
	bad.fails.Store(2)
	assert.ErrorIs(t, f.Remove(bg, "shop"), errors.StoreUnavailable)
	assert.Equal(t, "unknown", status(monitor, "shop"), "one that fails does not keep the others")
	_, err := f.Get(bg, "shop")
	assert.ErrorIs(t, err, errors.NotFound, "it is gone all the same")
	assert.ErrorIs(t, f.Remove(bg, "shop"), errors.StoreUnavailable)
	assert.ErrorIs(t, f.Remove(bg, "shop"), errors.NotFound)
	assert.Equal(t, int64(3), bad.calls.Load())
	assert.ErrorIs(t, f.Remove(bg, ""), errors.NotFound)
	assert.Equal(t, int64(3), bad.calls.Load(), "an id that nobody has is nobody's")
}

// lastWord is a Health that remembers what it was told last.
type lastWord struct {
	mu   sync.Mutex
	of   map[string]string
	said func(id, what string) // called before it is noted
}

func (l *lastWord) note(id, what string) {
	if l.said != nil {
		l.said(id, what)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = make(map[string]string)
	}
	l.of[id] = what
}

func (l *lastWord) get(id string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of[id]
}

func (l *lastWord) Suspend(id, reason string)                 { l.note(id, "suspended: "+reason) }
func (l *lastWord) Quarantine(id, _ string)                   { l.note(id, "quarantined") }
func (l *lastWord) Resume(id string)                          { l.note(id, "active") }
func (l *lastWord) Forget(_ context.Context, id string) error { l.note(id, "gone"); return nil }

func TestTheLastWordIsWhatIsStored(t *testing.T) {
	last := &lastWord{said: func(string, string) { runtime.Gosched() }}
	f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{Health: last})
	require.NoError(t, f.Start(bg)) // which hears of all this late
	defer f.Stop()
	const tenants = 4
	bots := make([]*bottest.Bot, tenants)
	for i := range bots {
		bots[i] = f.register(t, fmt.Sprint(i))
	}
	for range 20 {
		var wg sync.WaitGroup
		for i := range 24 {
			id := fmt.Sprint(i % tenants)
			wg.Go(func() {
				var err error
				switch i / tenants % 3 {
				case 0:
					_, err = f.Suspend(bg, id, fmt.Sprint(i))
				case 1:
					_, err = f.Resume(bg, id)
				default:
					if i%tenants != 0 {
						_, err = f.Suspend(bg, id, "again")
					} else if err = f.Remove(bg, id); err == nil {
						_, err = f.Register(bg, id, bots[0].Token())
					}
				}
				if !errors.Is(err, errors.NotFound) && !errors.Is(err, errors.Exists) {
					assert.NoError(t, err)
				}
			})
		}
		wg.Wait()
		for i := range tenants {
			id := fmt.Sprint(i)
			want := "gone"
			if r, err := f.Get(bg, id); err == nil && r.Status == tenant.Suspended {
				want = "suspended: " + r.Reason
			} else if err == nil {
				want = "active"
			} else {
				f.Register(bg, id, bots[i].Token())
				want = "active"
			}
			assert.Eventually(t, func() bool { return last.get(id) == want }, 10*time.Second, time.Millisecond,
				"%s is %s", id, want)
		}
	}
}

// halting is a store whose Put of a status waits, after it was carried out.
type halting struct {
	tenant.Store
	status     tenant.Status
	done, go_  chan struct{}
	waitedOnce atomic.Bool
}

func (s *halting) Put(ctx context.Context, r tenant.Record, log ...tenant.Entry) (tenant.Record, error) {
	stored, err := s.Store.Put(ctx, r, log...)
	if r.Status == s.status && s.waitedOnce.CompareAndSwap(false, true) {
		close(s.done)
		<-s.go_
	}
	return stored, err
}

func TestWhoComesLateDoesNotHaveTheLastWord(t *testing.T) {
	srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
	defer srv.Close()
	s, err := session.New(session.Config{Transport: srv.Transport()})
	require.NoError(t, err)
	defer s.Close(bg)
	store := &halting{Store: tenant.NewMemoryStore(), status: tenant.Suspended, done: make(chan struct{}), go_: make(chan struct{})}
	p, err := tenant.NewPool(s, store, tenant.PoolConfig{})
	require.NoError(t, err)
	defer p.Close(bg)
	last := &lastWord{}
	m := tenant.NewManager(p, tenant.ManagerConfig{Health: last})
	_, err = m.Register(bg, "shop", srv.NewBot("shop_bot").Token())
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := m.Suspend(bg, "shop", "unpaid")
		assert.NoError(t, err)
	})
	<-store.done // it is stored, and not told
	_, err = m.Resume(bg, "shop")
	require.NoError(t, err)
	close(store.go_)
	wg.Wait()
	assert.Equal(t, "active", last.get("shop"))
}

// A monitor that fails must not harm the tenants.
func TestAHealthThatPanicsOrEndsItsGoroutineHarmsNobody(t *testing.T) {
	last := &lastWord{}
	f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{Health: last})
	f.register(t, "shop")
	last.said = func(string, string) { panic("123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr") }
	_, err := f.Suspend(bg, "shop", "")
	require.NoError(t, err)
	assert.ErrorIs(t, f.getMe("shop"), errors.Suspended)
	last.said = func(string, string) { runtime.Goexit() }
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = f.Resume(bg, "shop")
	}()
	<-done
	last.said = nil
	_, err = f.Suspend(bg, "shop", "unpaid")
	require.NoError(t, err)
	assert.Equal(t, "suspended: unpaid", last.get("shop"))
}

// readying is a monitor that has not loaded what it stored.
type readying struct {
	lastWord
	ready atomic.Bool
}

func (r *readying) Ready() error {
	if r.ready.Load() {
		return nil
	}
	return errors.Unavailable
}

func TestHealthKnowsAfterARestartWhoIsSuspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		last := &readying{}
		f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
		f.register(t, "active")
		f.register(t, "unpaid")
		f.register(t, "revoked").Revoke()
		_, err := f.Suspend(bg, "unpaid", "no money")
		require.NoError(t, err)
		require.Error(t, f.getMe("revoked"))

		m := tenant.NewManager(f.pool, tenant.ManagerConfig{Health: last})
		require.NoError(t, m.Start(bg))
		defer m.Stop()
		time.Sleep(time.Minute)
		assert.Empty(t, last.get("unpaid"), "it would take what it loads for the later word")
		last.ready.Store(true)
		time.Sleep(time.Minute)
		assert.Equal(t, "active", last.get("active"))
		assert.Equal(t, "suspended: no money", last.get("unpaid"))
		assert.Equal(t, "quarantined", last.get("revoked"))
	})
}

// A process is killed after it resumed a tenant and before it saved that.
func TestASuspensionThatWasLiftedBeforeACrashIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := health.NewMemoryStore()
		saved := newMonitor(t, health.Config{Store: store})
		require.NoError(t, saved.Start(bg))
		saved.Suspend("shop", "unpaid")
		require.NoError(t, saved.Stop(bg))

		f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
		f.register(t, "shop")
		monitor := newMonitor(t, health.Config{Store: store})
		m := tenant.NewManager(f.pool, tenant.ManagerConfig{Health: monitor})
		require.NoError(t, m.Start(bg))
		defer m.Stop()
		require.NoError(t, monitor.Start(bg))
		defer monitor.Stop(bg)
		time.Sleep(time.Minute)
		assert.Equal(t, "healthy", status(monitor, "shop"))
	})
}

func TestHealthHearsOfOtherReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
		f.register(t, "shop")
		store := &deaf{MemoryStore: f.store}
		pool, err := tenant.NewPool(f.s, store, tenant.PoolConfig{})
		require.NoError(t, err)
		defer pool.Close(bg)
		last := &lastWord{}
		other := tenant.NewManager(pool, tenant.ManagerConfig{Health: last})
		require.NoError(t, other.Start(bg))
		defer other.Stop()
		synctest.Wait()
		assert.Equal(t, "active", last.get("shop"))
		change := func(do func() (tenant.Record, error), want string) {
			t.Helper()
			_, err := do()
			require.NoError(t, err)
			synctest.Wait()
			assert.Equal(t, want, last.get("shop"))
		}
		suspend := func() (tenant.Record, error) { return f.Suspend(bg, "shop", "unpaid") }
		resume := func() (tenant.Record, error) { return f.Resume(bg, "shop") }
		change(suspend, "suspended: unpaid")
		change(resume, "active")
		change(suspend, "suspended: unpaid")

		store.down.Store(true)
		(*store.cut.Load())()
		change(resume, "suspended: unpaid") // which it can't hear
		store.down.Store(false)
		time.Sleep(2 * time.Minute)
		assert.Equal(t, "active", last.get("shop"), "what was missed is found afterwards")
		change(func() (tenant.Record, error) { return tenant.Record{}, f.Remove(bg, "shop") }, "gone")
	})
}
