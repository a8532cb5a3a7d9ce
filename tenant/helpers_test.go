package tenant_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
)

var bg = context.Background()

// fleet is a service on a fake Telegram.
type fleet struct {
	*tenant.Manager
	srv   *bottest.Server
	s     *session.Session
	store *tenant.MemoryStore
	pool  *tenant.Pool
}

func newFleet(t testing.TB, cfg tenant.PoolConfig, mcfg tenant.ManagerConfig) *fleet {
	t.Helper()
	return newFleetOn(t, func(s tenant.Store) tenant.Store { return s }, cfg, mcfg)
}

// newFleetOn returns a fleet whose store the manager and the pool know as what
// wrap makes of it.
func newFleetOn(t testing.TB, wrap func(tenant.Store) tenant.Store, cfg tenant.PoolConfig, mcfg tenant.ManagerConfig) *fleet {
	t.Helper()
	f := &fleet{srv: bottest.New(bottest.Config{Limits: bottest.NoLimits()}), store: tenant.NewMemoryStore()}
	var err error
	f.s, err = session.New(session.Config{Transport: f.srv.Transport()})
	require.NoError(t, err)
	f.pool, err = tenant.NewPool(f.s, wrap(f.store), cfg)
	require.NoError(t, err)
	f.Manager = tenant.NewManager(f.pool, mcfg)
	t.Cleanup(func() {
		require.NoError(t, f.pool.Close(bg))
		require.NoError(t, f.s.Close(bg))
		f.srv.Close()
	})
	return f
}

// register makes a bot and its tenant.
func (f *fleet) register(t testing.TB, id string) *bottest.Bot {
	t.Helper()
	bot := f.srv.NewBot(id + "_bot")
	_, err := f.Register(bg, id, bot.Token())
	require.NoError(t, err)
	return bot
}

// getMe makes a call as the tenant.
func (f *fleet) getMe(id string) error {
	return f.pool.Do(bg, id, func(ctx context.Context, t *tenant.Tenant) error {
		_, err := t.Bot.GetMeWithContext(ctx, nil)
		return err
	})
}
