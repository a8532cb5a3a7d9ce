package tenant_test

import (
	"context"
	"fmt"
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

// quarantined returns a fleet of n tenants that have just been quarantined. Telegram
// accepts the token of tenant i again after accept[i].
func quarantined(t *testing.T, n int, cfg tenant.ManagerConfig) (f *fleet, accept []func()) {
	cfg.ConfirmFor, cfg.MaxQuarantines = quick, -1
	f, bots := started(t, n, cfg)
	for i, bot := range bots {
		accept = append(accept, f.srv.Fail(bottest.Fault{Bot: bot, Do: bottest.Unauthorized401()}))
		assert.Error(t, f.getMe(fmt.Sprint("shop-", i)))
	}
	time.Sleep(time.Minute)
	require.Equal(t, map[tenant.Status]int{tenant.Quarantined: n}, f.statuses(t))
	return f, accept
}

// resumed returns the log's entries of resumptions.
func (f *fleet) resumed(t *testing.T) (all []tenant.Entry) {
	for _, e := range f.log(t) {
		if e.Action == tenant.ActionResume {
			all = append(all, e)
		}
	}
	return all
}

func TestAQuarantinedBotWhoseTokenWorksAgainIsResumedWithinADay(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart ", restart), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told hooks
				f, accept := quarantined(t, 4, told.into(tenant.ManagerConfig{}))
				require.Equal(t, 4, told.count("active"), "as registered")
				_, err := f.Suspend(bg, "shop-1", "unpaid") // also one that was quarantined before
				require.NoError(t, err)
				for _, again := range accept[:3] {
					again()
				}
				if restart {
					time.Sleep(3 * time.Hour)
					f.Stop()
					time.Sleep(5 * time.Hour)
					f = f.again(t, told.into(tenant.ManagerConfig{}))
					time.Sleep(16 * time.Hour)
				} else {
					time.Sleep(24 * time.Hour)
				}
				assert.Equal(t, map[tenant.Status]int{tenant.Active: 2, tenant.Suspended: 1, tenant.Quarantined: 1}, f.statuses(t))
				assert.NoError(t, f.getMe("shop-0"))
				assert.ErrorIs(t, f.getMe("shop-1"), errors.Suspended)
				assert.NoError(t, f.getMe("shop-2"))
				assert.ErrorIs(t, f.getMe("shop-3"), errors.Suspended)
				assert.Equal(t, 2, told.count("accepted"))
				assert.Equal(t, 6, told.count("active"))
				log := f.resumed(t)
				require.Len(t, log, 2)
				for _, e := range log {
					assert.Empty(t, e.Actor, "the service")
					assert.Equal(t, "Telegram accepts the token again", e.Detail)
				}
				r, err := f.Get(bg, "shop-1")
				require.NoError(t, err)
				assert.Equal(t, "unpaid", r.Reason)
			})
		})
	}
}

// Nor does the context of Start say who has resumed a tenant.
func TestARetryIsTheServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, accept := quarantined(t, 1, tenant.ManagerConfig{})
		f.Stop()
		require.NoError(t, f.Start(tenant.WithActor(bg, "alice")))
		accept[0]()
		time.Sleep(24 * time.Hour)
		log := f.resumed(t)
		require.Len(t, log, 1)
		assert.Empty(t, log[0].Actor)
	})
}

func TestANegativeRetryQuarantinedResumesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, accept := quarantined(t, 1, tenant.ManagerConfig{RetryQuarantined: -1})
		accept[0]()
		time.Sleep(72 * time.Hour)
		assert.Equal(t, map[tenant.Status]int{tenant.Quarantined: 1}, f.statuses(t))
	})
}

