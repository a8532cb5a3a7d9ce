package polling_test

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/polling"
)

func TestUpdatesOfManyTenantsComeIntoTheInbox(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		for i := range 50 {
			bot := s.register(fmt.Sprint("shop", i))
			p.Add(fmt.Sprint("shop", i))
			s.ann.Write(bot, "one")
			time.Sleep(time.Second)
			s.ann.Write(bot, "two")
			s.ann.Write(bot, "three")
		}
		synctest.Wait()
		for i := range 50 {
			id := fmt.Sprint("shop", i)
			assert.Equal(t, 3, s.inbox.count(id), id)
			assert.Equal(t, polling.Polling, state(t, p, id))
		}
		assert.Equal(t, map[string]int{"polling": 50}, p.Stats().Tenants)
		assert.EqualValues(t, 150, p.Stats().Received)
		assert.Len(t, p.Statuses(), 50)
	})
}

func TestAnIdleBotIsAskedOnceIn50Seconds(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		s.register("shop")
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		p.Add("shop")
		synctest.Wait()
		before := s.polls()
		time.Sleep(time.Hour)
		assert.InDelta(t, 72, s.polls()-before, 1)
	})
}

func TestTheConfigurationIsChecked(t *testing.T) {
	_, err := polling.New(nil, nil, nil, polling.Config{
		LeaseTTL: time.Millisecond, PollTimeout: time.Minute, Batch: 101, MaxTenants: -1, Starting: -1, PutTimeout: -1, SyncEvery: -1,
	})
	for _, name := range []string{
		"session", "records", "inbox", "LeaseTTL", "PollTimeout", "Batch", "MaxTenants", "Starting", "PutTimeout", "SyncEvery",
	} {
		assert.ErrorContains(t, err, name)
	}
}

func TestStopMayBeCalledTwiceAndWithoutStart(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		p := s.unstarted(polling.Config{})
		stop(t, p)
		stop(t, p)
		require.ErrorIs(t, p.Start(bg), errors.Closed)

		p = s.supervisor(polling.Config{})
		require.ErrorIs(t, p.Start(bg), errors.Closed)
		stop(t, p)
		stop(t, p)
		p.Add("shop")
		require.NoError(t, p.Remove(bg, "shop"))
	})
}

func TestTheEndOfStartsContextEndsThePolling(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		s.register("shop")
		p := s.unstarted(polling.Config{})
		p.Add("shop")
		ctx, cancel := context.WithCancel(bg)
		require.NoError(t, p.Start(ctx))
		require.Equal(t, polling.Polling, state(t, p, "shop"))
		cancel()
		time.Sleep(10 * time.Second)
		n := s.polls()
		time.Sleep(time.Hour)
		assert.Equal(t, n, s.polls())
		assert.Zero(t, p.Stats().Loops)
		stop(t, p)
	})
}

func TestNothingIsPolledAfterRemoveHasReturned(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		leases := polling.NewMemoryLeases()
		p := s.supervisor(polling.Config{Leases: leases, Owner: "a"})
		defer stop(t, p)
		p.Add("shop")
		synctest.Wait()
		require.NoError(t, p.Remove(bg, "shop", "not there"))
		synctest.Wait() // the server notes a call at its end
		n := s.polls()
		s.ann.Write(bot, "hello")
		_, found := p.Status("shop")
		assert.False(t, found)
		time.Sleep(time.Hour)
		assert.Equal(t, n, s.polls())
		holders, err := leases.Acquire(bg, "b", []string{"shop"}, time.Second)
		require.NoError(t, err)
		assert.Equal(t, []string{"b"}, holders, "the lease was given back")
		require.NoError(t, leases.Release(bg, "b", []string{"shop"}))

		p.Add("shop")
		synctest.Wait()
		assert.Equal(t, 1, s.inbox.count("shop"), "what was written meanwhile comes")
	})
}

