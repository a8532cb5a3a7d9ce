package tenant_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
)

// quick is a short ConfirmFor.
const quick = 15 * time.Second

// started returns a fleet whose manager runs, with n tenants.
func started(t *testing.T, n int, cfg tenant.ManagerConfig) (f *fleet, bots []*bottest.Bot) {
	f = newFleet(t, tenant.PoolConfig{}, cfg)
	for i := range n {
		bots = append(bots, f.register(t, fmt.Sprint("shop-", i)))
	}
	require.NoError(t, f.Start(bg))
	t.Cleanup(f.Stop)
	synctest.Wait()
	return f, bots
}

func (f *fleet) statuses(t *testing.T) map[tenant.Status]int {
	count := make(map[tenant.Status]int)
	for _, r := range list(t, f.store) {
		count[r.Status]++
	}
	return count
}

// refuse has Telegram refuse all tokens.
func (f *fleet) refuse() (end func()) {
	return f.srv.Fail(bottest.Fault{Do: bottest.Unauthorized401()})
}

func TestARevokedTokenIsQuarantinedAfterAFewQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard atomic.Int64
		f, bots := started(t, 2, tenant.ManagerConfig{ConfirmFor: quick, OnQuarantine: func(_ context.Context, r tenant.Record, err error) {
			assert.Equal(t, "shop-0", r.ID)
			assert.ErrorIs(t, err, errors.Unauthorized)
			heard.Add(1)
		}})
		bots[0].Revoke()
		before := f.srv.CallCount("getMe")
		for range 14 { // a call each second
			assert.ErrorIs(t, f.getMe("shop-0"), errors.Unauthorized)
			require.NoError(t, f.getMe("shop-1"), "others notice nothing")
			time.Sleep(time.Second)
		}
		assert.Equal(t, 14+1+3, f.srv.CallCount("getMe")-before, "its calls are not sent, and it is asked about three times")
		assert.Zero(t, heard.Load())
		time.Sleep(2 * time.Second)
		assert.Equal(t, int64(1), heard.Load())
		assert.ErrorIs(t, f.getMe("shop-0"), errors.Suspended)
		assert.Equal(t, map[tenant.Status]int{tenant.Active: 1, tenant.Quarantined: 1}, f.statuses(t))
		_, err := f.Rotate(bg, "shop-0", bots[0].RotateToken())
		require.NoError(t, err)
		require.NoError(t, f.getMe("shop-0"))
	})
}

// For ten seconds Telegram refuses the tokens of all.
func TestAMomentOf401sQuarantinesNobody(t *testing.T) {
	for _, n := range []int{3, 200} { // also with fewer than make a storm
		synctest.Test(t, func(t *testing.T) {
			var accepted sync.Map
			f, _ := started(t, n, tenant.ManagerConfig{
				ConfirmFor:   quick,
				OnQuarantine: func(_ context.Context, r tenant.Record, _ error) { t.Error("quarantined: ", r.ID) },
				OnAccepted: func(_ context.Context, r tenant.Record) {
					_, twice := accepted.LoadOrStore(r.ID, true)
					assert.False(t, twice, r.ID)
					panic("a hook that panics harms nobody")
				},
			})
			end := f.refuse()
			all := func(check func(error)) {
				var wg sync.WaitGroup
				for i := range n {
					wg.Go(func() { check(f.getMe(fmt.Sprint("shop-", i))) })
				}
				wg.Wait()
			}
			all(func(err error) { assert.ErrorIs(t, err, errors.Unauthorized) })
			time.Sleep(10 * time.Second)
			end()
			time.Sleep(6 * time.Second)
			all(func(err error) { assert.NoError(t, err) })
			for i := range n {
				_, ok := accepted.Load(fmt.Sprint("shop-", i))
				assert.True(t, ok, i)
			}
			time.Sleep(2 * time.Hour)
			assert.Equal(t, map[tenant.Status]int{tenant.Active: n}, f.statuses(t))
		})
	}
}

