package storetest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
)

// replicas lets two services share the data, as they do in production: each has
// a pool and a manager of its own.
func (s suite) replicas(t *testing.T) {
	srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
	defer srv.Close()
	store := s.Open(t, s.ring)
	a := newReplica(t, srv, store)
	b := newReplica(t, srv, s.Again(t, store, s.ring))
	ctx := tenant.WithActor(t.Context(), "ann")
	bot := srv.NewBot("shop_bot")
	_, err := a.Register(ctx, "shop", bot.Token())
	require.NoError(t, err)
	b.use(t, "shop")

	token := bot.RotateToken()
	_, err = a.Rotate(ctx, "shop", token)
	require.NoError(t, err)
	for b.token(t, "shop") != token {
		next(t, b.ended) // sooner or later the one that has the old token does
	}
	b.use(t, "shop")

	lease, err := b.pool.Acquire(ctx, "shop")
	require.NoError(t, err)
	_, err = a.Suspend(ctx, "shop", "unpaid")
	require.NoError(t, err)
	next(t, lease.Context().Done())
	lease.Release()
	_, err = b.pool.Acquire(ctx, "shop")
	assert.ErrorIs(t, err, errors.Suspended)
	_, err = b.Resume(ctx, "shop")
	require.NoError(t, err)
	require.NoError(t, b.Remove(ctx, "shop"))
	_, err = a.Get(ctx, "shop")
	assert.ErrorIs(t, err, errors.NotFound)

	var actions []tenant.Action
	for _, e := range logOf(t, store, "shop") {
		assert.Equal(t, "ann", e.Actor)
		actions = append(actions, e.Action)
	}
	assert.Equal(t, []tenant.Action{
		tenant.ActionRegister, tenant.ActionRotate, tenant.ActionSuspend, tenant.ActionResume, tenant.ActionRemove,
	}, actions)
}

// replica is a service.
type replica struct {
	*tenant.Manager
	pool  *tenant.Pool
	ended chan struct{} // a bot was closed
}

func newReplica(t *testing.T, srv *bottest.Server, store tenant.Store) *replica {
	s, err := session.New(session.Config{Transport: srv.Transport()})
	require.NoError(t, err)
	r := &replica{ended: make(chan struct{}, 100)}
	r.pool, err = tenant.NewPool(s, store, tenant.PoolConfig{OnOpen: []tenant.Hook{
		func(context.Context, *tenant.Tenant) (func(context.Context) error, error) {
			return func(context.Context) error { r.ended <- struct{}{}; return nil }, nil
		},
	}})
	require.NoError(t, err)
	r.Manager = tenant.NewManager(r.pool, tenant.ManagerConfig{})
	require.NoError(t, r.Start(context.WithoutCancel(t.Context())))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		r.Stop()
		require.NoError(t, r.pool.Close(ctx))
		require.NoError(t, s.Close(ctx))
	})
	return r
}

// use makes a call.
func (r *replica) use(t *testing.T, id string) {
	t.Helper()
	require.NoError(t, r.pool.Do(t.Context(), id, func(ctx context.Context, tt *tenant.Tenant) error {
		_, err := tt.Bot.GetMeWithContext(ctx, nil)
		return err
	}))
}

// token returns the token that the bot has here.
func (r *replica) token(t *testing.T, id string) string {
	t.Helper()
	lease, err := r.pool.Acquire(t.Context(), id)
	require.NoError(t, err)
	defer lease.Release()
	return lease.Tenant().Record.Token.Reveal()
}