// Bots that were quarantined together are spread over the day, and each is asked about
// once or twice a day, however often the service restarts.
func TestRetriesAreFewAndSpread(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		t.Run(fmt.Sprint("restarts ", restarts), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n, days = 100, 4
				f, _ := quarantined(t, n, tenant.ManagerConfig{})
				from := len(f.srv.Calls())
				for range days * 24 {
					if restarts {
						f.Stop()
						require.NoError(t, f.Start(bg))
					}
					time.Sleep(time.Hour)
				}
				each, minute, hour := make(map[*bottest.Bot]int), make(map[int64]int), make(map[int64]int)
				for _, c := range f.srv.Calls()[from:] {
					require.Equal(t, "getMe", c.Method)
					each[c.Bot]++
					minute[c.Time.Unix()/60]++
					hour[c.Time.Unix()/3600]++
				}
				assert.Len(t, each, n)
				for _, calls := range each {
					assert.GreaterOrEqual(t, calls, days)
					assert.LessOrEqual(t, calls, 2*days)
				}
				for _, calls := range minute {
					assert.LessOrEqual(t, calls, 6)
				}
				for _, calls := range hour {
					assert.LessOrEqual(t, calls, n/2)
				}
				assert.Empty(t, f.resumed(t))
				assert.Equal(t, map[tenant.Status]int{tenant.Quarantined: n}, f.statuses(t))
			})
		})
	}
}

// Many bots that a mistake of Telegram has quarantined are back within a day.
func TestAllBotsOfAMistakeAreResumedWithinADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 300
		f, accept := quarantined(t, n, tenant.ManagerConfig{})
		for _, again := range accept {
			again()
		}
		time.Sleep(24 * time.Hour)
		assert.Equal(t, map[tenant.Status]int{tenant.Active: n}, f.statuses(t))
	})
}

func TestTwoManagersOverOneStoreResumeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 20
		var told hooks
		cfg := told.into(tenant.ManagerConfig{})
		f, accept := quarantined(t, n, cfg)
		other := f.again(t, cfg)
		before := f.srv.CallCount("getMe")
		time.Sleep(24 * time.Hour)
		asked := f.srv.CallCount("getMe") - before
		assert.LessOrEqual(t, asked, 2*n, "each was asked about by one of them at a time")
		for _, again := range accept {
			again()
		}
		time.Sleep(24 * time.Hour)
		assert.Equal(t, n, told.count("accepted"))
		assert.Equal(t, 2*n, told.count("active"), "once as registered, once as resumed")
		assert.Len(t, f.resumed(t), n)
		for i := range n {
			assert.NoError(t, f.getMe(fmt.Sprint("shop-", i)))
			assert.NoError(t, other.getMe(fmt.Sprint("shop-", i)))
		}
	})
}

// An outage at the time of a retry does not cost the day.
func TestARetryWithoutAnAnswerIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, accept := quarantined(t, 3, tenant.ManagerConfig{})
		for _, again := range accept {
			again()
		}
		end := f.srv.Fail(bottest.Fault{Do: bottest.HTML502()})
		time.Sleep(30 * time.Hour)
		assert.Equal(t, map[tenant.Status]int{tenant.Quarantined: 3}, f.statuses(t))
		end()
		time.Sleep(2 * time.Hour)
		assert.Equal(t, map[tenant.Status]int{tenant.Active: 3}, f.statuses(t))
	})
}

// losing is a store that resumes a tenant and whose answer is lost.
type losing struct {
	tenant.Store
	lose atomic.Bool
}

func (s *losing) Put(ctx context.Context, r tenant.Record, log ...tenant.Entry) (tenant.Record, error) {
	stored, err := s.Store.Put(ctx, r, log...)
	if err == nil && len(log) > 0 && log[0].Action == tenant.ActionResume && s.lose.CompareAndSwap(true, false) {
		return tenant.Record{}, &errors.Error{Kind: errors.StoreUnavailable, Op: "put tenant", Delivery: errors.MaybeDelivered}
	}
	return stored, err
}

func TestAResumptionWhoseAnswerIsLostIsHeardOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told hooks
		store := &losing{}
		store.lose.Store(true)
		f := newFleetOn(t, func(s tenant.Store) tenant.Store { store.Store = s; return store }, tenant.PoolConfig{},
			told.into(tenant.ManagerConfig{ConfirmFor: quick}))
		bot := f.register(t, "shop-0")
		require.NoError(t, f.Start(bg))
		t.Cleanup(f.Stop)
		accept := f.srv.Fail(bottest.Fault{Bot: bot, Do: bottest.Unauthorized401()})
		assert.Error(t, f.getMe("shop-0"))
		time.Sleep(time.Minute)
		accept()
		time.Sleep(24 * time.Hour)
		assert.Equal(t, 2, told.count("active"))
		assert.Len(t, f.resumed(t), 1)
		assert.NoError(t, f.getMe("shop-0"))
	})
}
