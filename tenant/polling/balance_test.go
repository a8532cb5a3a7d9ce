package polling_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant/polling"
)

// fleet is some processes that poll the same tenants.
type fleet struct {
	*service
	tenants int
	leases  *polling.MemoryLeases
	live    map[string]*member
	made    int
	polled  []time.Time // when each tenant was last seen to be polled
	gap     time.Duration
	lost    uint64 // by processes that have ended
	refused uint64
	given   uint64
}

type member struct {
	*polling.Supervisor
	sight *network // of the leases
	wire  *cable
	own   *service
}

func balanced(t *testing.T, tenants int, test func(t *testing.T, f *fleet)) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{Limits: bottest.NoLimits(), KeepCalls: -1})
		defer srv.Close()
		s := newService(t, srv, http.DefaultTransport)
		defer s.close()
		f := &fleet{
			service: s, tenants: tenants, leases: polling.NewMemoryLeases(), live: make(map[string]*member),
			polled: make([]time.Time, tenants),
		}
		for i := range tenants {
			f.register(fmt.Sprint(i))
			f.polled[i] = time.Now()
		}
		defer func() {
			for name := range f.live {
				f.end(name)
			}
		}()
		test(t, f)
	})
}

// join starts a process.
func (f *fleet) join(cfg polling.Config) string {
	f.made++
	name := fmt.Sprint("p", f.made)
	m := &member{
		sight: &network{Leases: f.leases},
		wire:  &cable{RoundTripper: bottest.HandlerTransport(f.srv.Handler())},
	}
	m.own = newService(f.t, f.srv, m.wire)
	m.own.store, m.own.inbox = f.store, f.inbox
	cfg.Leases, cfg.Owner = m.sight, name
	m.Supervisor = m.own.supervisor(cfg)
	for i := range f.tenants {
		m.Add(fmt.Sprint(i))
	}
	f.live[name] = m
	return name
}

// end stops a process.
func (f *fleet) end(name string) {
	m := f.live[name]
	delete(f.live, name)
	stop(f.t, m.Supervisor)
	m.own.close()
	f.count(m)
}

func (f *fleet) count(m *member) {
	stats := m.Stats()
	f.lost += stats.Lost
	f.refused += stats.Conflicts
	f.given += stats.Given
}

// crash ends a process without a word to the others.
func (f *fleet) crash(name string) {
	m := f.live[name]
	m.sight.set(true, false, false)
	m.wire.down.Store(true)
	f.end(name)
}

// pass lets time pass, and measures for how long a tenant is polled by nobody.
func (f *fleet) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
		synctest.Wait()
		now := time.Now()
		for _, m := range f.live {
			for _, st := range m.Statuses() {
				if st.State == polling.Polling {
					var i int
					_, _ = fmt.Sscan(st.Tenant, &i)
					f.polled[i] = now
				}
			}
		}
		for _, at := range f.polled {
			f.gap = max(f.gap, now.Sub(at))
		}
	}
}

// loops are how many each process polls.
func (f *fleet) loops() (all []int) {
	synctest.Wait()
	for _, m := range f.live {
		all = append(all, m.Stats().Loops)
	}
	return all
}

// even requires that all are polled, and no process has much more than its
// share.
func (f *fleet) even(why string) {
	f.t.Helper()
	loops := f.loops()
	sum := 0
	share := (f.tenants + len(loops) - 1) / len(loops)
	for _, n := range loops {
		sum += n
		require.LessOrEqual(f.t, n, share+1+share/20, "%s: %v", why, loops)
	}
	require.Equal(f.t, f.tenants, sum, "%s: %v", why, loops)
}

func (f *fleet) conflicts() (n uint64) {
	n = f.refused
	for _, m := range f.live {
		n += m.Stats().Conflicts
	}
	return n
}

func (f *fleet) gaveAway() (n uint64) {
	n = f.given
	for _, m := range f.live {
		n += m.Stats().Given
	}
	return n
}

func size(t *testing.T) int {
	if raceEnabled || testing.Short() {
		return 100
	}
	return 1000
}

func TestProcessesShareTheTenantsEvenlyThoughTheyComeAndGo(t *testing.T) {
	balanced(t, size(t), func(t *testing.T, f *fleet) {
		f.join(polling.Config{})
		f.pass(time.Minute)
		f.even("one has all")

		second := f.join(polling.Config{})
		f.pass(5 * time.Minute)
		f.even("a second gets a half")
		moved := f.gaveAway()
		assert.InDelta(t, f.tenants/2, moved, float64(f.tenants)/20, "and no more go than have to")

		third := f.join(polling.Config{})
		f.pass(5 * time.Minute)
		f.even("a third gets a third")
		assert.Less(t, f.gap, 15*time.Second, "a hand-over is soon over")
		assert.Less(t, f.gaveAway()-moved, uint64(f.tenants*2/5))

		moved = f.gaveAway()
		f.gap = 0
		f.pass(20 * time.Minute)
		f.even("it stays so")
		assert.Equal(t, moved, f.gaveAway(), "none go back and forth")
		assert.LessOrEqual(t, f.gap, time.Second)

		f.end(second)
		f.pass(time.Minute)
		f.even("those of one that has ended are shared by the others")
		assert.Less(t, f.gap, 15*time.Second)

		assert.Zero(t, f.conflicts())
		f.crash(third)
		f.gap = 0
		f.pass(2 * time.Minute)
		f.even("and those of one that has died")
		assert.Less(t, f.gap, 40*time.Second, "after as long as a lease lasts")

		for range 3 {
			f.join(polling.Config{})
		}
		f.pass(6 * time.Minute)
		f.even("four")
		assert.Zero(t, f.conflicts(), "nobody was ever in another's way")
	})
}