func TestATenantThatIsAddedWhileItIsRemovedIsPolledByOneLoop(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		for range 20 {
			p.Add("shop")
			done := make(chan error, 1)
			go func() { done <- p.Remove(bg, "shop") }()
			p.Add("shop")
			require.NoError(t, <-done)
			p.Add("shop")
		}
		synctest.Wait()
		s.ann.Write(bot, "hello")
		assert.Equal(t, polling.Polling, state(t, p, "shop"))
		assert.Equal(t, 1, p.Stats().Loops)
		assert.Zero(t, p.Stats().Conflicts)
		assert.Equal(t, 1, s.inbox.count("shop"))
	})
}

func TestRemoveReturnsAlthoughTheTenantIsAddedAgainMeanwhile(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		s.register("shop")
		slow := &slowLeases{Leases: polling.NewMemoryLeases()}
		p := s.supervisor(polling.Config{Leases: slow})
		defer stop(t, p)
		for _, wait := range []time.Duration{0, time.Second, 3 * time.Second, 10 * time.Second} {
			p.Add("shop")
			time.Sleep(wait) // its lease is asked for, it starts, it is polled
			done := make(chan error, 1)
			go func() { done <- p.Remove(bg, "shop") }()
			synctest.Wait()
			p.Add("shop")
			time.Sleep(time.Minute)
			select {
			case err := <-done:
				require.NoError(t, err)
			default:
				t.Fatal("Remove still waits")
			}
			require.Equal(t, polling.Polling, state(t, p, "shop"))
			require.NoError(t, p.Remove(bg, "shop"))
		}
	})
}

// slowLeases take two seconds.
type slowLeases struct{ polling.Leases }

func (l slowLeases) Acquire(ctx context.Context, owner string, tenants []string, ttl time.Duration) ([]string, error) {
	time.Sleep(2 * time.Second)
	return l.Leases.Acquire(ctx, owner, tenants, ttl)
}

func TestAHandOverToAWebhookLosesNothing(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		p.Add("shop")
		synctest.Wait()
		s.ann.Write(bot, "to the poller")
		synctest.Wait()

		broken := errors.New("no webhook today")
		err := p.HandOver(bg, "shop", func(context.Context) error {
			s.ann.Write(bot, "in between")
			return broken
		})
		require.ErrorIs(t, err, broken)
		synctest.Wait()
		require.Equal(t, 2, s.inbox.count("shop"), "polled again, since the webhook could not be set")

		require.NoError(t, p.HandOver(bg, "shop", func(ctx context.Context) error {
			return s.pool.Do(ctx, "shop", func(ctx context.Context, t *tenant.Tenant) error {
				_, err := t.Bot.SetWebhookWithContext(ctx, "https://example.com/hook", nil)
				return err
			})
		}))
		_, found := p.Status("shop")
		assert.False(t, found)
		assert.Zero(t, bot.Pending(), "what was taken was confirmed before")
		assert.Zero(t, p.Stats().Conflicts)
	})
}

func TestAPanicInAHandOverPollsTheTenantAgain(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		s.register("shop")
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		p.Add("shop")
		assert.Panics(t, func() { _ = p.HandOver(bg, "shop", func(context.Context) error { panic("oops") }) })
		assert.Equal(t, polling.Polling, state(t, p, "shop"))
	})
}

func TestSyncMakesThePolledTenantsThoseOfTheStore(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		for _, id := range []string{"a", "b", "c", "d"} {
			s.register(id)
		}
		_, err := s.manager.Suspend(bg, "d", "unpaid")
		require.NoError(t, err)
		p := s.supervisor(polling.Config{
			Tenants: func(ctx context.Context) iter.Seq2[tenant.Record, error] {
				return s.manager.List(ctx, tenant.Filter{Limit: 2})
			},
		})
		defer stop(t, p)
		synctest.Wait()
		assert.Equal(t, map[string]int{"polling": 3}, p.Stats().Tenants)

		require.NoError(t, s.manager.Remove(bg, "a"))
		_, err = s.manager.Suspend(bg, "b", "unpaid")
		require.NoError(t, err)
		_, err = s.manager.Resume(bg, "d")
		require.NoError(t, err)
		time.Sleep(time.Minute + 10*time.Second)
		assert.Equal(t, map[string]int{"polling": 2}, p.Stats().Tenants)
		assert.Equal(t, polling.Polling, state(t, p, "c"))
		assert.Equal(t, polling.Polling, state(t, p, "d"))
	})
}

