package polling_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant/polling"
	"github.com/tgfleet/tgfleet/tenant/polling/pollingtest"
)

func TestMemoryLeases(t *testing.T) {
	pollingtest.TestLeases(t, pollingtest.Harness{
		Open:  func(*testing.T) polling.Leases { return polling.NewMemoryLeases() },
		Brief: 10 * time.Millisecond,
	})
}

// network is leases that a process may lose sight of.
type network struct {
	polling.Leases
	mu      sync.Mutex
	down    bool
	hang    bool
	panics  bool
	deaf    deaf
	beating bool // heartbeats come through though nothing else does
	calls   int
	beats   int // calls of Heartbeat
	asked   int // tenants of calls of Acquire
}

// deaf is what becomes of heartbeats while leases work.
type deaf int

const (
	hears deaf = iota
	fails
	hangs
	unheard // others are told, but not this process
)

func (n *network) deafen(d deaf) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.deaf = d
}

// since returns how often heartbeats and leases were asked for since it was
// last called.
func (n *network) since() (beats, asked int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	beats, asked = n.beats, n.asked
	n.beats, n.asked = 0, 0
	return beats, asked
}

func (n *network) set(down, hang, panics bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down, n.hang, n.panics = down, hang, panics
}

func (n *network) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls
}

func (n *network) pass(ctx context.Context) error {
	n.mu.Lock()
	down, hang, panics := n.down, n.hang, n.panics
	n.calls++
	n.mu.Unlock()
	switch {
	case panics:
		panic("oops")
	case hang:
		<-ctx.Done()
		return ctx.Err()
	case down:
		return errors.ConnectionFailed
	}
	return nil
}

func (n *network) Acquire(ctx context.Context, owner string, tenants []string, ttl time.Duration) ([]string, error) {
	if err := n.pass(ctx); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.asked += len(tenants)
	n.mu.Unlock()
	return n.Leases.Acquire(ctx, owner, tenants, ttl)
}

func (n *network) Release(ctx context.Context, owner string, tenants []string) error {
	if err := n.pass(ctx); err != nil {
		return err
	}
	return n.Leases.Release(ctx, owner, tenants)
}

func (n *network) Heartbeat(ctx context.Context, owner string, want int, ttl time.Duration) (map[string]int, error) {
	n.mu.Lock()
	n.beats++
	deaf, beating := n.deaf, n.beating
	n.mu.Unlock()
	if err := n.pass(ctx); err != nil && !beating {
		return nil, err
	}
	switch deaf {
	case fails:
		return nil, errors.StoreUnavailable
	case hangs:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	wants, err := n.Leases.Heartbeat(ctx, owner, want, ttl)
	if deaf == unheard && ttl > 0 {
		return nil, errors.StoreUnavailable
	}
	return wants, err
}

// replicas starts two supervisors of the same tenants.
func (s *service) replicas(tenants int) (a, b *polling.Supervisor, ofA, ofB *network) {
	leases := polling.NewMemoryLeases()
	ofA, ofB = &network{Leases: leases}, &network{Leases: leases}
	a = s.supervisor(polling.Config{Leases: ofA, Owner: "a"})
	b = s.supervisor(polling.Config{Leases: ofB, Owner: "b"})
	for i := range tenants {
		id := fmt.Sprint(i)
		s.register(id)
		a.Add(id)
		b.Add(id)
	}
	return a, b, ofA, ofB
}

func TestATenantIsPolledByOneProcess(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		a, b, _, _ := s.replicas(50)
		defer stop(t, a)
		defer stop(t, b)
		time.Sleep(time.Hour)
		assert.Equal(t, 50, a.Stats().Loops+b.Stats().Loops)
		assert.Equal(t, 50, a.Stats().Tenants["standby"]+b.Stats().Tenants["standby"])
		assert.Zero(t, a.Stats().Conflicts+b.Stats().Conflicts)
		for _, st := range a.Statuses() {
			require.True(t, st.Healthy())
			if st.State == polling.Standby {
				require.Equal(t, "b", st.Holder)
			} else {
				require.Equal(t, "a", st.Holder)
			}
		}
	})
}

func TestAProcessThatStopsHandsOverAtOnce(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		a, b, _, _ := s.replicas(20)
		defer stop(t, b)
		time.Sleep(time.Minute)
		stop(t, a)
		time.Sleep(50 * time.Second) // those who stand by look within one and a half TTL
		assert.Equal(t, 20, b.Stats().Loops)
		assert.Zero(t, b.Stats().Conflicts)
	})
}