// A storm of minutes: nobody is quarantined, somebody is told, and all go on
// soon after its end.
func TestInAStormOf401sQuarantinesAreHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		var held, told atomic.Int64
		f, bots := started(t, n, tenant.ManagerConfig{ConfirmFor: quick, OnHold: func(_ context.Context, tenants int) {
			held.Add(1)
			told.Store(int64(tenants))
			panic("a hook that panics harms nobody")
		}})
		end := f.refuse()
		for i := range n {
			assert.ErrorIs(t, f.getMe(fmt.Sprint("shop-", i)), errors.Unauthorized)
		}
		assert.Equal(t, int64(1), held.Load())
		assert.Equal(t, int64(11), told.Load())
		time.Sleep(20 * time.Minute)
		assert.Equal(t, map[tenant.Status]int{tenant.Active: n}, f.statuses(t))
		bots[7].Revoke() // this one is revoked indeed
		end()
		time.Sleep(time.Minute)
		for i := range n {
			if err := f.getMe(fmt.Sprint("shop-", i)); i == 7 {
				assert.Error(t, err)
			} else {
				assert.NoError(t, err, i)
			}
		}
		time.Sleep(time.Minute)
		assert.Equal(t, map[tenant.Status]int{tenant.Active: n - 1, tenant.Quarantined: 1}, f.statuses(t))
		assert.Equal(t, int64(1), held.Load())
	})
}

// A small service says when it is many.
func TestAStormOfAFewIsHeldWhereItIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 4
		var held atomic.Int64
		f, bots := started(t, n, tenant.ManagerConfig{ConfirmFor: quick, MaxQuarantines: n / 3, OnHold: func(context.Context, int) { held.Add(1) }})
		end := f.refuse()
		for i := range n {
			assert.ErrorIs(t, f.getMe(fmt.Sprint("shop-", i)), errors.Unauthorized)
		}
		time.Sleep(20 * time.Minute)
		end()
		time.Sleep(time.Minute)
		assert.Equal(t, map[tenant.Status]int{tenant.Active: n}, f.statuses(t))
		assert.Equal(t, int64(1), held.Load())
		for i := range n {
			assert.NoError(t, f.getMe(fmt.Sprint("shop-", i)))
		}
		bots[0].Revoke() // and one alone takes no longer than ever
		assert.ErrorIs(t, f.getMe("shop-0"), errors.Unauthorized)
		time.Sleep(16 * time.Second)
		assert.Equal(t, map[tenant.Status]int{tenant.Active: n - 1, tenant.Quarantined: 1}, f.statuses(t))
	})
}

// Where many tokens are revoked indeed, it takes an hour.
func TestManyRevokedTokensAreQuarantinedInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, bots := started(t, 30, tenant.ManagerConfig{ConfirmFor: quick})
		for i, bot := range bots[:20] {
			bot.Revoke()
			assert.Error(t, f.getMe(fmt.Sprint("shop-", i)))
		}
		time.Sleep(59 * time.Minute)
		assert.Equal(t, map[tenant.Status]int{tenant.Active: 30}, f.statuses(t))
		time.Sleep(3 * time.Minute)
		assert.Equal(t, map[tenant.Status]int{tenant.Active: 10, tenant.Quarantined: 20}, f.statuses(t))
	})
}

func TestATenantWhoseTokenChangesWhileItIsConfirmedIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, bots := started(t, 3, tenant.ManagerConfig{ConfirmFor: quick})
		for i, bot := range bots {
			bot.Revoke()
			assert.Error(t, f.getMe(fmt.Sprint("shop-", i)))
		}
		time.Sleep(2 * time.Second)
		_, err := f.Rotate(bg, "shop-0", bots[0].RotateToken())
		require.NoError(t, err)
		require.NoError(t, f.getMe("shop-0"))
		_, err = f.Suspend(bg, "shop-1", "unpaid")
		require.NoError(t, err)
		require.NoError(t, f.Remove(bg, "shop-2"))
		time.Sleep(time.Hour)
		assert.Equal(t, map[tenant.Status]int{tenant.Active: 1, tenant.Suspended: 1}, f.statuses(t))
		require.NoError(t, f.getMe("shop-0"))
	})
}

// Where nobody can ask again, a storm quarantines a few and no more, and a
// manager that ends leaves the rest to whoever calls next.
func TestWithoutAStartAStormIsHeldToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{MaxQuarantines: 3})
		for i := range 20 {
			f.register(t, fmt.Sprint("shop-", i))
		}
		end := f.refuse()
		for i := range 20 {
			assert.ErrorIs(t, f.getMe(fmt.Sprint("shop-", i)), errors.Unauthorized)
		}
		end()
		assert.Equal(t, map[tenant.Status]int{tenant.Active: 17, tenant.Quarantined: 3}, f.statuses(t))
		require.NoError(t, f.getMe("shop-19"))
	})
	synctest.Test(t, func(t *testing.T) {
		f, bots := started(t, 1, tenant.ManagerConfig{ConfirmFor: quick})
		bots[0].Revoke()
		assert.ErrorIs(t, f.getMe("shop-0"), errors.Unauthorized)
		f.Stop()
		assert.Equal(t, map[tenant.Status]int{tenant.Active: 1}, f.statuses(t))
		assert.ErrorIs(t, f.getMe("shop-0"), errors.Unauthorized)
		assert.Equal(t, map[tenant.Status]int{tenant.Quarantined: 1}, f.statuses(t))
	})
}

