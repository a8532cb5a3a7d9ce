package pgstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/inbox/inboxtest"
	"github.com/tgfleet/tgfleet/tenant/pgstore"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

// Errors of changes say whether the change may have been made.

func deliveryOf(t *testing.T, err error) errors.Delivery {
	t.Helper()
	e, ok := errors.AsType[*errors.Error](err)
	require.True(t, ok, "%v", err)
	return e.Delivery
}

// lateContext is one whose end is that of its time.
type lateContext struct{ context.Context }

func (c lateContext) Err() error {
	if c.Context.Err() != nil {
		return context.DeadlineExceeded
	}
	return nil
}

func TestAChangeWhoseContextEndsMayHaveBeenMade(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	// A connection whose statement was given up stays in the pool for a while.
	db, err := pgstore.Open(t.Context(), withParam(url, "pool_max_conns=20"), pgstore.Config{Keys: keys(t), Schema: schema})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	s := db.Tenants()
	r, err := s.Put(t.Context(), storetest.Record(t, "a", 1))
	require.NoError(t, err)
	changes := map[string]func(context.Context) error{
		"Put":       func(ctx context.Context) error { _, err := s.Put(ctx, r); return err },
		"create":    func(ctx context.Context) error { _, err := s.Put(ctx, storetest.Record(t, "b", 2)); return err },
		"Delete":    func(ctx context.Context) error { return s.Delete(ctx, "a", r.Version) },
		"SetHealth": func(ctx context.Context) error { return s.SetHealth(ctx, map[string]string{"a": "up"}) },
	}
	for name, change := range changes {
		for _, kind := range []errors.Kind{errors.Canceled, errors.Timeout} {
			ctx, end := context.WithCancel(t.Context())
			if kind == errors.Timeout {
				ctx = lateContext{ctx}
			}
			other := begin(t, url, "LOCK TABLE "+schema+".tenants")
			done := make(chan error, 1)
			go func() { done <- change(ctx) }()
			require.True(t, waitBlocked(t, url, other, done))
			end()
			err := <-done
			assert.ErrorIs(t, err, kind, name)
			assert.Equal(t, errors.MaybeDelivered, deliveryOf(t, err), name)
			assert.False(t, errors.SafeToRepeat(err), name)
			require.NoError(t, other.Rollback(t.Context()))
		}
	}

	// Without a server that has seen it, it was certainly not made.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, change := range changes {
		err := change(ctx)
		assert.ErrorIs(t, err, errors.Canceled)
		assert.True(t, errors.SafeToRepeat(err), name)
	}
	other := begin(t, url, "LOCK TABLE "+schema+".tenants")
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = s.Get(ctx, "a")
	assert.ErrorIs(t, err, errors.Timeout)
	assert.True(t, errors.SafeToRepeat(err), "a read changes nothing")
	require.NoError(t, other.Rollback(t.Context()))
}

// The server goes on with what nobody waits for any more: what was called unsure
// is.
func TestAChangeWhoseConnectionIsCutMayStillBeMade(t *testing.T) {
	url := address(t)
	p := newProxy(t, url)
	schema := newSchema(t, url)
	s := open(t, through(t, url, p), schema, keys(t)).Tenants()
	r, err := s.Put(t.Context(), storetest.Record(t, "a", 1))
	require.NoError(t, err)
	r, err = s.Put(t.Context(), r) // it is prepared now
	require.NoError(t, err)
	other := begin(t, url, "SELECT FROM "+schema+".tenants FOR UPDATE")
	done := make(chan error, 1)
	go func() { _, err := s.Put(t.Context(), r); done <- err }()
	require.True(t, waitBlocked(t, url, other, done))
	p.setRefuse(true) // which keeps it from being cancelled, too
	err = <-done
	require.ErrorIs(t, err, errors.StoreUnavailable)
	assert.Equal(t, errors.MaybeDelivered, deliveryOf(t, err))
	require.NoError(t, other.Rollback(t.Context()))
	p.setRefuse(false)
	for begin := time.Now(); ; {
		got, err := s.Get(t.Context(), "a")
		require.NoError(t, err)
		if got.Version == r.Version+1 {
			return
		}
		require.Less(t, time.Since(begin), 30*time.Second, "the server gave it up too; the test proves nothing")
	}
}