func TestALeaseThatCanNotBeExtendedEndsTheLoopBeforeAnotherBegins(t *testing.T) {
	for name, cut := range map[string]func(*network){
		"the store is down": func(n *network) { n.set(true, false, false) },
		"the store hangs":   func(n *network) { n.set(false, true, false) },
		"the driver panics": func(n *network) { n.set(false, false, true) },
		"it comes and it goes": func(n *network) {
			for range 20 {
				n.set(true, false, false)
				time.Sleep(25 * time.Second)
				n.set(false, false, false)
				time.Sleep(time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
				a, b, ofA, _ := s.replicas(20)
				defer stop(t, a)
				defer stop(t, b)
				time.Sleep(time.Minute)
				before := a.Stats().Loops
				cut(ofA)
				for range 30 {
					time.Sleep(3 * time.Second)
					s.ann.Write(s.bot("3"), "hello")
				}
				assert.Zero(t, a.Stats().Conflicts+b.Stats().Conflicts, "never two at a time")
				if before > 0 && name != "it comes and it goes" {
					assert.Equal(t, 20, b.Stats().Loops)
					assert.Zero(t, a.Stats().Loops)
					assert.EqualValues(t, before, a.Stats().Lost)
				}
				assert.Less(t, ofA.count(), 2000)
				for _, st := range a.Statuses() {
					if st.State == polling.Waiting {
						assert.False(t, st.Healthy(), "nobody knows")
						assert.NotEmpty(t, st.Reason)
					}
				}
				ofA.set(false, false, false)
				time.Sleep(3 * time.Minute) // for its share to come back
				assert.Equal(t, 20, a.Stats().Loops+b.Stats().Loops)
				assert.Equal(t, 30, s.inbox.count("3"))
			})
		})
	}
}

// A machine that was paused wakes with a clock that has not noticed: it still
// believes in its leases, and is told otherwise by a 409.
func TestAConflictHasTheLeaseLookedAtAtOnce(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		leases := polling.NewMemoryLeases()
		s.register("shop")
		p := s.supervisor(polling.Config{Leases: leases, Owner: "a", LeaseTTL: 10 * time.Minute})
		defer stop(t, p)
		p.Add("shop")
		time.Sleep(time.Minute)
		require.NoError(t, leases.Release(bg, "a", []string{"shop"}))
		_, err := leases.Acquire(bg, "b", []string{"shop"}, time.Hour)
		require.NoError(t, err)
		go call(t, s, s.bot("shop"), "getUpdates", map[string]any{"timeout": int64(1)})
		time.Sleep(time.Second)
		require.Equal(t, polling.Standby, state(t, p, "shop"))
		st, _ := p.Status("shop")
		assert.Equal(t, "b", st.Holder)
		assert.True(t, st.Healthy())
		assert.EqualValues(t, 1, p.Stats().Conflicts)
	})
}

// An outage of the network here, and only here.
func TestAProcessWithoutANetworkYieldsToOneThatHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{})
		defer srv.Close()
		wire := &cable{RoundTripper: srv.Transport()}
		cut, whole := newService(t, srv, wire), newService(t, srv, srv.Transport())
		defer cut.close()
		defer whole.close()
		whole.store, whole.inbox = cut.store, cut.inbox
		leases := polling.NewMemoryLeases()
		a := cut.supervisor(polling.Config{Leases: leases, Owner: "a"})
		defer stop(t, a)
		for i := range 10 {
			cut.register(fmt.Sprint(i))
			a.Add(fmt.Sprint(i))
		}
		time.Sleep(time.Minute)
		require.Equal(t, 10, a.Stats().Loops)
		b := whole.supervisor(polling.Config{Leases: leases, Owner: "b"})
		defer stop(t, b)
		for i := range 10 {
			b.Add(fmt.Sprint(i))
		}
		time.Sleep(time.Minute)
		wire.down.Store(true)
		for i := range 10 {
			cut.ann.Write(cut.bot(fmt.Sprint(i)), "hello")
		}
		time.Sleep(6 * time.Minute)
		assert.Equal(t, 10, b.Stats().Loops)
		for i := range 10 {
			assert.Equal(t, 1, cut.inbox.count(fmt.Sprint(i)))
		}
	})
}

// picky refuses a call with a name that it does not take, as databases do.
type picky struct{ polling.Leases }

func (p picky) Acquire(ctx context.Context, owner string, tenants []string, ttl time.Duration) ([]string, error) {
	if slices.Contains(tenants, "bad\x00name") {
		return nil, &errors.Error{Kind: errors.BadRequest, Op: "acquire leases"}
	}
	return p.Leases.Acquire(ctx, owner, tenants, ttl)
}

func TestANameThatTheLeasesRefuseKeepsNoOtherFromBeingPolled(t *testing.T) {
	virtual(t, bottest.Config{Limits: bottest.NoLimits()}, func(t *testing.T, s *service) {
		p := s.supervisor(polling.Config{Leases: picky{polling.NewMemoryLeases()}})
		defer stop(t, p)
		p.Add("bad\x00name")
		for i := range 100 {
			s.register(fmt.Sprint(i))
			p.Add(fmt.Sprint(i))
		}
		time.Sleep(time.Minute)
		assert.Equal(t, map[string]int{"polling": 100, "stopped": 1}, p.Stats().Tenants)
		st, _ := p.Status("bad\x00name")
		assert.Equal(t, errors.BadRequest, st.Kind)
	})
}

func TestLeasesThatCanNotBeReachedAreNotAskedForWithoutPause(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		n := &network{Leases: polling.NewMemoryLeases()}
		n.set(true, false, false)
		p := s.supervisor(polling.Config{Leases: n})
		defer stop(t, p)
		for i := range 1000 {
			p.Add(fmt.Sprint(i))
		}
		time.Sleep(time.Hour)
		assert.Less(t, n.count(), 3600/10)
		st, _ := p.Status("7")
		assert.Equal(t, polling.Waiting, st.State)
		n.set(false, false, false)
		time.Sleep(time.Minute)
		assert.Equal(t, 1000, p.Stats().Tenants["stopped"], "there are no such tenants")
	})
}