// A list of ten thousand takes a while, and what it says of a tenant that was
// registered or moved to a webhook meanwhile is old.
func TestAListThatWasReadBeforeAChangeDoesNotUndoIt(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		for _, id := range []string{"moved", "new", "kept", "gone"} {
			s.register(id)
		}
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		p.Add("moved", "kept", "gone")
		synctest.Wait()
		_, _, err := p.Sync(bg, func(yield func(tenant.Record, error) bool) {
			p.Add("new")
			require.NoError(t, p.HandOver(bg, "moved", func(context.Context) error { return nil }))
			for _, id := range []string{"moved", "kept"} {
				r, err := s.store.Get(bg, id)
				if !yield(r, err) {
					return
				}
			}
		})
		require.NoError(t, err)
		_, polled := p.Status("moved")
		assert.False(t, polled, "it has a webhook by now")
		assert.Equal(t, polling.Polling, state(t, p, "new"))
		assert.Equal(t, polling.Polling, state(t, p, "kept"))
		_, polled = p.Status("gone")
		assert.False(t, polled)

		_, removed, err := p.Sync(bg, func(func(tenant.Record, error) bool) {})
		require.NoError(t, err)
		assert.Equal(t, 2, removed, "the next list decides")
	})
}

func TestAChangeOfARecordIsHeardAtOnce(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		s.register("cafe")
		lists, watches := 0, 0
		p := s.supervisor(polling.Config{
			SyncEvery: time.Hour,
			Tenants: func(ctx context.Context) iter.Seq2[tenant.Record, error] {
				lists++
				return s.manager.List(ctx, tenant.Filter{})
			},
			Watch: func(ctx context.Context, f func(tenant.Change)) error {
				switch watches++; watches {
				case 1:
					return errors.StoreUnavailable
				case 2:
					panic("oops")
				}
				return s.store.Watch(ctx, f)
			},
		})
		defer stop(t, p)
		time.Sleep(10 * time.Minute)
		require.Equal(t, map[string]int{"polling": 2}, p.Stats().Tenants)
		assert.Equal(t, 3, watches)

		s.put("shop", bot.RotateToken())
		time.Sleep(4 * time.Second) // Telegram delays who asks for the same offset again
		assert.Equal(t, polling.Polling, state(t, p, "shop"))
		// The scheduler says whether the poll under way hears of its end from
		// Telegram or from the store.
		assert.LessOrEqual(t, p.Stats().Failures, uint64(1), "the old token is not tried again")
		_, err := s.manager.Suspend(bg, "shop", "unpaid")
		require.NoError(t, err)
		assert.Equal(t, polling.Stopped, state(t, p, "shop"))
		_, err = s.manager.Resume(bg, "shop")
		require.NoError(t, err)
		time.Sleep(4 * time.Second)
		assert.Equal(t, polling.Polling, state(t, p, "shop"))
		require.NoError(t, s.manager.Remove(bg, "cafe"))
		assert.Equal(t, polling.Stopped, state(t, p, "cafe"))

		before := lists
		for i := range 100 {
			s.register(fmt.Sprint("new", i))
		}
		time.Sleep(3 * time.Minute)
		assert.Equal(t, polling.Polling, state(t, p, "new99"))
		assert.LessOrEqual(t, lists-before, 2, "not a list for each of them")
	})
}

func TestAStoreThatHangsIsAFailureOfThatTenant(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		s.register("shop")
		hang := &hangingRecords{Records: s.store}
		hang.on.Store(true)
		p, err := polling.New(s.session, hang, s.inbox, polling.Config{})
		require.NoError(t, err)
		require.NoError(t, p.Start(bg))
		defer stop(t, p)
		p.Add("shop")
		time.Sleep(31 * time.Second)
		require.Equal(t, polling.Failing, state(t, p, "shop"))
		hang.on.Store(false)
		time.Sleep(time.Minute)
		require.Equal(t, polling.Polling, state(t, p, "shop"))
	})
}