func TestAChangeThatGetsNoConnectionWasNotMade(t *testing.T) {
	url := address(t)
	p := newProxy(t, url)
	schema := newSchema(t, url)
	cfg := inboxtest.Config{}
	db := openWithInbox(t, through(t, url, p), schema, keys(t), cfg)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	p.setRefuse(true)
	// The pool's connections, and the ping that finds them dead, are used up.
	for range 6 {
		_, _ = db.Tenants().Get(t.Context(), "a")
	}
	for name, change := range map[string]func() error{
		"Put":    func() error { _, err := db.Tenants().Put(t.Context(), storetest.Record(t, "a", 1)); return err },
		"Delete": func() error { return db.Tenants().Delete(t.Context(), "a", 1) },
		"Merge": func() error {
			return db.Health().Merge(t.Context(), health.Flush{Writer: "w", Seq: 1}, []health.Snapshot{{Tenant: "a"}})
		},
		"inbox": func() error {
			_, err := db.Inbox().Put(t.Context(), []inbox.Update{message("a", "1", 1)})
			return err
		},
	} {
		err := change()
		assert.ErrorIs(t, err, errors.StoreUnavailable, name)
		assert.True(t, errors.SafeToRepeat(err), name)
	}
}

func TestAChangeThatTheServerRefusesWasNotMade(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	s := open(t, withParam(url, "lock_timeout=50"), schema, keys(t)).Tenants()
	r, err := s.Put(t.Context(), storetest.Record(t, "a", 1))
	require.NoError(t, err)
	other := begin(t, url, "LOCK TABLE "+schema+".tenants")
	_, err = s.Put(t.Context(), r)
	require.NoError(t, other.Rollback(t.Context()))
	assert.ErrorIs(t, err, errors.StoreUnavailable)
	assert.Equal(t, errors.NotDelivered, deliveryOf(t, err))
}

// Wherever a change is cut: where it was made all the same, its error did not say
// that it was not; and where its answer was cut, it said so.
func TestTheErrorOfAChangeThatWasCutSaysWhetherItMayHaveBeenMade(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	ring := keys(t)
	direct := open(t, url, schema, ring)
	p := newProxy(t, url)
	via := open(t, withParam(through(t, url, p), "pool_max_conns=1"), schema, ring)
	entry := tenant.Entry{Action: "test"}
	r, err := direct.Tenants().Put(t.Context(), storetest.Record(t, "a", 1), entry)
	require.NoError(t, err)
	change := func() (made bool, err error) {
		_, err = via.Tenants().Put(t.Context(), r, entry)
		got, getErr := direct.Tenants().Get(t.Context(), "a")
		require.NoError(t, getErr)
		made = got.Version > r.Version
		r = got
		return made, err
	}
	for _, answers := range []bool{false, true} {
		_, err := change()
		require.NoError(t, err)
		p.cutAfter(-1, answers)
		_, err = change()
		require.NoError(t, err)
		length := p.bytes()
		unsure := 0
		for at := int64(0); at < length; at += 1 + length/40 {
			_, err := change() // connected and prepared
			require.NoError(t, err)
			p.cutAfter(at, answers)
			made, err := change()
			if err == nil {
				continue
			}
			require.ErrorIs(t, err, errors.StoreUnavailable)
			if made {
				require.False(t, errors.SafeToRepeat(err), "cut at byte %d of answers=%v", at, answers)
			}
			if !errors.SafeToRepeat(err) {
				unsure++
			}
		}
		assert.Positive(t, unsure, "answers=%v", answers)
	}
	p.setRefuse(true)
	_, err = via.Tenants().Get(t.Context(), "a")
	require.ErrorIs(t, err, errors.StoreUnavailable)
	assert.True(t, errors.SafeToRepeat(err), "a read changes nothing")
}

// What may be made twice is tried again, and its last error says nothing of the
// tries before.
func TestTheLastErrorOfRepeatedTriesDoesNotHideThatTheFirstMayHaveWorked(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	ring := keys(t)
	direct := open(t, url, schema, ring)
	p := newProxy(t, url)
	via := open(t, withParam(through(t, url, p), "pool_max_conns=1"), schema, ring)
	_, err := direct.Tenants().Put(t.Context(), storetest.Record(t, "a", 1))
	require.NoError(t, err)
	for _, change := range []func(*pgstore.DB) error{
		func(db *pgstore.DB) error {
			return db.Tenants().SetHealth(t.Context(), map[string]string{"a": fmt.Sprint(time.Now())})
		},
		func(db *pgstore.DB) error { return db.Health().Delete(t.Context(), "a", time.Time{}) },
	} {
		require.NoError(t, change(via))
		require.NoError(t, change(via))
		p.cutAfter(0, true)
		p.refuseAfterCut()
		err := change(via)
		require.ErrorIs(t, err, errors.StoreUnavailable)
		assert.Equal(t, errors.MaybeDelivered, deliveryOf(t, err))
		p.setRefuse(false)
	}
}
