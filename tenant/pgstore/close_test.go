package pgstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/pgstore"
)

// A manager that was not stopped asks a database that is down again and again,
// from within a watch. That its pool was closed ends it.
func TestCloseEndsAWatchThatAsksForWhatIsDown(t *testing.T) {
	url := address(t)
	p := newProxy(t, url)
	db, err := pgstore.Open(t.Context(), through(t, url, p), pgstore.Config{Keys: keys(t), Schema: newSchema(t, url)})
	require.NoError(t, err)
	begun, down, watched := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	defer cancel()
	go func() {
		watched <- db.Tenants().Watch(ctx, func(tenant.Change) {
			close(begun)
			<-down
			for {
				_, err := db.Tenants().GetMany(ctx, []string{"a"})
				if errors.Is(err, errors.Closed) || ctx.Err() != nil {
					return
				}
				assert.ErrorIs(t, err, errors.StoreUnavailable)
			}
		})
	}()
	<-begun
	p.setRefuse(true)
	close(down)
	require.NoError(t, db.Close())
	assert.ErrorIs(t, <-watched, errors.Closed)
	assert.NoError(t, ctx.Err())
}

// What does not end is left alone after a while.
func TestCloseEndsThoughSomethingDoesNot(t *testing.T) {
	url := address(t)
	db, err := pgstore.Open(t.Context(), url, pgstore.Config{Keys: keys(t), Schema: newSchema(t, url)})
	require.NoError(t, err)
	db.SetCloseTime(50 * time.Millisecond)
	begun, end, watched := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		watched <- db.Tenants().Watch(context.WithoutCancel(t.Context()), func(tenant.Change) { close(begun); <-end })
	}()
	<-begun
	err = db.Close()
	assert.ErrorIs(t, err, errors.Timeout)
	assert.ErrorContains(t, err, "close database")
	_, err = db.Tenants().Get(t.Context(), "a")
	assert.ErrorIs(t, err, errors.Closed, "it is closed all the same")
	close(end)
	assert.ErrorIs(t, <-watched, errors.Closed)
	db.SetCloseTime(time.Minute)
	require.NoError(t, db.Close(), "again, when it has ended")
}
