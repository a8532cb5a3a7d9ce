package tenant_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
)

func (f *fleet) log(t *testing.T) (all []tenant.Entry) {
	for e, err := range f.Log(bg, tenant.LogFilter{Limit: 2}) {
		require.NoError(t, err)
		all = append(all, e)
	}
	return all
}

func TestEveryChangeIsLoggedOnceWithWhoAndNeverTheSecret(t *testing.T) {
	f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
	bot := f.srv.NewBot("shop_bot")
	first := bot.Token()
	ann := tenant.WithActor(bg, "ann\n@support "+first)
	limits := session.Limits{Weight: 2}

	// Each is done twice, as after a crash that hid the first one's outcome.
	for range 2 {
		_, err := f.Register(ann, "shop", first)
		require.NoError(t, err)
	}
	second := bot.RotateToken()
	for range 2 {
		_, err := f.Rotate(ann, "shop", second)
		require.NoError(t, err)
	}
	for range 2 {
		_, err := f.SetLimits(ann, "shop", limits)
		require.NoError(t, err)
	}
	for range 2 {
		r, err := f.Suspend(ann, "shop", "pasted "+second+strings.Repeat("é", 2000))
		require.NoError(t, err)
		assert.NotContains(t, r.Reason, second)
	}
	for range 2 {
		_, err := f.Resume(ann, "shop")
		require.NoError(t, err)
	}
	bot.Revoke()
	assert.Error(t, f.getMe("shop"))
	require.NoError(t, f.Remove(ann, "shop"))
	assert.ErrorIs(t, f.Remove(ann, "shop"), errors.NotFound)

	var actions []tenant.Action
	for i, e := range f.log(t) {
		actions = append(actions, e.Action)
		assert.Equal(t, "shop", e.Tenant)
		assert.Equal(t, bot.ID(), e.BotID)
		assert.Equal(t, min(int64(i+1), 6), e.Version)
		assert.False(t, e.Time.IsZero())
		for _, secret := range []string{first, second} {
			assert.NotContains(t, e.Actor+e.Detail, secret)
		}
		if e.Action == tenant.ActionQuarantine {
			assert.Empty(t, e.Actor, "nobody asked for it")
		} else {
			assert.Contains(t, e.Actor, "ann @support")
		}
	}
	assert.Equal(t, []tenant.Action{
		tenant.ActionRegister, tenant.ActionRotate, tenant.ActionLimit, tenant.ActionSuspend,
		tenant.ActionResume, tenant.ActionQuarantine, tenant.ActionRemove,
	}, actions)
}

// crashing is a store whose process dies at a moment of a Put.
type crashing struct {
	tenant.Store
	before, after bool
}

var errCrash = errors.New("the connection broke")

func (s *crashing) Put(ctx context.Context, r tenant.Record, log ...tenant.Entry) (tenant.Record, error) {
	if s.before {
		s.before = false
		return tenant.Record{}, errCrash
	}
	r, err := s.Store.Put(ctx, r, log...)
	if s.after {
		s.after = false
		return tenant.Record{}, errCrash
	}
	return r, err
}

func TestWhatBrokeBetweenTelegramAndTheDatabaseIsDoneAgain(t *testing.T) {
	for name, crash := range map[string]func(*crashing){
		"before the database has it": func(s *crashing) { s.before = true },
		"after the database has it":  func(s *crashing) { s.after = true },
	} {
		t.Run(name, func(t *testing.T) {
			srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
			defer srv.Close()
			s, err := session.New(session.Config{Transport: srv.Transport()})
			require.NoError(t, err)
			defer s.Close(bg)
			store := &crashing{Store: tenant.NewMemoryStore()}
			p, err := tenant.NewPool(s, store, tenant.PoolConfig{})
			require.NoError(t, err)
			defer p.Close(bg)
			f := &fleet{Manager: tenant.NewManager(p, tenant.ManagerConfig{}), srv: srv, pool: p}
			bot := srv.NewBot("shop_bot")
			twice := func(do func() error) {
				crash(store)
				require.ErrorIs(t, do(), errCrash)
				require.NoError(t, do())
				require.NoError(t, f.getMe("shop"))
			}
			twice(func() error { _, err := f.Register(bg, "shop", bot.Token()); return err })
			token := bot.RotateToken()
			// The bot that is open has the old token. After the failure it is
			// not known which one is stored, so it is given up.
			twice(func() error { _, err := f.Rotate(bg, "shop", token); return err })
			crash(store)
			_, err = f.Suspend(bg, "shop", "unpaid")
			require.ErrorIs(t, err, errCrash)
			_, err = f.Suspend(bg, "shop", "unpaid")
			require.NoError(t, err)
			assert.ErrorIs(t, f.getMe("shop"), errors.Suspended)
			twice(func() error { _, err := f.Resume(bg, "shop"); return err })
			assert.Len(t, f.log(t), 4, "nothing is logged twice")
		})
	}
}

// blind is a store whose key was lost.
type blind struct{ tenant.Store }

func (s blind) Get(ctx context.Context, id string) (tenant.Record, error) {
	r, err := s.Store.Get(ctx, id)
	if err == nil {
		r.Token, r.TokenErr = session.Token{}, errors.New("the key is missing")
	}
	return r, err
}

func TestATenantWhoseTokenCannotBeUnsealedIsManagedAllTheSame(t *testing.T) {
	srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
	defer srv.Close()
	s, err := session.New(session.Config{Transport: srv.Transport()})
	require.NoError(t, err)
	defer s.Close(bg)
	memory := tenant.NewMemoryStore()
	p, err := tenant.NewPool(s, blind{memory}, tenant.PoolConfig{})
	require.NoError(t, err)
	defer p.Close(bg)
	m := tenant.NewManager(p, tenant.ManagerConfig{})
	bot := srv.NewBot("shop_bot")
	_, err = m.Register(bg, "shop", bot.Token())
	require.NoError(t, err)

	_, err = p.Acquire(bg, "shop")
	assert.ErrorIs(t, err, errors.Internal)
	assert.ErrorContains(t, err, "the key is missing")
	_, err = m.Register(bg, "shop", bot.Token())
	assert.ErrorIs(t, err, errors.Exists)
	_, err = m.Suspend(bg, "shop", "no key")
	require.NoError(t, err)
	_, err = m.Resume(bg, "shop")
	require.NoError(t, err)
	r, err := memory.Get(bg, "shop")
	require.NoError(t, err)
	assert.Equal(t, bot.Token(), r.Token.Reveal(), "the token is kept")
	token := bot.RotateToken()
	_, err = m.Rotate(bg, "shop", token)
	require.NoError(t, err)
	r, err = memory.Get(bg, "shop")
	require.NoError(t, err)
	assert.Equal(t, token, r.Token.Reveal())
	require.NoError(t, m.Remove(bg, "shop"))
}
