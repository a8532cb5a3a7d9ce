package polling_test

import (
	"context"
	"flag"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
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
	"github.com/tgfleet/tgfleet/tenant/polling"
)

var whole = flag.Bool("whole", false, "simulate 1,000 tenants for 24 h, which takes two minutes")

// A day of a fleet that polls with two processes, in which most things go
// wrong that can: revoked tokens, networks that are cut, stores and processes
// that go away. A thousand tenants for a day are 1.7 million calls; without
// -whole, there are fewer tenants in a day, and less time for a thousand.
func TestADayOfAThousandTenantsAndTwoReplicas(t *testing.T) {
	for _, test := range []struct {
		name    string
		tenants int
		span    time.Duration
		raced   time.Duration // with the race detector
		whole   bool
	}{
		{"a hundred tenants in a day", 100, 24 * time.Hour, 2 * time.Hour, false},
		{"a thousand tenants in an hour", 1000, time.Hour, 20 * time.Minute, false},
		{"a thousand tenants in a day", 1000, 24 * time.Hour, 4 * time.Hour, true},
	} {
		if test.whole != *whole {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			if raceEnabled {
				test.tenants, test.span = max(100, test.tenants/5), test.raced
			}
			// The heap is small and its garbage is much.
			defer debug.SetGCPercent(debug.SetGCPercent(400))
			synctest.Test(t, func(t *testing.T) {
				d := newDay(t, test.tenants, test.span)
				defer d.srv.Close()
				defer d.end()
				d.run()
				d.check()
			})
		})
	}
}

// day is the simulation.
type day struct {
	*service // of the first replica, whose store and inbox all share
	t        *testing.T
	tenants  int
	span     time.Duration
	began    time.Time
	rand     *rand.Rand
	replicas []*replica
	bots     []*bottest.Bot
	written  []int
	revoked  map[int]time.Time
	leases   *polling.MemoryLeases

	mu        sync.Mutex
	calls     [][]uint8     // by tenant and minute
	conflicts [][]time.Time // by tenant
	unflaky   func()
	late      map[int]int    // calls of revoked bots, since then
	total     map[string]int // calls by outcome
	last      [][]outcome    // by tenant, the latest calls
	lost      []uint64       // leases that another process took, each time
}

// outcome is what became of a call.
type outcome struct {
	replica    string
	start, end time.Time
	kind       errors.Kind
}

// remembered is how many calls of a tenant are told of where it is not as it
// should be.
const remembered = 12

// replica is one process.
type replica struct {
	name    string
	cable   *cable
	sight   *network // of the leases
	service *service
	polling *polling.Supervisor
}

const dayTTL = 30 * time.Second

func newDay(t *testing.T, tenants int, span time.Duration) *day {
	srv := bottest.New(bottest.Config{KeepCalls: -1, KeepMessages: 1, Seed: 7})
	d := &day{
		t: t, tenants: tenants, span: span, began: time.Now(), rand: rand.New(rand.NewPCG(7, 7)),
		bots: make([]*bottest.Bot, tenants), written: make([]int, tenants), revoked: make(map[int]time.Time),
		leases: polling.NewMemoryLeases(), calls: make([][]uint8, tenants), conflicts: make([][]time.Time, tenants),
		late: make(map[int]int), total: make(map[string]int), last: make([][]outcome, tenants),
	}
	d.service = newService(t, srv, srv.Transport())
	for i := range tenants {
		d.bots[i] = d.register(strconv.Itoa(i))
		d.calls[i] = make([]uint8, int(span/time.Minute)+60)
	}
	for _, name := range []string{"a", "b"} {
		d.replicas = append(d.replicas, d.newReplica(name))
	}
	return d
}

func (d *day) newReplica(name string) *replica {
	// In memory and without connections, which is what makes a day affordable.
	r := &replica{
		name:  name,
		cable: &cable{RoundTripper: bottest.HandlerTransport(d.srv.Handler())},
		sight: &network{Leases: d.leases},
	}
	r.service = newService(d.t, d.srv, r.cable)
	require.NoError(d.t, r.service.session.Close(bg))
	var err error
	r.service.session, err = session.New(session.Config{
		Transport: r.cable, Middleware: []session.Middleware{session.Observe(observer(func(o session.Observation) { d.observe(name, o) }))},
	})
	require.NoError(d.t, err)
	r.service.store, r.service.inbox = d.store, d.inbox
	d.start(r)
	return r
}

func (d *day) start(r *replica) {
	r.polling = r.service.supervisor(polling.Config{
		Leases: r.sight, LeaseTTL: dayTTL, OnChange: polling.Quarantine(d.pool),
		Tenants: func(ctx context.Context) iter.Seq2[tenant.Record, error] {
			return d.manager.List(ctx, tenant.Filter{Status: []tenant.Status{tenant.Active}, Limit: 1000})
		},
	})
}

