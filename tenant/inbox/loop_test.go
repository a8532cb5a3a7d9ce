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

// extender is an inbox whose nth Extend is done otherwise.
type extender struct {
	*inbox.Memory
	n    atomic.Int64
	does func(n int64, ctx context.Context) error
}

func (e *extender) Extend(ctx context.Context, leases []inbox.Lease, ttl time.Duration) ([]bool, error) {
	if err := e.does(e.n.Add(1), ctx); err != nil {
		return nil, err
	}
	return e.Memory.Extend(ctx, leases, ttl)
}

// long runs a handler of five minutes and returns how long its context held,
// and how often its update was handled.
func long(t *testing.T, e *extender, ttl time.Duration) (held time.Duration, tries int) {
	w := work(t, e, poolFunc(nil), inbox.WorkersConfig{LeaseTTL: ttl, HandlerTimeout: time.Hour}, func(ctx context.Context, _ *tenant.Tenant, u inbox.Update) error {
		if tries++; tries > 1 {
			return nil
		}
		start := time.Now()
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Minute):
		}
		held = time.Since(start)
		return ctx.Err()
	})
	put(t, e, message("a", 1, 1))
	pass(10 * time.Minute)
	_ = w.Stop(bg)
	return held, tries
}

func TestALeaseThatWasExtendedOutlivesAFailureMuchLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("down")
		// The first lease would long be over; that of the latest extension is not.
		held, tries := long(t, &extender{Memory: newMemory(t), does: func(n int64, _ context.Context) error {
			if n%10 == 0 {
				return down
			}
			return nil
		}}, 30*time.Second)
		assert.Equal(t, 5*time.Minute, held)
		assert.Equal(t, 1, tries)
	})
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		held, _ := long(t, &extender{Memory: newMemory(t), does: func(int64, context.Context) error {
			if s := time.Since(start); s > 2*time.Minute && s < 3*time.Minute {
				return errors.New("down")
			}
			return nil
		}}, 30*time.Second)
		assert.GreaterOrEqual(t, held, 2*time.Minute+20*time.Second, "as long as the lease was known to be held")
		assert.LessOrEqual(t, held, 2*time.Minute+33*time.Second, "and hardly longer")
	})
}

func TestAnExtensionThatFailsIsTriedAgainBeforeTheLeaseIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held, tries := long(t, &extender{Memory: newMemory(t), does: func(n int64, _ context.Context) error {
			if n <= 4 {
				return errors.New("down")
			}
			return nil
		}}, 30*time.Second)
		assert.Equal(t, 5*time.Minute, held)
		assert.Equal(t, 1, tries)
	})
}

func TestACallThatHangsCostsNoLease(t *testing.T) {
	for _, ttl := range []time.Duration{4 * time.Second, 12 * time.Second, 30 * time.Second, 2 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			var least, most time.Duration
			held, tries := long(t, &extender{Memory: newMemory(t), does: func(n int64, ctx context.Context) error {
				at, ok := ctx.Deadline()
				assert.True(t, ok)
				if d := time.Until(at); least == 0 || d < least {
					least = d
				}
				most = max(most, time.Until(at))
				if n%2 == 0 {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}}, ttl)
			assert.Equal(t, 5*time.Minute, held, ttl)
			assert.Equal(t, 1, tries, ttl)
			bound := min(10*time.Second, ttl/4)
			assert.LessOrEqual(t, most, bound, ttl)
			assert.GreaterOrEqual(t, least, bound*9/10, ttl)
		})
	}
}

func TestATenantAtItsBoundGoesOnAsSoonAsAPlaceIsFree(t *testing.T) {
	for _, bound := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(t)
			var h handled
			work(t, m, poolFunc(nil), inbox.WorkersConfig{PerTenant: bound, PollEvery: 100 * time.Hour}, func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error {
				time.Sleep(time.Second)
				h.add(u)
				return nil
			})
			for id := int64(1); id <= 9; id++ {
				put(t, m, message("a", id, id))
			}
			pass(time.Duration(9/bound)*time.Second + time.Millisecond)
			assert.Len(t, h.ids(), 9, "nothing else tells that it may have more")
		})
	}
}

func TestALimitWithoutATimeIsNotTriedAllTheTime(t *testing.T) {
	for name, kind := range map[string]errors.Kind{"Telegram's": errors.RateLimited, "our own": errors.Throttled} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(t)
			var tries atomic.Int64
			work(t, m, poolFunc(nil), inbox.WorkersConfig{MaxAttempts: 1}, func(context.Context, *tenant.Tenant, inbox.Update) error {
				if tries.Add(1) <= 60 {
					return &errors.Error{Kind: kind}
				}
				return nil
			})
			put(t, m, message("a", 1, 1))
			pass(30*time.Second + 500*time.Millisecond)
			assert.Equal(t, int64(31), tries.Load(), name)
			pass(time.Minute)
			isEmpty(t, m)
		})
	}
}

func TestATenantThatCantBeHadIsNotAskedForAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		var asked atomic.Int64
		pool := poolFunc(func(string) error { asked.Add(1); return errors.Unavailable })
		work(t, m, pool, inbox.WorkersConfig{}, func(context.Context, *tenant.Tenant, inbox.Update) error { return nil })
		put(t, m, message("a", 1, 1), message("a", 2, 2))
		pass(30*time.Second + 500*time.Millisecond)
		assert.Equal(t, int64(2+30), asked.Load())
	})
	synctest.Test(t, func(t *testing.T) { // nor left alone for as long as it likes
		m := newMemory(t)
		var asked atomic.Int64
		pool := poolFunc(func(string) error {
			asked.Add(1)
			return &errors.Error{Kind: errors.Unavailable, RetryAfter: time.Hour}
		})
		work(t, m, pool, inbox.WorkersConfig{}, func(context.Context, *tenant.Tenant, inbox.Update) error { return nil })
		put(t, m, message("a", 1, 1))
		pass(10*time.Minute + time.Second)
		assert.Equal(t, int64(11), asked.Load())
	})
}
