package inbox_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// counting counts what is asked for and lent. It has the abilities of a Memory.
type counting struct {
	*inbox.Memory
	asked, lent atomic.Int64
}

func (c *counting) Lease(ctx context.Context, want inbox.Want) ([]inbox.Lease, error) {
	leases, err := c.Memory.Lease(ctx, want)
	c.asked.Add(1)
	c.lent.Add(int64(len(leases)))
	return leases, err
}

// plain hides the abilities that an inbox need not have.
type plain struct{ inbox.Inbox }

// switchable is a pool whose tenants are suspended and resumed.
type switchable struct {
	off     atomic.Bool // the tenants whose names begin with "off"
	err     error
	changed func(string)
	stopped bool
	then    func() // after an answer, before it is settled
}

func (p *switchable) Do(ctx context.Context, id string, f func(context.Context, *tenant.Tenant) error) error {
	if p.off.Load() && strings.HasPrefix(id, "off") {
		defer func() {
			if p.then != nil {
				p.then()
			}
		}()
		return p.err
	}
	return f(ctx, &tenant.Tenant{Record: tenant.Record{ID: id}})
}

func (p *switchable) Watch(changed func(string)) (stop func()) {
	p.changed = changed
	return func() { p.stopped = true }
}

func newSwitchable() *switchable {
	p := &switchable{err: &errors.Error{Kind: errors.Suspended}}
	p.off.Store(true)
	return p
}

func TestTheUpdatesOfASuspendedTenantCostHardlyALease(t *testing.T) {
	for _, wakes := range []bool{true, false} {
		t.Run(fmt.Sprintf("holder %v", wakes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &counting{Memory: newMemory(t)}
				var in inbox.Inbox = c
				every := 100 * time.Hour // it is told of all that there is
				if !wakes {
					in, every = plain{c}, time.Minute
				}
				pool := newSwitchable()
				var h handled
				var worst time.Duration
				w := work(t, in, pool, inbox.WorkersConfig{MaxAttempts: 1, PollEvery: every}, func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error {
					assert.Equal(t, 1, u.Attempt)
					h.add(u)
					if u.Tenant == "b" {
						worst = max(worst, time.Since(u.ReceivedAt))
					}
					return nil
				})
				for id := int64(1); id <= 500; id++ {
					put(t, in, message("off", id, id))
				}
				pass(time.Minute)
				c.asked.Store(0)
				c.lent.Store(0)
				for id := int64(501); id <= 500+360; id++ { // its users go on writing
					pass(10 * time.Second)
					put(t, in, message("off", id, id))
				}
				assert.LessOrEqual(t, c.lent.Load(), int64(16), "one try every five minutes in the end")
				assert.LessOrEqual(t, c.asked.Load(), int64(60+3*16+1), "and what comes wakes nobody")
				assert.Equal(t, 1, w.Stats().Paused)
				put(t, in, message("b", 1, 1))
				pass(time.Minute)
				assert.Equal(t, []int64{1}, h.ids())
				if wakes {
					assert.Zero(t, worst, "others do not wait for it")
				}

				pool.off.Store(false)
				pool.changed("off")
				synctest.Wait()
				assert.Len(t, h.ids(), 861, "at once")
				assert.Zero(t, w.Stats().Paused)
				isEmpty(t, in)
			})
		})
	}
}

func TestAResumeThatNobodyToldIsFoundWithinMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		pool := newSwitchable()
		var h handled
		work(t, m, pool, inbox.WorkersConfig{PollEvery: 100 * time.Hour}, func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error {
			time.Sleep(10 * time.Second)
			h.add(u)
			return nil
		})
		for id := int64(1); id <= 100; id++ {
			put(t, m, message("off", id, id))
		}
		pass(24 * time.Hour)
		assert.Empty(t, h.ids())
		pool.off.Store(false)
		pass(5*time.Minute + 40*time.Second + 80*time.Second)
		assert.Len(t, h.ids(), 100, "sixteen at a time, but for the first")
		isEmpty(t, m)
	})
}