// hangingRecords answer when the context ends.
type hangingRecords struct {
	polling.Records
	on atomic.Bool
}

func (h *hangingRecords) Get(ctx context.Context, id string) (tenant.Record, error) {
	if h.on.Load() {
		<-ctx.Done()
		return tenant.Record{}, ctx.Err()
	}
	return h.Records.Get(ctx, id)
}

// Somebody says that it is to be polled before it is there, and nothing else
// tells when it is than the list.
func TestATenantThatWasAddedBeforeItWasRegisteredIsPolledOnceItIsListed(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		p := s.supervisor(polling.Config{Tenants: func(ctx context.Context) iter.Seq2[tenant.Record, error] {
			return s.manager.List(ctx, tenant.Filter{})
		}})
		defer stop(t, p)
		time.Sleep(time.Second) // the first list was read
		p.Add("shop")
		require.Equal(t, polling.Stopped, state(t, p, "shop"))
		s.ann.Write(s.register("shop"), "hello")
		time.Sleep(time.Minute)
		assert.Equal(t, polling.Polling, state(t, p, "shop"))
		assert.Equal(t, 1, s.inbox.count("shop"))
	})
}

func TestAListThatBreaksOffRemovesNobody(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		for _, id := range []string{"a", "b"} {
			s.register(id)
		}
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		p.Add("a")
		added, removed, err := p.Sync(bg, func(yield func(tenant.Record, error) bool) {
			r, _ := s.store.Get(bg, "b")
			_ = yield(r, nil) && yield(tenant.Record{}, errors.Internal)
		})
		require.ErrorIs(t, err, errors.Internal)
		assert.Equal(t, 1, added)
		assert.Zero(t, removed)
		assert.Equal(t, polling.Polling, state(t, p, "a"))
		assert.Equal(t, polling.Polling, state(t, p, "b"))
	})
}

func TestARotatedTokenIsUsedAtOnce(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		p.Add("shop")
		require.Equal(t, polling.Polling, state(t, p, "shop"))

		// The new token is known before the old one is refused, and after.
		s.put("shop", bot.RotateToken())
		synctest.Wait()
		bot.RotateToken()
		require.Equal(t, polling.Rejected, state(t, p, "shop"))
		st, _ := p.Status("shop")
		assert.Equal(t, errors.Unauthorized, st.Kind)
		assert.False(t, st.Healthy())

		s.put("shop", bot.Token())
		p.Refresh("shop")
		time.Sleep(3 * time.Second) // Telegram delays who asks for the same offset again
		require.Equal(t, polling.Polling, state(t, p, "shop"))
		s.ann.Write(bot, "hello")
		synctest.Wait()
		assert.Equal(t, 1, s.inbox.count("shop"))
	})
}

// Whichever tells of the end of the old one, Telegram or the store.
func TestATokenThatIsRefusedAndReplacedIsSoonKnownToWork(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		r := &readings{Store: s.store, reads: make(map[string]int)}
		r.failing(func(string) error { time.Sleep(time.Millisecond); return nil }) // the new token is stored by then
		p, err := polling.New(s.session, r, s.inbox, polling.Config{})
		require.NoError(t, err)
		require.NoError(t, p.Start(bg))
		defer stop(t, p)
		bot := s.register("shop")
		p.Add("shop")
		time.Sleep(time.Minute)
		s.put("shop", bot.RotateToken()) // nobody tells of it but the 401
		time.Sleep(4 * time.Second)      // Telegram delays who asks for the same offset again
		assert.Equal(t, polling.Polling, state(t, p, "shop"))
		assert.EqualValues(t, 1, p.Stats().Failures)
	})
}

