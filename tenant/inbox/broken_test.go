package inbox_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// broken is an inbox that misbehaves for a while.
type broken struct {
	*inbox.Memory
	how atomic.Value // string
}

func (b *broken) odd(held []bool, err error) ([]bool, error) {
	switch b.how.Load() {
	case "panics":
		panic("boom")
	case "answers for none":
		return nil, nil
	case "answers for too many":
		return append(held, true), err
	}
	return held, err
}

func (b *broken) Lease(ctx context.Context, want inbox.Want) ([]inbox.Lease, error) {
	if b.how.Load() == "panics" {
		panic("boom")
	}
	return b.Memory.Lease(ctx, want)
}

func (b *broken) Settle(ctx context.Context, s []inbox.Settlement) ([]bool, error) {
	if b.how.Load() != "" {
		return b.odd(make([]bool, len(s)), nil)
	}
	return b.Memory.Settle(ctx, s)
}

func (b *broken) Extend(ctx context.Context, l []inbox.Lease, d time.Duration) ([]bool, error) {
	held, err := b.Memory.Extend(ctx, l, d)
	return b.odd(held, err)
}

func TestAnInboxThatIsBrokenStopsNoWorkers(t *testing.T) {
	for _, how := range []string{"panics", "answers for none", "answers for too many"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &broken{Memory: newMemory(t)}
				b.how.Store("")
				var done atomic.Int64
				w := work(t, b, poolFunc(nil), inbox.WorkersConfig{}, func(context.Context, *tenant.Tenant, inbox.Update) error {
					time.Sleep(15 * time.Second) // the leases are extended once
					done.Add(1)
					return nil
				})
				put(t, b, message("a", 1, 1), message("a", 1, 2))
				pass(time.Second)
				b.how.Store(how)
				pass(20 * time.Second)
				b.how.Store("")
				pass(5 * time.Minute)
				isEmpty(t, b)
				assert.Equal(t, int64(2), done.Load())
				assert.Equal(t, uint64(2), w.Stats().Handled)
			})
		})
	}
}

func TestATenantThatWasPassedOverComesFirstTheNextTime(t *testing.T) {
	m := newMemory(t)
	for _, tenant := range []string{"a", "b", "c", "d", "e"} {
		put(t, m, message(tenant, 1, 1))
	}
	want := inbox.Want{Limit: 1, TTL: time.Minute, PerTenant: 1, Held: map[string]int{"a": 1, "b": 1}}
	next := func() string {
		t.Helper()
		leases, err := m.Lease(bg, want)
		assert.NoError(t, err)
		if !assert.Len(t, leases, 1) {
			t.FailNow()
		}
		return leases[0].Tenant
	}
	assert.Equal(t, "c", next())
	want.Held = nil
	for _, tenant := range []string{"a", "b", "d", "e"} {
		assert.Equal(t, tenant, next())
	}
}

// hangs is an inbox whose Settle hangs, or fails at once until a time.
type hangs struct {
	*inbox.Memory
	until time.Time
}

func (h *hangs) Settle(ctx context.Context, s []inbox.Settlement) ([]bool, error) {
	if h.until.IsZero() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if time.Now().Before(h.until) {
		return nil, errors.New("down")
	}
	return h.Memory.Settle(ctx, s)
}

func TestStopTakesNoLongerThanItSaysWhereTheInboxHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hangs{Memory: newMemory(t)}
		w := work(t, h, poolFunc(nil), inbox.WorkersConfig{}, func(context.Context, *tenant.Tenant, inbox.Update) error { return nil })
		put(t, h, message("a", 1, 1))
		for range 5 { // wherever its call is
			pass(1700 * time.Millisecond)
		}
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		begun := time.Now()
		assert.ErrorIs(t, w.Stop(ctx), context.DeadlineExceeded)
		assert.LessOrEqual(t, time.Since(begun), 6*time.Second)
	})
}

func TestWhatIsFinishedIsStoredWhenTheInboxWorksAgainWhileStopWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hangs{Memory: newMemory(t), until: time.Now().Add(time.Minute)}
		w := work(t, h, poolFunc(nil), inbox.WorkersConfig{}, func(context.Context, *tenant.Tenant, inbox.Update) error { return nil })
		put(t, h, message("a", 1, 1))
		pass(time.Minute - 3*time.Second) // it is tried again every 5 s and more
		ctx, cancel := context.WithTimeout(bg, time.Millisecond)
		defer cancel()
		begun := time.Now()
		assert.ErrorIs(t, w.Stop(ctx), context.DeadlineExceeded)
		assert.LessOrEqual(t, time.Since(begun), 3500*time.Millisecond)
		isEmpty(t, h)
	})
}
