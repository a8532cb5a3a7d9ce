package tenant_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
)

// hooks notes what a manager tells.
type hooks struct {
	mu  sync.Mutex
	all []string
}

func (h *hooks) note(what string, r tenant.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, what+" "+r.ID)
}

func (h *hooks) count(what string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, one := range h.all {
		if strings.HasPrefix(one, what+" ") {
			n++
		}
	}
	return n
}

// into has a manager's hooks noted.
func (h *hooks) into(cfg tenant.ManagerConfig) tenant.ManagerConfig {
	cfg.OnQuarantine = func(_ context.Context, r tenant.Record, _ error) { h.note("quarantined", r) }
	cfg.OnAccepted = func(_ context.Context, r tenant.Record) { h.note("accepted", r) }
	cfg.OnActive = func(_ context.Context, r tenant.Record) { h.note("active", r) }
	return cfg
}

// use calls as each of n tenants every 5 s, or more rarely where it is long.
func (f *fleet) use(n int, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(max(5*time.Second, d/400)) {
		for i := range n {
			_ = f.getMe(fmt.Sprint("shop-", i))
		}
	}
}

// notFound is Telegram's 404.
func notFound() bottest.Action {
	return bottest.Respond(404, "application/json", `{"ok":false,"error_code":404,"description":"Not Found"}`)
}

// A service of 1 to 3 bots is too small for a storm.
func TestThreeMinutesOf401sQuarantineNobodyInASmallFleet(t *testing.T) {
	for _, n := range []int{1, 2, 3} {
		for _, busy := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d bots, busy %v", n, busy), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var told hooks
					f, _ := started(t, n, told.into(tenant.ManagerConfig{}))
					end := f.refuse()
					for i := range n {
						assert.ErrorIs(t, f.getMe(fmt.Sprint("shop-", i)), errors.Unauthorized)
					}
					soon := time.Minute
					if busy {
						f.use(n, 3*time.Minute)
						soon = 10 * time.Second
					} else {
						time.Sleep(3 * time.Minute)
					}
					assert.Equal(t, map[tenant.Status]int{tenant.Active: n}, f.statuses(t))
					end()
					time.Sleep(soon)
					assert.Equal(t, n, told.count("accepted"))
					for i := range n {
						assert.NoError(t, f.getMe(fmt.Sprint("shop-", i)))
					}
					time.Sleep(48 * time.Hour)
					assert.Zero(t, told.count("quarantined"))
					assert.Equal(t, map[tenant.Status]int{tenant.Active: n}, f.statuses(t))
				})
			})
		}
	}
}

func TestAnHourOf401sQuarantinesOnceWithHookAndLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told hooks
		var log bytes.Buffer
		cfg := told.into(tenant.ManagerConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		f, bots := started(t, 1, cfg)
		bots[0].Revoke()
		before := f.srv.CallCount("getMe")
		f.use(1, 59*time.Minute)
		assert.Equal(t, map[tenant.Status]int{tenant.Active: 1}, f.statuses(t))
		assert.Less(t, f.srv.CallCount("getMe")-before, 370, "one question in 10 s")
		f.use(1, 2*time.Minute)
		assert.Equal(t, map[tenant.Status]int{tenant.Quarantined: 1}, f.statuses(t))
		assert.ErrorIs(t, f.getMe("shop-0"), errors.Suspended)
		time.Sleep(time.Hour)
		f.Stop()
		assert.Equal(t, 1, told.count("quarantined"))
		assert.Zero(t, told.count("accepted"))
		assert.Equal(t, 1, strings.Count(log.String(), `msg="tenant quarantined"`))
		var entries []tenant.Entry
		for _, e := range f.log(t) {
			if e.Action == tenant.ActionQuarantine {
				entries = append(entries, e)
			}
		}
		assert.Len(t, entries, 1)
	})
}

// The first bot whose token Telegram accepts again has it asked about all others at once,
// although the pauses have become long.
func TestAfterALongStormAllIdleBotsWorkWithinSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 50
		var told hooks
		f, _ := started(t, n, told.into(tenant.ManagerConfig{}))
		end := f.refuse()
		for i := range n {
			assert.Error(t, f.getMe(fmt.Sprint("shop-", i)))
		}
		time.Sleep(50 * time.Minute)
		end()
		time.Sleep(20 * time.Second)
		assert.Equal(t, n, told.count("accepted"))
	})
}

// Telegram accepts some tokens again before others. What was rejected until then may
// have been part of the same mistake.
func TestTheLastTokenThatIsAcceptedAgainIsNotQuarantinedBeforeThat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told hooks
		f, bots := started(t, 8, told.into(tenant.ManagerConfig{ConfirmFor: quick}))
		var ends []func()
		for i, bot := range bots {
			ends = append(ends, f.srv.Fail(bottest.Fault{Bot: bot, Do: bottest.Unauthorized401()}))
			assert.ErrorIs(t, f.getMe(fmt.Sprint("shop-", i)), errors.Unauthorized)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		for _, end := range ends[1:] {
			end()
		}
		time.Sleep(14 * time.Second) // more than 15 s after its first rejection
		assert.Equal(t, map[tenant.Status]int{tenant.Active: 8}, f.statuses(t))
		assert.Equal(t, 7, told.count("accepted"))
		ends[0]()
		time.Sleep(time.Minute)
		assert.Equal(t, map[tenant.Status]int{tenant.Active: 8}, f.statuses(t))
		assert.NoError(t, f.getMe("shop-0"))
	})
}

