package tenant_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
)

// answered is a transport that runs a func once, when Telegram has answered and
// the caller does not know it yet.
type answered struct {
	http.RoundTripper
	then func()
}

func (a *answered) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := a.RoundTripper.RoundTrip(r)
	if then := a.then; then != nil {
		a.then = nil
		then()
	}
	return resp, err
}

// fickle is a store whose next change is made and said to have failed, or is
// made when the test says so.
type fickle struct {
	*tenant.MemoryStore
	fails  bool
	late   func() // makes a Put that failed
	before func() // runs once, before a Put
}

func (s *fickle) Put(ctx context.Context, r tenant.Record, log ...tenant.Entry) (tenant.Record, error) {
	if before := s.before; before != nil {
		s.before = nil
		before()
	}
	if s.fails {
		s.fails = false
		s.late = func() { _, _ = s.MemoryStore.Put(bg, r, log...) }
		return tenant.Record{}, errors.StoreUnavailable
	}
	return s.MemoryStore.Put(ctx, r, log...)
}

func (s *fickle) Delete(ctx context.Context, id string, version int64, log ...tenant.Entry) error {
	err := s.MemoryStore.Delete(ctx, id, version, log...)
	if s.fails {
		s.fails = false
		return errors.StoreUnavailable
	}
	return err
}

// newManager returns a manager that does not watch its store.
func newManager(t *testing.T, transport http.RoundTripper, store tenant.Store, cfg tenant.PoolConfig) (*tenant.Manager, *tenant.Pool) {
	s, err := session.New(session.Config{Transport: transport})
	require.NoError(t, err)
	p, err := tenant.NewPool(s, store, cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, p.Close(bg))
		require.NoError(t, s.Close(bg))
	})
	return tenant.NewManager(p, tenant.ManagerConfig{}), p
}

func TestARotationDoesNotUndoALaterOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
		defer srv.Close()
		transport := &answered{RoundTripper: srv.Transport()}
		m, _ := newManager(t, transport, tenant.NewMemoryStore(), tenant.PoolConfig{})
		bot := srv.NewBot("shop_bot")
		_, err := m.Register(bg, "shop", bot.Token())
		require.NoError(t, err)

		first := bot.RotateToken()
		transport.then = func() { // Telegram accepts the first no longer
			_, err := m.Rotate(bg, "shop", bot.RotateToken())
			require.NoError(t, err)
		}
		_, err = m.Rotate(bg, "shop", first)
		assert.ErrorIs(t, err, errors.Unauthorized)
		r, err := m.Get(bg, "shop")
		require.NoError(t, err)
		assert.Equal(t, bot.Token(), r.Token.Reveal())

		last := bot.RotateToken()
		transport.then = func() { // removed and registered anew
			require.NoError(t, m.Remove(bg, "shop"))
			_, err := m.Register(bg, "shop", srv.NewBot("other_bot").Token())
			require.NoError(t, err)
		}
		_, err = m.Rotate(bg, "shop", last)
		assert.ErrorIs(t, err, errors.WrongBot)
	})
}

func TestAnInstanceOfAnOldTokenIsGivenUpAfterA401(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
		defer srv.Close()
		store := tenant.NewMemoryStore()
		a, _ := newManager(t, srv.Transport(), store, tenant.PoolConfig{})
		_, b := newManager(t, srv.Transport(), store, tenant.PoolConfig{}) // does not hear of changes
		bot := srv.NewBot("shop_bot")
		_, err := a.Register(bg, "shop", bot.Token())
		require.NoError(t, err)
		call := func() error {
			return b.Do(bg, "shop", func(ctx context.Context, tt *tenant.Tenant) error {
				_, err := tt.Bot.GetMeWithContext(ctx, nil)
				return err
			})
		}
		require.NoError(t, call())

		_, err = a.Rotate(bg, "shop", bot.RotateToken())
		require.NoError(t, err)
		assert.ErrorIs(t, call(), errors.Unauthorized, "once")
		assert.NoError(t, call(), "the stored token is good")

		lease, err := b.Acquire(bg, "shop")
		require.NoError(t, err)
		bot.RotateToken()
		require.NoError(t, a.Remove(bg, "shop"))
		_, err = lease.Tenant().Bot.GetMeWithContext(bg, nil)
		assert.ErrorIs(t, err, errors.Unauthorized)
		assert.Error(t, lease.Context().Err(), "who uses a removed tenant is told to stop")
		lease.Release()
		assert.ErrorIs(t, call(), errors.NotFound)
	})
}

func TestRepeatingAChangeThatWasMadeEndsTheOldBot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
		defer srv.Close()
		store := &fickle{MemoryStore: tenant.NewMemoryStore()}
		m, p := newManager(t, srv.Transport(), store, tenant.PoolConfig{})
		bot := srv.NewBot("shop_bot")
		_, err := m.Register(bg, "shop", bot.Token())
		require.NoError(t, err)
		use := func() string {
			lease, err := p.Acquire(bg, "shop")
			require.NoError(t, err)
			defer lease.Release()
			return lease.Tenant().Record.Token.Reveal()
		}

		old, token := bot.Token(), bot.RotateToken()
		store.fails = true
		_, err = m.Rotate(bg, "shop", token)
		require.ErrorIs(t, err, errors.StoreUnavailable)
		require.Equal(t, old, use(), "it is not stored yet")
		store.late()
		_, err = m.Rotate(bg, "shop", token)
		require.NoError(t, err)
		assert.Equal(t, token, use())
		lease, err := p.Acquire(bg, "shop")
		require.NoError(t, err)
		_, err = m.Rotate(bg, "shop", token)
		require.NoError(t, err)
		_, err = m.Register(bg, "shop", token)
		require.NoError(t, err)
		assert.Equal(t, token, use(), "a repetition with nothing to do ends nothing")

		store.fails = true
		require.ErrorIs(t, m.Remove(bg, "shop"), errors.StoreUnavailable)
		require.ErrorIs(t, m.Remove(bg, "shop"), errors.NotFound)
		assert.Error(t, lease.Context().Err(), "who uses a removed tenant is told to stop")
		lease.Release()
	})
}

func TestAChangeOfARemovedTenantDoesNotReachTheNextOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
		defer srv.Close()
		store := &fickle{MemoryStore: tenant.NewMemoryStore()}
		m, _ := newManager(t, srv.Transport(), store, tenant.PoolConfig{})
		_, err := m.Register(bg, "shop", srv.NewBot("old_bot").Token())
		require.NoError(t, err)
		next := srv.NewBot("next_bot")
		store.before = func() {
			require.NoError(t, m.Remove(bg, "shop"))
			_, err := m.Register(bg, "shop", next.Token())
			require.NoError(t, err)
		}
		_, err = m.SetLimits(bg, "shop", session.Limits{Weight: 2})
		require.NoError(t, err)
		r, err := m.Get(bg, "shop")
		require.NoError(t, err)
		assert.Equal(t, next.Token(), r.Token.Reveal())
	})
}
