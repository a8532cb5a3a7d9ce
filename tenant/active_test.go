package tenant_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
)

// amnesiac is a store that changes a record and whose answer is lost.
type amnesiac struct {
	tenant.Store
	lose bool
}

func (s *amnesiac) Put(ctx context.Context, r tenant.Record, log ...tenant.Entry) (tenant.Record, error) {
	stored, err := s.Store.Put(ctx, r, log...)
	if s.lose && err == nil {
		s.lose = false
		return tenant.Record{}, &errors.Error{Kind: errors.StoreUnavailable, Op: "put tenant", Delivery: errors.MaybeDelivered}
	}
	return stored, err
}

func seen(r tenant.Record) string {
	return fmt.Sprint(r.ID, " ", r.Version, " ", r.Status, " ", r.Token.Reveal())
}

func TestOnActiveHearsWhoseUpdatesAreToBeReceived(t *testing.T) {
	store := &amnesiac{}
	var heard []tenant.Record
	f := newFleetOn(t, func(s tenant.Store) tenant.Store { store.Store = s; return store }, tenant.PoolConfig{}, tenant.ManagerConfig{
		OnActive: func(_ context.Context, r tenant.Record) { heard = append(heard, r) },
	})
	since := func() (all []string) {
		for _, r := range heard {
			all = append(all, seen(r))
		}
		heard = nil
		return all
	}
	_, err := f.Register(bg, "shop", "123456:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	require.Error(t, err)
	assert.Empty(t, since())

	bot := f.srv.NewBot("shop_bot")
	store.lose = true
	_, err = f.Register(bg, "shop", bot.Token())
	require.ErrorIs(t, err, errors.StoreUnavailable)
	assert.Empty(t, since())
	r, err := f.Register(bg, "shop", bot.Token()) // which has done nothing
	require.NoError(t, err)
	assert.Equal(t, []string{seen(r)}, since())

	token := bot.RotateToken()
	store.lose = true
	_, err = f.Rotate(bg, "shop", token)
	require.ErrorIs(t, err, errors.StoreUnavailable)
	assert.Empty(t, since())
	r, err = f.Rotate(bg, "shop", token)
	require.NoError(t, err)
	assert.Equal(t, []string{seen(r)}, since())
	assert.Equal(t, token, r.Token.Reveal())

	// A new token of one that is suspended has no webhook when it is resumed.
	_, err = f.Suspend(bg, "shop", "unpaid")
	require.NoError(t, err)
	_, err = f.Rotate(bg, "shop", bot.RotateToken())
	require.NoError(t, err)
	assert.Empty(t, since(), "it is suspended")
	r, err = f.Resume(bg, "shop")
	require.NoError(t, err)
	assert.Equal(t, []string{seen(r)}, since())
}

// It may use the bot, and harms nobody when it panics.
func TestOnActiveMayUseTheBotAndPanic(t *testing.T) {
	var f *fleet
	var answers []error
	f = newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{
		OnActive: func(_ context.Context, r tenant.Record) {
			answers = append(answers, f.getMe(r.ID))
			panic("oops")
		},
	})
	bot := f.register(t, "shop")
	r, err := f.Rotate(bg, "shop", bot.RotateToken())
	require.NoError(t, err)
	assert.Equal(t, "shop", r.ID)
	assert.Equal(t, []error{nil, nil}, answers)
}