// A bot that nobody uses has fewer questions.
func TestQuestionsAboutAnIdleBotBecomeRarer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, bots := started(t, 1, tenant.ManagerConfig{ConfirmFor: 24 * time.Hour})
		bots[0].Revoke()
		assert.Error(t, f.getMe("shop-0"))
		before := f.srv.CallCount("getMe")
		time.Sleep(10 * time.Minute)
		first := f.srv.CallCount("getMe") - before
		assert.InDelta(t, 27, first, 5)
		time.Sleep(50 * time.Minute)
		assert.InDelta(t, 42, f.srv.CallCount("getMe")-before-first, 8)
		time.Sleep(22 * time.Hour)
		assert.InDelta(t, 22*14, f.srv.CallCount("getMe")-before-first-42, 40)
		assert.Equal(t, map[tenant.Status]int{tenant.Active: 1}, f.statuses(t))
		time.Sleep(61 * time.Minute)
		assert.Equal(t, map[tenant.Status]int{tenant.Quarantined: 1}, f.statuses(t))
	})
}

func TestTenMinutesOf404QuarantineNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told hooks
		f, _ := started(t, 2, told.into(tenant.ManagerConfig{}))
		end := f.srv.Fail(bottest.Fault{Do: notFound()})
		assert.ErrorIs(t, f.getMe("shop-0"), errors.InvalidToken)
		time.Sleep(2 * time.Second)
		before := f.srv.CallCount("getMe")
		assert.ErrorIs(t, f.getMe("shop-0"), errors.Unauthorized, "a getMe has confirmed it")
		assert.Equal(t, before, f.srv.CallCount("getMe"), "so its calls are not sent")
		f.use(2, 10*time.Minute)
		end()
		time.Sleep(10 * time.Second)
		assert.NoError(t, f.getMe("shop-0"))
		assert.NoError(t, f.getMe("shop-1"))
		assert.Equal(t, 2, told.count("accepted"))
		time.Sleep(2 * time.Hour)
		assert.Zero(t, told.count("quarantined"))
	})
}

func TestAnHourOf404QuarantinesOnceWithItsHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var causes []error
		f, bots := started(t, 1, tenant.ManagerConfig{OnQuarantine: func(_ context.Context, _ tenant.Record, err error) { causes = append(causes, err) }})
		f.srv.Fail(bottest.Fault{Bot: bots[0], Do: notFound()})
		assert.ErrorIs(t, f.getMe("shop-0"), errors.InvalidToken)
		time.Sleep(59 * time.Minute)
		assert.Equal(t, map[tenant.Status]int{tenant.Active: 1}, f.statuses(t))
		time.Sleep(2 * time.Minute)
		assert.Equal(t, map[tenant.Status]int{tenant.Quarantined: 1}, f.statuses(t))
		f.Stop() // waits for the hook
		require.Len(t, causes, 1)
		assert.ErrorIs(t, causes[0], errors.InvalidToken)
	})
}

// A 404 of one method, such as one that the server does not know, holds up no other
// call, and is looked into once a minute.
func TestA404OfOneMethodHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told hooks
		f, bots := started(t, 1, told.into(tenant.ManagerConfig{}))
		f.srv.Fail(bottest.Fault{Bot: bots[0], Method: "getMyName", Do: notFound()})
		before := f.srv.CallCount("getMe")
		for range 600 {
			assert.ErrorIs(t, f.pool.Do(bg, "shop-0", func(ctx context.Context, t *tenant.Tenant) error {
				_, err := t.Bot.GetMyNameWithContext(ctx, nil)
				return err
			}), errors.InvalidToken)
			assert.NoError(t, f.getMe("shop-0"))
			time.Sleep(time.Second)
		}
		assert.LessOrEqual(t, f.srv.CallCount("getMe")-before-600, 11)
		assert.Equal(t, []string{"active shop-0"}, told.all, "by its registration")
	})
}

// Without a Start nobody asks again, and a 404 that may pass is no reason to
// quarantine.
func TestWithoutAStartA404QuarantinesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, tenant.PoolConfig{}, tenant.ManagerConfig{})
		f.register(t, "shop")
		end := f.srv.Fail(bottest.Fault{Do: notFound()})
		for range 10 {
			assert.ErrorIs(t, f.getMe("shop"), errors.InvalidToken)
			time.Sleep(time.Minute)
		}
		end()
		assert.NoError(t, f.getMe("shop"))
	})
}