func TestRefreshStopsASuspendedTenantAtOnce(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		s.register("shop")
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		p.Add("shop", "nobody")
		require.Equal(t, polling.Polling, state(t, p, "shop"))
		require.Equal(t, polling.Stopped, state(t, p, "nobody"))
		_, err := s.manager.Suspend(bg, "shop", "unpaid")
		require.NoError(t, err)
		p.Refresh("shop")
		require.Equal(t, polling.Stopped, state(t, p, "shop"))
		st, _ := p.Status("shop")
		assert.Equal(t, errors.Suspended, st.Kind)
		assert.Equal(t, "the tenant is suspended", st.Reason)
		_, err = s.manager.Resume(bg, "shop")
		require.NoError(t, err)
		p.Add("shop")
		time.Sleep(3 * time.Second) // Telegram delays who asks for the same offset again
		require.Equal(t, polling.Polling, state(t, p, "shop"))
	})
}

func TestTenThousandTenantsDoNotAllStartAtOnce(t *testing.T) {
	virtual(t, bottest.Config{Limits: bottest.NoLimits(), KeepCalls: -1}, func(t *testing.T, s *service) {
		const tenants = 300
		for i := range tenants {
			s.register(fmt.Sprint(i))
		}
		defer s.srv.Fail(bottest.Fault{Method: "getUpdates", Do: bottest.Latency(time.Second)})()
		p := s.unstarted(polling.Config{Starting: 10})
		for i := range tenants {
			p.Add(fmt.Sprint(i))
		}
		require.NoError(t, p.Start(bg))
		defer stop(t, p)
		for range tenants / 10 {
			synctest.Wait()
			assert.LessOrEqual(t, p.Stats().Tenants["starting"], 10)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		assert.Equal(t, tenants, p.Stats().Tenants["polling"], "and all have started after as long as that takes")
	})
}

func TestBotsThatMayNotStartYetKeepOthersWaitingWithoutCalls(t *testing.T) {
	limits := bottest.Limits{ColdPerMinute: 20, ColdPerHour: 600}
	virtual(t, bottest.Config{Limits: limits}, func(t *testing.T, s *service) {
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		for i := range 100 {
			s.register(fmt.Sprint(i))
			p.Add(fmt.Sprint(i))
		}
		time.Sleep(6 * time.Minute)
		stats := p.Stats()
		assert.Equal(t, 100, stats.Tenants["polling"])
		assert.Less(t, stats.Failures, uint64(300), "refused: %d", stats.Failures)
	})
}

// With a guard nobody is refused: bots start as fast as Telegram
// loads them.
func TestBotsStartWithinTheGuardsColdStarts(t *testing.T) {
	virtual(t, bottest.Config{Limits: bottest.RealLimits()}, func(t *testing.T, s *service) {
		guard, err := session.NewGuard(session.GuardConfig{})
		require.NoError(t, err)
		defer guard.Close()
		require.NoError(t, s.session.Close(bg))
		s.session, err = session.New(session.Config{
			Transport: s.srv.Transport(), Guard: guard,
		})
		require.NoError(t, err)
		s.pool, err = tenant.NewPool(s.session, s.store, tenant.PoolConfig{})
		require.NoError(t, err)
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		const tenants = 300
		for i := range tenants {
			s.register(fmt.Sprint(i))
			p.Add(fmt.Sprint(i))
		}
		for range tenants / 20 {
			time.Sleep(time.Minute)
			assert.LessOrEqual(t, p.Stats().Loops, p.Stats().Tenants["polling"]+32, "the others are no goroutines")
		}
		time.Sleep(2 * time.Minute)
		assert.Equal(t, tenants, p.Stats().Tenants["polling"])
		for _, c := range s.srv.Calls() {
			require.NotEqual(t, 429, c.Status)
		}
	})
}

func TestMaxTenantsLeavesTheOthersToOthers(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		leases := polling.NewMemoryLeases()
		var all []*polling.Supervisor
		for range 3 {
			p := s.supervisor(polling.Config{Leases: leases, MaxTenants: 4})
			defer stop(t, p)
			all = append(all, p)
		}
		for i := range 10 {
			s.register(fmt.Sprint(i))
			for _, p := range all {
				p.Add(fmt.Sprint(i))
			}
		}
		time.Sleep(5 * time.Minute)
		loops := 0
		for _, p := range all {
			assert.LessOrEqual(t, p.Stats().Loops, 4)
			loops += p.Stats().Loops
		}
		assert.Equal(t, 10, loops)
	})
}