// observe notes what reaches the wire.
func (d *day) observe(replica string, o session.Observation) {
	if o.Method != "getUpdates" {
		return
	}
	i, _ := strconv.Atoi(o.Key)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.total[o.Kind.String()]++
	if len(d.last[i]) == remembered {
		d.last[i] = append(d.last[i][:0], d.last[i][1:]...)
	}
	d.last[i] = append(d.last[i], outcome{replica, o.Start, time.Now(), o.Kind})
	d.calls[i][int(o.Start.Sub(d.began)/time.Minute)]++
	if o.Kind == errors.Conflict {
		d.conflicts[i] = append(d.conflicts[i], time.Now())
	}
	if o.Kind == errors.Unauthorized {
		d.late[i]++
	}
}

// run lets the day pass.
func (d *day) run() {
	a, b := d.replicas[0], d.replicas[1]
	events := []struct {
		name string
		do   func()
		undo func()
	}{
		{"a loses the network", func() { a.cable.down.Store(true) }, func() { a.cable.down.Store(false) }},
		{"Telegram is down", func() { d.telegram(true) }, func() { d.telegram(false) }},
		{"b loses sight of the leases", func() { b.sight.set(true, false, false) }, func() { b.sight.set(false, false, false) }},
		{"a is restarted", func() { stop(d.t, a.polling) }, func() { d.start(a) }},
		{"b is restarted, and the leases are lost", func() { stop(d.t, b.polling) }, func() { d.loseLeases(b, a) }},
		{"Telegram is half down", func() { d.flaky(true) }, func() { d.flaky(false) }},
		{"b is cut off from all", func() { b.sight.set(false, true, false); b.cable.down.Store(true) },
			func() { b.sight.set(false, false, false); b.cable.down.Store(false) }},
		{"a is restarted, and the leases are lost", func() { stop(d.t, a.polling) }, func() { d.loseLeases(a, b) }},
		{"b is restarted", func() { stop(d.t, b.polling) }, func() { d.start(b) }},
	}
	step := d.span / time.Duration(2*len(events)+2)
	step -= step % time.Second
	revoke := d.rand.Perm(d.tenants)[:d.tenants/20]
	end := d.began.Add(d.span)
	next := 0
	for now := time.Now(); now.Before(end); now = time.Now() {
		// About ten messages a day to each bot, and one at least.
		for range max(1, int(float64(d.tenants)*max(10, float64(24*time.Hour/d.span))*float64(time.Minute)/float64(24*time.Hour))) {
			i := d.rand.IntN(d.tenants)
			if _, gone := d.revoked[i]; !gone {
				for range 1 + 2*d.rand.IntN(2) { // some say more at once
					d.ann.Write(d.bots[i], "hello")
					d.written[i]++
				}
			}
		}
		gone := int(now.Sub(d.began)) / max(int(d.span)*3/4/len(revoke), 1)
		for len(d.revoked) < min(gone, len(revoke)) {
			i := revoke[len(d.revoked)]
			d.mu.Lock()
			d.revoked[i] = now
			d.mu.Unlock()
			d.bots[i].Revoke()
		}
		for at := now.Sub(d.began) / step; next < int(at) && next < 2*len(events); next++ {
			if e := events[next/2]; next%2 == 0 {
				e.do()
			} else {
				e.undo()
			}
		}
		time.Sleep(time.Duration(1+d.rand.Int64N(int64(2*time.Minute/time.Second))) * time.Second)
	}
	time.Sleep(5 * time.Minute)
}

// telegram is an outage for everybody.
func (d *day) telegram(down bool) {
	for _, r := range d.replicas {
		r.cable.down.Store(down)
	}
}

// flaky has a part of the calls fail in different ways.
func (d *day) flaky(on bool) {
	if !on {
		d.unflaky()
		return
	}
	var all []func()
	for n, do := range []bottest.Action{bottest.HTML502(), bottest.Restart500(), bottest.TooManyRequests(40 * time.Second), bottest.EmptyBody(), bottest.Hang()} {
		all = append(all, d.srv.Fail(bottest.Fault{Method: "getUpdates", Every: 5 + n, Do: do}))
	}
	d.unflaky = func() {
		for _, undo := range all {
			undo()
		}
	}
}

// loseLeases is a store that was restored from a backup: a process that had all
// leases has none, and does not know, when another starts and takes its share.
// It can't ask meanwhile: else the first 409 would have it look, and how many
// leases the other has by then would be for the scheduler to say.
func (d *day) loseLeases(starts, runs *replica) {
	runs.sight.set(true, false, false)
	for _, st := range runs.polling.Statuses() {
		if st.Holder != "" {
			require.NoError(d.t, d.leases.Release(bg, st.Holder, []string{st.Tenant}))
		}
	}
	lost := runs.polling.Stats().Lost
	d.start(starts)
	time.Sleep(5 * time.Second) // Telegram answers some of the first calls 3 s late
	runs.sight.set(false, false, false)
	time.Sleep(dayTTL)
	d.lost = append(d.lost, runs.polling.Stats().Lost-lost)
}