func TestANegativeConfirmForQuarantinesAtOnce(t *testing.T) {
	for name, do := range map[string]bottest.Action{"401": bottest.Unauthorized401(), "404": notFound()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told hooks
				f, bots := started(t, 1, told.into(tenant.ManagerConfig{ConfirmFor: -1}))
				f.srv.Fail(bottest.Fault{Bot: bots[0], Do: do})
				assert.Error(t, f.getMe("shop-0"))
				synctest.Wait()
				assert.Equal(t, map[tenant.Status]int{tenant.Quarantined: 1}, f.statuses(t))
				assert.Equal(t, 1, told.count("quarantined"))
			})
		})
	}
}

// What a proxy says, and silence, are no answers of Telegram.
func TestAProxysAnswersForAnHourQuarantineNobody(t *testing.T) {
	for name, do := range map[string]bottest.Action{
		"an HTML 404":   bottest.Respond(404, "text/html", "<html>Not Found</html>"),
		"an HTML 403":   bottest.Respond(403, "text/html", "<html>Forbidden</html>"),
		"an HTML 401":   bottest.Respond(401, "text/html", "<html>Proxy Authentication</html>"),
		"an HTML 502":   bottest.HTML502(),
		"a 500":         bottest.Restart500(),
		"an empty body": bottest.EmptyBody(),
		"silence":       bottest.Hang(),
	} {
		for _, after401 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, after a 401 %v", name, after401), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var told hooks
					f, _ := started(t, 1, told.into(tenant.ManagerConfig{}))
					if after401 {
						end := f.refuse()
						assert.ErrorIs(t, f.getMe("shop-0"), errors.Unauthorized)
						time.Sleep(2 * time.Second)
						end()
					}
					end := f.srv.Fail(bottest.Fault{Do: do})
					f.use(1, 65*time.Minute)
					assert.Equal(t, map[tenant.Status]int{tenant.Active: 1}, f.statuses(t))
					end()
					time.Sleep(30 * time.Second) // a question may still hang
					assert.NoError(t, f.getMe("shop-0"))
					assert.Zero(t, told.count("quarantined"))
				})
			})
		}
	}
}

// A lease fails as a call does, so that workers leave updates in the inbox.
func TestLeasesAreRefusedWhileATokenIsConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, bots := started(t, 1, tenant.ManagerConfig{})
		lease, err := f.pool.Acquire(bg, "shop-0")
		require.NoError(t, err)
		bots[0].Revoke()
		_, err = lease.Tenant().Bot.GetMe(nil)
		require.ErrorIs(t, err, errors.Unauthorized)
		before := f.srv.CallCount("getMe")
		_, err = lease.Tenant().Bot.GetMe(nil)
		assert.ErrorIs(t, err, errors.Unauthorized)
		assert.True(t, errors.SafeToRepeat(err), "nothing was sent")
		assert.NotZero(t, errors.RetryAfter(err))
		_, err = f.pool.Acquire(bg, "shop-0")
		assert.ErrorIs(t, err, errors.Unauthorized)
		assert.NotZero(t, errors.RetryAfter(err))
		lease.Release()

		// Also a bot that was closed when idle and opened anew.
		f.pool.Evict("shop-0")
		_, err = f.pool.Acquire(bg, "shop-0")
		assert.ErrorIs(t, err, errors.Unauthorized)
		assert.Equal(t, before, f.srv.CallCount("getMe"))
		assert.Zero(t, f.pool.Stats().Leased)
	})
}

// What was found out before a restart is lost, and begins anew.
func TestARestartWhileATokenIsConfirmedBeginsAnew(t *testing.T) {
	for _, dead := range []bool{true, false} {
		t.Run(fmt.Sprint("dead ", dead), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told hooks
				f, _ := started(t, 1, told.into(tenant.ManagerConfig{}))
				end := f.refuse()
				f.use(1, 50*time.Minute)
				f.Stop()
				again := f.again(t, told.into(tenant.ManagerConfig{}))
				assert.ErrorIs(t, again.getMe("shop-0"), errors.Unauthorized)
				if !dead {
					end()
				}
				time.Sleep(50 * time.Minute)
				assert.Equal(t, map[tenant.Status]int{tenant.Active: 1}, again.statuses(t))
				time.Sleep(11 * time.Minute)
				if dead {
					assert.Equal(t, map[tenant.Status]int{tenant.Quarantined: 1}, again.statuses(t))
					assert.Equal(t, 1, told.count("quarantined"))
				} else {
					assert.NoError(t, again.getMe("shop-0"))
					assert.Zero(t, told.count("quarantined"))
				}
			})
		})
	}
}

// again returns another process of the fleet, over its store, whose manager runs.
func (f *fleet) again(t *testing.T, cfg tenant.ManagerConfig) *fleet {
	g := &fleet{srv: f.srv, store: f.store}
	var err error
	g.s, err = session.New(session.Config{Transport: f.srv.Transport()})
	require.NoError(t, err)
	g.pool, err = tenant.NewPool(g.s, g.store, tenant.PoolConfig{})
	require.NoError(t, err)
	g.Manager = tenant.NewManager(g.pool, cfg)
	require.NoError(t, g.Start(bg))
	t.Cleanup(func() {
		g.Stop()
		require.NoError(t, g.pool.Close(bg))
		require.NoError(t, g.s.Close(bg))
	})
	synctest.Wait()
	return g
}