func TestAChangeIsToldInOrderAndAPanicHarmsNobody(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		var seen []polling.State
		var p *polling.Supervisor
		p = s.unstarted(polling.Config{OnChange: func(_ context.Context, st polling.Status) {
			seen = append(seen, st.State)
			p.Stats() // no deadlock
			panic("oops")
		}})
		p.Add("shop")
		require.NoError(t, p.Start(bg))
		synctest.Wait()
		bot.Revoke()
		synctest.Wait()
		stop(t, p)
		assert.Equal(t, []polling.State{polling.Starting, polling.Polling, polling.Rejected}, seen)
	})
}

func TestARevokedTokenIsQuarantinedByTheManager(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		p := s.supervisor(polling.Config{OnChange: polling.Quarantine(s.pool)})
		defer stop(t, p)
		p.Add("shop")
		synctest.Wait()
		bot.Revoke()
		synctest.Wait()
		r, err := s.store.Get(bg, "shop")
		require.NoError(t, err)
		assert.Equal(t, tenant.Quarantined, r.Status)
	})
}

func TestAnInboxThatEndsItsGoroutineIsAFailureAndNoEnd(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		n := 0
		s.inbox.failing(func([]inbox.Update) ([]inbox.Outcome, error, bool) {
			if n++; n < 3 {
				runtime.Goexit()
			}
			return nil, nil, false
		})
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		s.ann.Write(bot, "hello")
		p.Add("shop")
		synctest.Wait()
		assert.Zero(t, p.Stats().Loops)
		time.Sleep(5 * time.Minute)
		require.Equal(t, polling.Polling, state(t, p, "shop"))
		assert.Equal(t, 1, s.inbox.count("shop"))
	})
}

func TestAPanicOfTheInboxIsAFailureAndNoEnd(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		n := 0
		s.inbox.failing(func([]inbox.Update) ([]inbox.Outcome, error, bool) {
			if n++; n < 3 {
				panic("oops")
			}
			return nil, nil, false
		})
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		s.ann.Write(bot, "hello")
		p.Add("shop")
		require.Equal(t, polling.Failing, state(t, p, "shop"))
		st, _ := p.Status("shop")
		require.Contains(t, st.Reason, "panic in Inbox")
		time.Sleep(time.Minute)
		require.Equal(t, polling.Polling, state(t, p, "shop"))
		assert.Equal(t, 1, s.inbox.count("shop"))
	})
}

// Telegram answers the last getUpdates late where it repeats the offset of the
// one that was broken off. That tells nothing of the bot.
func TestStoppingIsNoFailureOfABot(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		var kinds []errors.Kind
		var err error
		other := s.session
		s.session, err = session.New(session.Config{Transport: s.srv.Transport(), Middleware: []session.Middleware{
			session.Observe(observer(func(o session.Observation) { kinds = append(kinds, o.Kind) })),
		}})
		require.NoError(t, err)
		defer other.Close(bg)
		bot := s.register("shop")
		p := s.supervisor(polling.Config{})
		p.Add("shop")
		time.Sleep(time.Second)
		s.ann.Write(bot, "hello")
		time.Sleep(time.Second) // the next poll waits
		require.NoError(t, p.Stop(bg))
		assert.Contains(t, kinds, errors.Canceled)
		for _, k := range kinds {
			assert.Contains(t, []errors.Kind{errors.None, errors.Canceled}, k)
		}
		assert.Zero(t, p.Stats().Failures)
		assert.Zero(t, bot.Pending())
	})
}

type observer func(session.Observation)

func (f observer) Observe(_ context.Context, o session.Observation) { f(o) }