// tell tells all that is known of a tenant, since no seed makes a day happen
// again: goroutines and jitter have their own.
func (d *day) tell(i int) string {
	id := strconv.Itoa(i)
	var b strings.Builder
	at := func(t time.Time) time.Duration { return t.Sub(d.began) }
	fmt.Fprintf(&b, "tenant %d: %d written, %d in the inbox, %d at Telegram, now %v\n",
		i, d.written[i], d.inbox.count(id), d.bots[i].Pending(), at(time.Now()))
	if when, gone := d.revoked[i]; gone {
		fmt.Fprintf(&b, "revoked at %v\n", at(when))
	}
	for _, r := range d.replicas {
		st, polled := r.polling.Status(id)
		fmt.Fprintf(&b, "%s: polled %t, %+v\n", r.name, polled, st)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range d.last[i] {
		fmt.Fprintf(&b, "%v to %v by %s: %v\n", at(o.start), at(o.end), o.replica, o.kind)
	}
	for _, when := range d.conflicts[i] {
		fmt.Fprintf(&b, "409 at %v\n", at(when))
	}
	return b.String()
}

func (d *day) check() {
	synctest.Wait()
	t := d.t
	a, b := d.replicas[0].polling.Stats(), d.replicas[1].polling.Stats()
	t.Logf("calls: %v", d.total)
	t.Logf("a: %+v", a)
	t.Logf("b: %+v", b)

	messages := 0
	for i, n := range d.written {
		if _, gone := d.revoked[i]; !gone {
			messages += n
			require.Equal(t, n, d.inbox.count(strconv.Itoa(i)), "it has received all, each once: %s", told{d, i})
			require.Zero(t, d.bots[i].Pending(), "and all is confirmed: %s", told{d, i})
		}
	}
	require.Greater(t, messages, d.tenants/2)

	if !assert.Equal(t, d.tenants-len(d.revoked), a.Loops+b.Loops, "each is polled, once") {
		for i := range d.tenants {
			x, _ := d.replicas[0].polling.Status(strconv.Itoa(i))
			y, _ := d.replicas[1].polling.Status(strconv.Itoa(i))
			if _, gone := d.revoked[i]; !gone && (x.State == polling.Polling) == (y.State == polling.Polling) {
				t.Log(d.tell(i))
			}
		}
	}
	assert.Len(t, d.revoked, d.tenants/20)
	for i := range d.revoked {
		assert.LessOrEqual(t, d.late[i], 2, "a revoked token is tried no more: %s", told{d, i})
		r, err := d.store.Get(bg, strconv.Itoa(i))
		require.NoError(t, err)
		assert.Equal(t, tenant.Quarantined, r.Status, told{d, i})
	}

	conflicts := 0
	for i, at := range d.conflicts {
		first := 0
		for j := range at {
			if j > 0 && at[j].Sub(at[j-1]) > conflictGap {
				first = j
			}
			assert.LessOrEqual(t, at[j].Sub(at[first]), dayTTL, "a 409 lasts no longer than a lease: %s", told{d, i})
		}
		conflicts += len(at)
	}
	require.Len(t, d.lost, 2)
	for _, n := range d.lost {
		assert.GreaterOrEqual(t, n, uint64(d.tenants/5), "the leases were lost")
	}
	assert.GreaterOrEqual(t, conflicts, 2*d.tenants/5, "so that two did poll one tenant")

	busiest, sum := 0, 0
	for i, minutes := range d.calls {
		for m, n := range minutes {
			busiest, sum = max(busiest, int(n)), sum+int(n)
			assert.LessOrEqual(t, n, uint8(12), "in minute %d: %s", m, told{d, i})
		}
	}
	t.Logf("%d messages, %d calls, %d of a bot in its busiest minute, %d conflicts, %d leases lost",
		messages, sum, busiest, conflicts, d.lost)
	for _, r := range d.replicas {
		asked := float64(r.sight.count()) / d.span.Minutes()
		t.Logf("%s: %.0f calls of the leases in a minute", r.name, asked)
		assert.Less(t, asked, 60+float64(d.tenants)/10)
	}
	least := float64(d.tenants) * d.span.Minutes() * 60 / 50
	assert.Less(t, float64(sum), 1.3*least+20*float64(d.tenants), "hardly more than the polls of bots that have nothing to do")
}

// told is [day.tell], where a test fails and else not.
type told struct {
	*day
	i int
}

func (t told) String() string { return t.tell(t.i) }

func (d *day) end() {
	for _, r := range d.replicas {
		stop(d.t, r.polling)
		r.service.close()
	}
	d.close()
}

// conflictGap tells one trouble from the next.
const conflictGap = 2 * time.Minute