func TestProcessesThatStartTogetherEndUpEven(t *testing.T) {
	balanced(t, size(t), func(t *testing.T, f *fleet) {
		for range 5 {
			f.join(polling.Config{})
		}
		f.pass(4 * time.Minute)
		f.even("five")
		assert.Zero(t, f.conflicts())
		assert.Less(t, f.gap, 15*time.Second)
	})
}

// Tenants come and go all the time; those who poll the others keep them.
func TestTenantsThatComeAndGoMoveNoOthers(t *testing.T) {
	balanced(t, 200, func(t *testing.T, f *fleet) {
		for range 3 {
			f.join(polling.Config{})
		}
		f.pass(3 * time.Minute)
		before, moved := f.gaveAway(), uint64(0)
		for i := range 100 {
			if i == 20 { // they have gone and come once
				moved = f.gaveAway()
			}
			id := fmt.Sprint(i % 10)
			for _, m := range f.live {
				if i/10%2 == 0 {
					require.NoError(t, m.Remove(bg, id))
				} else {
					m.Add(id)
				}
			}
			time.Sleep(10 * time.Second)
		}
		// One that had as much more than its share as may be has too much once when
		// there are fewer tenants: 71 of 200 are 7 more than a third of 190.
		assert.LessOrEqual(t, moved, before+7)
		assert.Equal(t, moved, f.gaveAway(), "and none when they do so again")
		f.pass(time.Minute)
		f.even("the end")
		assert.Zero(t, f.conflicts())
	})
}

// A process that can take fewer, or none, does not leave its share to nobody.
func TestAProcessThatWantsFewerLeavesTheOthersMore(t *testing.T) {
	balanced(t, 100, func(t *testing.T, f *fleet) {
		f.join(polling.Config{})
		f.pass(time.Minute)
		small := f.join(polling.Config{MaxTenants: 10})
		f.join(polling.Config{})
		f.pass(5 * time.Minute)
		loops := slices.Sorted(slices.Values(f.loops()))
		assert.Equal(t, 10, loops[0])
		assert.Equal(t, 10, f.live[small].Stats().Loops)
		assert.Less(t, loops[2], 50)
		assert.Equal(t, 100, loops[0]+loops[1]+loops[2])
	})
}

// One that has no network must not have tenants given to it again and again.
func TestAProcessWithoutANetworkIsNotGivenTenants(t *testing.T) {
	balanced(t, 40, func(t *testing.T, f *fleet) {
		cut := f.join(polling.Config{})
		whole := f.join(polling.Config{})
		f.pass(3 * time.Minute)
		f.even("both")
		f.live[cut].wire.down.Store(true)
		f.pass(10 * time.Minute)
		assert.GreaterOrEqual(t, f.live[whole].Stats().Loops, 38)
		before := f.live[cut].Stats().Failures
		var out time.Duration
		for range 6 {
			f.gap = 0
			f.pass(10 * time.Minute)
			out = max(out, f.gap)
			assert.GreaterOrEqual(t, f.live[whole].Stats().Loops, 38)
		}
		tried := f.live[cut].Stats().Failures - before
		t.Logf("%d tried in 1 h, and %v without polls", tried, out)
		assert.Positive(t, tried)
		assert.Less(t, tried, uint64(40))
		assert.Less(t, out, 15*time.Second, "and not for long")
		f.live[cut].wire.down.Store(false)
		f.pass(20 * time.Minute)
		f.even("it has a network again")
		assert.Zero(t, f.conflicts())
	})
}

// A process that is there and takes nothing, be it that it has another list,
// keeps nobody from polling what it should.
func TestWhatAProcessDoesNotTakeIsPolledByOthers(t *testing.T) {
	balanced(t, 50, func(t *testing.T, f *fleet) {
		beats := func() {
			for range 600 {
				_, err := f.leases.Heartbeat(bg, "idle", 50, 30*time.Second)
				require.NoError(t, err)
				time.Sleep(time.Second)
			}
		}
		go beats()
		name := f.join(polling.Config{})
		f.pass(3 * time.Minute)
		for range 10 { // one may be on offer just now
			if f.live[name].Stats().Loops == 50 {
				break
			}
			time.Sleep(time.Second)
		}
		assert.Equal(t, 50, f.live[name].Stats().Loops)
		f.gap = 0
		f.pass(6 * time.Minute)
		assert.Less(t, f.gap, 10*time.Second, "what is offered is polled on soon")
		time.Sleep(2 * time.Minute)
		assert.Equal(t, map[string]int{"polling": 50}, f.live[name].Stats().Tenants)
	})
}

func TestTheEndOfAContextIsSeenByAProcessThatHasMuchToStart(t *testing.T) {
	virtual(t, bottest.Config{Limits: bottest.NoLimits()}, func(t *testing.T, s *service) {
		leases := &network{Leases: slowLeases{polling.NewMemoryLeases()}}
		p := s.unstarted(polling.Config{Leases: leases})
		for i := range 500 {
			s.register(fmt.Sprint(i))
			p.Add(fmt.Sprint(i))
		}
		ctx, cancel := context.WithCancel(bg)
		require.NoError(t, p.Start(ctx))
		time.Sleep(5 * time.Second)
		cancel()
		time.Sleep(30 * time.Second)
		assert.Zero(t, p.Stats().Loops)
		polls, asked := s.polls(), leases.count()
		time.Sleep(time.Minute)
		assert.Equal(t, polls, s.polls())
		assert.Equal(t, asked, leases.count(), "nobody asks for leases any more")
		require.ElementsMatch(t, []string{"waiting"}, slices.Collect(maps.Keys(p.Stats().Tenants)))
		stop(t, p)
	})
}