func TestATenantThatIsResumedWhileItsAnswerIsOnItsWayIsNotLeftAlone(t *testing.T) {
	for _, told := range []string{"off", ""} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(t)
			pool := newSwitchable()
			pool.then = func() {
				pool.off.Store(false)
				pool.changed(told)
			}
			var h handled
			work(t, m, pool, inbox.WorkersConfig{}, func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error { h.add(u); return nil })
			put(t, m, message("off", 1, 1))
			pass(2 * time.Second)
			assert.Len(t, h.ids(), 1)
		})
	}
}

func TestAllAreResumedWhereChangesWereMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		pool := newSwitchable()
		var h handled
		w := work(t, m, pool, inbox.WorkersConfig{}, func(_ context.Context, _ *tenant.Tenant, u inbox.Update) error { h.add(u); return nil })
		for i := range int64(50) {
			put(t, m, message(fmt.Sprint("off", i), 1, 1))
		}
		pass(time.Hour)
		assert.Equal(t, 50, w.Stats().Paused)
		pool.off.Store(false)
		w.Resume("")
		synctest.Wait()
		assert.Len(t, h.ids(), 50)
	})
}

// Three quarters of the places hang, so that who has one gets no second. A
// tenant that was paused is tried all the same.
func TestATenantIsTriedAgainThoughPlacesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		pool := newSwitchable()
		pool.err = &errors.Error{Kind: errors.Unavailable, RetryAfter: 20 * time.Second}
		var h handled
		work(t, m, pool, inbox.WorkersConfig{Concurrency: 16, PerTenant: 8, HandlerTimeout: time.Hour}, func(ctx context.Context, _ *tenant.Tenant, u inbox.Update) error {
			if u.Tenant != "off" {
				<-ctx.Done()
				return nil
			}
			h.add(u)
			return nil
		})
		put(t, m, message("off", 1, 1), message("off", 2, 2))
		pass(time.Second)
		for i := range int64(12) {
			put(t, m, message(fmt.Sprint("slow", i), 1, 1))
		}
		pool.off.Store(false)
		pass(21 * time.Second)
		assert.ElementsMatch(t, []int64{1, 2}, h.ids())
	})
}

func TestWorkersLeaveNobodyHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		pool := newSwitchable()
		nothing := func(context.Context, *tenant.Tenant, inbox.Update) error { return nil }
		w := work(t, m, pool, inbox.WorkersConfig{}, nothing)
		put(t, m, message("off", 1, 1))
		pass(time.Hour)
		require.NoError(t, w.Stop(bg))
		assert.True(t, pool.stopped)
		w.Resume("off") // nobody hears
		pool.off.Store(false)
		work(t, m, pool, inbox.WorkersConfig{}, nothing)
		pass(time.Second)
		isEmpty(t, m)
	})
}

func TestAnInboxHoldsATenantBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		lent := func() (tenants []string) {
			leases, err := m.Lease(bg, inbox.Want{Limit: 10, TTL: time.Minute})
			require.NoError(t, err)
			for _, l := range leases {
				tenants = append(tenants, l.Tenant)
			}
			return tenants
		}
		woken := func(c <-chan struct{}) bool {
			select {
			case <-c:
				return true
			default:
				return false
			}
		}
		put(t, m, message("a", 1, 1), message("b", 1, 1))
		m.Hold("a", time.Now().Add(time.Minute))
		m.Hold("nobody", time.Now().Add(time.Minute))
		wake := m.Wake()
		assert.Equal(t, []string{"b"}, lent())
		put(t, m, message("a", 2, 2))
		assert.False(t, woken(wake))
		time.Sleep(59 * time.Second)
		assert.Empty(t, lent())
		d, err := m.Depth(bg, "a")
		require.NoError(t, err)
		assert.Equal(t, 2, d.Waiting)
		time.Sleep(time.Second)
		assert.ElementsMatch(t, []string{"a", "a", "b"}, lent(), "the lease of b has lapsed meanwhile")

		m.Hold("c", time.Time{})
		put(t, m, message("c", 1, 1), message("d", 1, 1))
		m.Hold("c", time.Now().Add(time.Hour))
		put(t, m, message("d", 3, 3))
		m.Hold("d", time.Now().Add(2*time.Hour))
		m.Hold("d", time.Now().Add(time.Hour)) // the latest counts
		wake = m.Wake()
		m.Hold("c", time.Time{})
		assert.True(t, woken(wake))
		assert.Equal(t, []string{"c"}, lent())
		require.NoError(t, m.Forget(bg, "d"))
		put(t, m, message("d", 1, 2))
		assert.Equal(t, []string{"d"}, lent(), "one that is forgotten is not held back")
		time.Sleep(3 * time.Hour)
		assert.ElementsMatch(t, []string{"a", "a", "b", "c", "d"}, lent(), "and what was held back is gone")
	})
}

func TestATenantOfWhichNothingIsLeftIsHeldBackAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := inbox.NewMemory(inbox.MemoryConfig{Remember: time.Hour})
		require.NoError(t, err)
		u := message("a", 1, 1)
		u.ExpiresAt = time.Now().Add(time.Minute)
		put(t, m, u)
		m.Hold("a", time.Now().Add(10*time.Hour))
		time.Sleep(5 * time.Hour)
		for id := range int64(3) { // it tidies up
			put(t, m, message("b", 1, id+1))
		}
		put(t, m, message("a", 1, 2))
		leases, err := m.Lease(bg, inbox.Want{Limit: 10, TTL: time.Minute})
		require.NoError(t, err)
		require.Len(t, leases, 1)
		assert.Equal(t, "b", leases[0].Tenant)
	})
}

func TestNothingOfAPausedTenantIsLentWhilePlacesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counting{Memory: newMemory(t)}
		pool := newSwitchable()
		work(t, plain{c}, pool, inbox.WorkersConfig{Concurrency: 16, PerTenant: 8, HandlerTimeout: time.Hour}, func(ctx context.Context, _ *tenant.Tenant, u inbox.Update) error {
			<-ctx.Done()
			return nil
		})
		for i := range int64(12) {
			put(t, c, message(fmt.Sprint("slow", i), 1, 1))
		}
		pass(time.Second)
		for id := int64(1); id <= 20; id++ {
			put(t, c, message("off", id, id))
		}
		pass(2 * time.Second)
		c.lent.Store(0)
		pass(27 * time.Second)
		assert.Zero(t, c.lent.Load())
	})
}

func TestAHandlerThatBeganBeforeAPauseDoesNotEndIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counting{Memory: newMemory(t)}
		pool := newSwitchable()
		pool.off.Store(false)
		w := work(t, c, pool, inbox.WorkersConfig{}, func(context.Context, *tenant.Tenant, inbox.Update) error {
			time.Sleep(10 * time.Second)
			return nil
		})
		put(t, c, message("off", 1, 1))
		pass(time.Second)
		pool.off.Store(true)
		put(t, c, message("off", 2, 2))
		pass(25 * time.Second)
		assert.Equal(t, uint64(1), w.Stats().Handled)
		assert.Equal(t, int64(2), c.lent.Load())
	})
}

func TestAPauseOfATenantThatHasNothingMoreIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		w := work(t, m, newSwitchable(), inbox.WorkersConfig{}, func(context.Context, *tenant.Tenant, inbox.Update) error { return nil })
		u := message("off", 1, 1)
		u.ExpiresAt = time.Now().Add(time.Second)
		put(t, m, u)
		pass(20 * time.Second)
		assert.Equal(t, 1, w.Stats().Paused)
		pass(11 * time.Minute)
		assert.Zero(t, w.Stats().Paused)
	})
}