// What keeps a question from being answered says nothing about the token.
func TestAnOutageIsNoRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, bots := started(t, 1, tenant.ManagerConfig{ConfirmFor: quick})
		end := f.refuse()
		assert.ErrorIs(t, f.getMe("shop-0"), errors.Unauthorized)
		end()
		end = f.srv.Fail(bottest.Fault{Do: bottest.HTML502()})
		time.Sleep(10 * time.Minute)
		end()
		assert.Equal(t, map[tenant.Status]int{tenant.Active: 1}, f.statuses(t))
		time.Sleep(2 * time.Minute)
		require.NoError(t, f.getMe("shop-0"))
		_ = bots
	})
}

// Nor after a storm, in which Telegram has refused them often enough: the last
// word about a token is a refusal.
func TestAnOutageAfterAStormIsNoRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := started(t, 12, tenant.ManagerConfig{ConfirmFor: quick})
		end := f.refuse()
		for i := range 12 {
			assert.ErrorIs(t, f.getMe(fmt.Sprint("shop-", i)), errors.Unauthorized)
		}
		time.Sleep(2 * time.Minute)
		end()
		end = f.srv.Fail(bottest.Fault{Do: bottest.HTML502()})
		for i := range 2 { // the others are too few for a storm
			require.NoError(t, f.Remove(bg, fmt.Sprint("shop-", i)))
		}
		time.Sleep(10 * time.Minute)
		assert.Equal(t, map[tenant.Status]int{tenant.Active: 10}, f.statuses(t))
		end()
		time.Sleep(5 * time.Minute)
		for i := 2; i < 12; i++ {
			assert.NoError(t, f.getMe(fmt.Sprint("shop-", i)), i)
		}
	})
}

// Those of whom Telegram takes the tokens again, one after another, have it asked
// about the rest at once, which are not given up any sooner for that.
func TestOneThatIsRefusedLongerThanOthersIsNotQuarantinedSooner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, bots := started(t, 8, tenant.ManagerConfig{ConfirmFor: quick})
		var ends []func()
		for i, bot := range bots {
			ends = append(ends, f.srv.Fail(bottest.Fault{Bot: bot, Do: bottest.Unauthorized401()}))
			assert.ErrorIs(t, f.getMe(fmt.Sprint("shop-", i)), errors.Unauthorized)
			time.Sleep(100 * time.Millisecond)
		}
		for _, end := range ends[1:] {
			end()
		}
		time.Sleep(8 * time.Second)
		ends[0]()
		assert.Equal(t, map[tenant.Status]int{tenant.Active: 8}, f.statuses(t))
		time.Sleep(time.Minute)
		assert.Equal(t, map[tenant.Status]int{tenant.Active: 8}, f.statuses(t))
		assert.NoError(t, f.getMe("shop-0"))
	})
}

// silent is a store whose changes are not heard for now.
type silent struct{ tenant.Store }

func (silent) Watch(ctx context.Context, _ func(tenant.Change)) error {
	<-ctx.Done()
	return ctx.Err()
}

// The 401 may be the first sign that another process has rotated the token.
func TestAConfirmationOfWhatIsNotStoredAnyMoreClosesTheBot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
		here := newReplica(t, f.srv, silent{f.store})
		bots := map[string]*bottest.Bot{}
		for _, id := range []string{"rotated", "suspended", "removed"} {
			bots[id] = f.register(t, id)
			here.use(t, id)
		}
		old := bots["rotated"].Token()
		_, err := f.Rotate(bg, "rotated", bots["rotated"].RotateToken())
		require.NoError(t, err)
		_, err = f.Suspend(bg, "suspended", "unpaid")
		require.NoError(t, err)
		require.NoError(t, f.Remove(bg, "removed"))
		bots["suspended"].Revoke()
		bots["removed"].Revoke()
		call := func(id string) error {
			return here.pool.Do(bg, id, func(ctx context.Context, t *tenant.Tenant) error {
				_, err := t.Bot.GetMeWithContext(ctx, nil)
				return err
			})
		}
		for id := range bots {
			assert.ErrorIs(t, call(id), errors.Unauthorized, id)
		}
		time.Sleep(2 * time.Second)
		assert.NoError(t, call("rotated"))
		assert.NotEqual(t, old, here.use(t, "rotated"))
		assert.ErrorIs(t, call("suspended"), errors.Suspended)
		assert.ErrorIs(t, call("removed"), errors.NotFound)
	})
}
