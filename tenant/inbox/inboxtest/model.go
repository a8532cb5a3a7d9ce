package inboxtest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"pgregory.net/rapid"
)

// world is the contract as a program: slow, plain, and all in one list.
type world struct {
	cfg   Config
	now   time.Duration // since the start
	items []*thing
	known map[inbox.Ref]bool

	deaths int
	unit   time.Duration // in which time passes
}

type thing struct {
	u       inbox.Update
	attempt int
	dead    bool
	died    int           // which death it was
	lease   *inbox.Lease  // the latest, nil where it is known not to be held
	until   time.Duration // of the lease
	notYet  time.Duration // of the next try
	expires time.Duration // 0 is never
}

// leased reports whether a lease has not lapsed. One that has may still be
// held, until its chat is lent again.
func (w *world) leased(x *thing) bool { return x.lease != nil && x.until > w.now }

// lend makes a lease the only one of its chat.
func (w *world) lend(x *thing, l *inbox.Lease) {
	for _, y := range w.items {
		if y.u.Tenant == x.u.Tenant && y.u.Chat == x.u.Chat {
			y.lease = nil
		}
	}
	x.lease, x.until = l, w.now+60*w.unit
}

// count counts what waits or is leased, of a tenant or of all. What has
// expired may or may not be there still.
func (w *world) count(tenant string) (least, most int) {
	for _, x := range w.items {
		if x.dead || tenant != "" && x.u.Tenant != tenant {
			continue
		}
		most++
		if w.leased(x) || x.expires == 0 || x.expires > w.now {
			least++
		}
	}
	return least, most
}

// heads returns what may be lent now. An update that has expired while it waits
// for another try may hold up its chat until then, or not.
func (w *world) heads(holdUp bool) []*thing {
	type chat struct{ tenant, chat string }
	busy := make(map[chat]bool)
	first := make(map[chat]*thing)
	for _, x := range w.items {
		c := chat{x.u.Tenant, x.u.Chat}
		switch {
		case x.dead:
		case w.leased(x):
			busy[c] = true
		case x.expires != 0 && x.expires <= w.now:
			busy[c] = busy[c] || holdUp && x.notYet > w.now
		case x.notYet > w.now:
			busy[c] = true
		case first[c] == nil || x.u.ID < first[c].u.ID:
			first[c] = x
		}
	}
	var heads []*thing
	for c, x := range first {
		if !busy[c] {
			heads = append(heads, x)
		}
	}
	return heads
}

// bury makes a thing a dead letter, for which its tenant's oldest makes room.
func (w *world) bury(x *thing) {
	w.deaths++
	x.dead, x.died = true, w.deaths
	for {
		n, oldest := 0, x
		for _, y := range w.items {
			if y.dead && y.u.Tenant == x.u.Tenant {
				n++
				if y.died < oldest.died {
					oldest = y
				}
			}
		}
		if n <= w.cfg.MaxDeadPerTenant {
			return
		}
		w.remove(oldest)
	}
}

func (w *world) remove(x *thing) {
	w.items = slices.DeleteFunc(w.items, func(y *thing) bool { return x == y })
}

func (w *world) find(l inbox.Lease) *thing {
	for _, x := range w.items {
		if x.lease != nil && x.lease.Token == l.Token && x.u.Ref() == l.Ref() {
			return x
		}
	}
	return nil
}

// model does at random what can be done to an inbox by several workers, and to
// the model of one, and wants both to answer the same. Where there is such a
// thing, half of the runs have each worker see the inbox as another process.
//
// A bubble can't hold a rapid.Check, so each check has a bubble. What rapid
// throws to end one is carried out of it.
//
// After so many checks the others are left out: one on a database may take a
// second.
func model(t *testing.T, h Harness, bubble bool, checks int, cfg Config) {
	failed := false
	rapid.Check(t, func(r *rapid.T) {
		if checks--; checks < 0 && !failed { // once one has failed rapid looks for a smaller one
			return
		}
		failed = true
		var thrown any
		h.Bubble(t, func(t *testing.T) {
			defer func() { thrown = recover() }()
			unit := time.Minute // beside which what passes meanwhile is nothing
			if bubble {
				unit = time.Second
			}
			w := &world{cfg: cfg, known: make(map[inbox.Ref]bool), unit: unit}
			m := &machine{r: r, h: h, t: t, ctx: context.Background(), w: w, unit: unit}
			m.run(cfg)
		})
		if thrown != nil {
			panic(thrown)
		}
		failed = false
	})
}

// worker is one of those who compete. It does not know which of its leases are
// still held.
type worker struct {
	in     inbox.Inbox
	leases []inbox.Lease // the latest that it was given
}

// machine does the steps.
type machine struct {
	r       *rapid.T
	t       *testing.T
	h       Harness
	ctx     context.Context
	w       *world
	workers []*worker

	unit      time.Duration
	began     time.Time
	lastToken int64
	several   bool // the workers are so many processes
}

var (
	someTenants = rapid.SampledFrom([]string{"a", "b", "c"})
	someChats   = rapid.SampledFrom([]string{"1", "2"})
	someIDs     = rapid.Int64Range(1, 30)
)

func (m *machine) run(cfg Config) {
	first := m.h.New(m.t, cfg)
	m.began = time.Now()
	m.several = m.h.Another != nil && rapid.Bool().Draw(m.r, "several processes")
	for n := range 3 {
		in := first
		if n > 0 && m.several {
			in = m.h.Another(m.t, first, cfg)
		}
		m.workers = append(m.workers, &worker{in: in})
	}
	m.r.Repeat(map[string]func(*rapid.T){
		"put":    m.with(m.put),
		"lease":  m.with(m.lease),
		"settle": m.with(m.settle),
		"extend": m.with(m.extend),
		"dead":   m.with(m.dead),
		"exhume": m.with(m.exhume),
		"forget": m.with(m.forget),
		// A worker is gone with all that it had, which lapses, and another
		// comes.
		"crash": m.with(func(x *worker) { x.leases = nil }),
		"wait":  func(r *rapid.T) { m.pass(rapid.IntRange(1, 59).Draw(r, "units")) }, // less than an hour, which ids are remembered by
		"":      m.with(m.depth),
	})
	m.drain()
}

// with has one of the workers do a step.
func (m *machine) with(step func(*worker)) func(*rapid.T) {
	return func(r *rapid.T) {
		outer := m.r
		m.r = r
		defer func() { m.r = outer }()
		step(m.workers[rapid.IntRange(0, len(m.workers)-1).Draw(r, "worker")])
	}
}

func (m *machine) pass(units int) {
	d := time.Duration(units) * m.unit
	m.h.Advance(m.t, m.workers[0].in, d)
	m.w.now += d
}

func (m *machine) put(x *worker) {
	r, w := m.r, m.w
	var batch []inbox.Update
	for range rapid.IntRange(1, 4).Draw(r, "n") {
		u := update(someTenants.Draw(r, "tenant"), someChats.Draw(r, "chat"), someIDs.Draw(r, "id"))
		if rapid.IntRange(0, 5).Draw(r, "expires") == 0 {
			u.ExpiresAt = u.ReceivedAt.Add(30 * m.unit)
		}
		u.ReceivedAt = m.began.Add(time.Duration(u.ID) * time.Second) // the first of a chat is its oldest
		batch = append(batch, u)
	}
	outcomes, err := x.in.Put(m.ctx, batch)
	require.NoError(r, err)
	require.Len(r, outcomes, len(batch))
	refused := make(map[string]bool)
	for i, u := range batch {
		if w.known[u.Ref()] {
			require.Equal(r, inbox.Outcome{Duplicate: true}, outcomes[i])
			continue
		}
		least, most := w.count(u.Tenant)
		leastAll, mostAll := w.count("")
		must := refused[u.Tenant] || least >= w.cfg.MaxPerTenant || leastAll >= w.cfg.MaxUpdates
		may := must || most >= w.cfg.MaxPerTenant || mostAll >= w.cfg.MaxUpdates
		if m.several { // what others put, and took out, is counted now and then
			must = refused[u.Tenant]
			e, _ := errors.AsType[*errors.Error](outcomes[i].Err)
			may = may || e != nil && e.Scope == errors.ScopeAll
		}
		if outcomes[i].Err != nil {
			require.ErrorIs(r, outcomes[i].Err, inbox.ErrFull)
			require.True(r, may, "refused although there is room")
			refused[u.Tenant] = true
			continue
		}
		require.False(r, must, "taken although there is no room")
		require.False(r, outcomes[i].Duplicate, "%v is new", u)
		w.known[u.Ref()] = true
		x := &thing{u: u}
		if !u.ExpiresAt.IsZero() {
			x.expires = w.now + 30*m.unit
		}
		w.items = append(w.items, x)
	}
}

func (m *machine) lease(x *worker) {
	r, w := m.r, m.w
	want := inbox.Want{
		Limit: rapid.IntRange(0, 6).Draw(r, "limit"), TTL: 60 * m.unit,
		PerTenant: rapid.IntRange(0, 3).Draw(r, "per tenant"),
		Held:      map[string]int{"a": rapid.IntRange(0, 3).Draw(r, "held"), "b": rapid.IntRange(0, 1).Draw(r, "held")},
	}
	if rapid.IntRange(0, 2).Draw(r, "beside many") == 0 { // tenants that are paused
		for n := range 300 {
			want.Held[fmt.Sprint("a paused one ", n)] = 3
		}
	}
	got, err := x.in.Lease(m.ctx, want)
	require.NoError(r, err)
	count := func(heads []*thing) (ready map[string]int, lent int) {
		ready = make(map[string]int)
		for _, y := range heads {
			ready[y.u.Tenant]++
		}
		for tenant, n := range ready {
			ready[tenant] = min(n, want.Room(tenant))
			lent += ready[tenant]
		}
		return ready, min(want.Limit, lent)
	}
	ready, least := count(w.heads(true))
	heads := w.heads(false)
	could, most := count(heads)
	require.GreaterOrEqual(r, len(got), least)
	require.LessOrEqual(r, len(got), most)
	taken := make(map[string]int)
	for _, l := range got {
		at := slices.IndexFunc(heads, func(y *thing) bool { return y.u.Ref() == l.Ref() })
		require.GreaterOrEqual(r, at, 0, "%v may not be lent", l)
		y := heads[at]
		heads = slices.Delete(heads, at, at+1)
		y.attempt++
		require.Equal(r, y.attempt, l.Attempt)
		require.Greater(r, l.Token, m.lastToken)
		require.Equal(r, string(y.u.Raw), string(l.Raw))
		require.WithinDuration(r, y.u.ReceivedAt, l.ReceivedAt, time.Millisecond)
		w.lend(y, &l)
		x.leases = append(x.leases, l)
		taken[l.Tenant]++
	}
	x.leases = x.leases[max(0, len(x.leases)-8):]
	for _, l := range got {
		m.lastToken = max(m.lastToken, l.Token)
	}
	for tenant, n := range taken {
		require.LessOrEqual(r, n, could[tenant], "more of %s than the worker takes", tenant)
		for other, could := range ready {
			require.False(r, n > 1 && could > 0 && taken[other] == 0, "%s had two before %s had one", tenant, other)
		}
	}
}

// some draws leases that a worker has or had, some of them perhaps twice.
func (m *machine) some(x *worker) (leases []inbox.Lease) {
	if len(x.leases) == 0 {
		return nil
	}
	return rapid.SliceOfN(rapid.SampledFrom(x.leases), 1, 4).Draw(m.r, "leases")
}

// held wants an answer about a lease to be right, and returns what it is of,
// where it is held. One that has lapsed may be or not, until it is lent again.
func (m *machine) held(l inbox.Lease, held bool) *thing {
	y := m.w.find(l)
	if y != nil && !m.w.leased(y) && !held {
		y.lease = nil // lapsed, and noticed
		return nil
	}
	require.Equal(m.r, y != nil, held, "%v", l)
	return y
}

func (m *machine) settle(x *worker) {
	var all []inbox.Settlement
	buried := false
	for _, l := range m.some(x) {
		s := inbox.Settlement{Lease: l, Reason: "why"}
		s.Verdict = rapid.SampledFrom([]inbox.Verdict{inbox.Done, inbox.Retry, inbox.Return, inbox.Bury}).Draw(m.r, "verdict")
		if buried && s.Verdict == inbox.Bury { // which of two is older must be known
			s.Verdict = inbox.Done
		}
		buried = buried || s.Verdict == inbox.Bury
		s.After = time.Duration(rapid.IntRange(0, 40).Draw(m.r, "after")) * m.unit
		all = append(all, s)
	}
	held, err := x.in.Settle(m.ctx, all)
	require.NoError(m.r, err)
	require.Len(m.r, held, len(all))
	died := false
	for i, s := range all {
		y := m.held(s.Lease, held[i])
		if y == nil {
			continue
		}
		y.lease = nil
		switch s.Verdict {
		case inbox.Done:
			m.w.remove(y)
		case inbox.Bury:
			m.w.bury(y)
			died = true
		default:
			y.notYet = m.w.now + s.After
			if s.Verdict == inbox.Return {
				y.attempt--
			}
		}
	}
	if died {
		m.pass(1)
	}
}

func (m *machine) extend(x *worker) {
	leases := m.some(x)
	d := time.Duration(rapid.IntRange(1, 90).Draw(m.r, "ttl")) * m.unit
	held, err := x.in.Extend(m.ctx, leases, d)
	require.NoError(m.r, err)
	require.Len(m.r, held, len(leases))
	for i, l := range leases {
		if y := m.held(l, held[i]); y != nil {
			y.until = m.w.now + d
		}
	}
}

func (m *machine) dead(x *worker) {
	letters, err := x.in.Dead(m.ctx, inbox.DeadFilter{})
	require.NoError(m.r, err)
	var want []inbox.Ref
	attempts := make(map[inbox.Ref]int)
	for _, y := range m.w.items {
		if y.dead {
			want = append(want, y.u.Ref())
			attempts[y.u.Ref()] = y.attempt
		}
	}
	slices.SortFunc(want, func(a, b inbox.Ref) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ID, b.ID))
	})
	require.Equal(m.r, want, refs(letters))
	for _, l := range letters {
		require.Equal(m.r, attempts[l.Ref()], l.Attempt)
		require.Equal(m.r, "why", l.Reason)
	}
}

// exhume replays or drops.
func (m *machine) exhume(x *worker) {
	ref := inbox.Ref{Tenant: someTenants.Draw(m.r, "tenant"), ID: someIDs.Draw(m.r, "id")}
	for _, y := range m.w.items {
		if y.dead && rapid.Bool().Draw(m.r, "this one") {
			ref = y.u.Ref()
			break
		}
	}
	drop := rapid.Bool().Draw(m.r, "drop")
	f := x.in.Replay
	if drop {
		f = x.in.Drop
	}
	n, err := f(m.ctx, []inbox.Ref{ref})
	require.NoError(m.r, err)
	at := slices.IndexFunc(m.w.items, func(y *thing) bool { return y.dead && y.u.Ref() == ref })
	if at < 0 {
		require.Zero(m.r, n)
		return
	}
	require.Equal(m.r, 1, n)
	y := m.w.items[at]
	m.w.remove(y)
	if !drop { // whether or not there is room
		m.w.items = append(m.w.items, &thing{u: y.u})
	}
}

func (m *machine) forget(x *worker) {
	tenant := someTenants.Draw(m.r, "tenant")
	if rapid.IntRange(0, 4).Draw(m.r, "really") > 0 {
		return
	}
	require.NoError(m.r, x.in.Forget(m.ctx, tenant))
	m.w.items = slices.DeleteFunc(m.w.items, func(y *thing) bool { return y.u.Tenant == tenant })
	for ref := range m.w.known {
		if ref.Tenant == tenant {
			delete(m.w.known, ref)
		}
	}
}

// depth wants the counts and the age to be right.
func (m *machine) depth(x *worker) {
	for _, tenant := range []string{"", "a"} {
		d, err := x.in.Depth(m.ctx, tenant)
		require.NoError(m.r, err)
		least, most := m.w.count(tenant)
		require.True(m.r, least <= d.Waiting+d.Leased && d.Waiting+d.Leased <= most, "%+v, wanted %d to %d", d, least, most)
		var leased, lapsed, dead int
		var oldest, oldestSure time.Time // of all, and of those that can't have expired
		for _, y := range m.w.items {
			switch {
			case tenant != "" && y.u.Tenant != tenant:
				continue
			case y.dead:
				dead++
				continue
			case m.w.leased(y):
				leased++
			case y.lease != nil:
				lapsed++
			}
			before := func(t time.Time) bool { return t.IsZero() || y.u.ReceivedAt.Before(t) }
			if before(oldest) {
				oldest = y.u.ReceivedAt
			}
			if (m.w.leased(y) || y.expires == 0 || y.expires > m.w.now) && before(oldestSure) {
				oldestSure = y.u.ReceivedAt
			}
		}
		require.Equal(m.r, dead, d.Dead)
		require.True(m.r, leased <= d.Leased && d.Leased <= leased+lapsed, "%+v, wanted %d leased, and of lapsed ones up to %d", d, leased, lapsed)
		const rounding = time.Millisecond
		if !oldestSure.IsZero() {
			require.False(m.r, d.Oldest.IsZero())
			require.False(m.r, d.Oldest.After(oldestSure.Add(rounding)), "%v, and there is one of %v", d.Oldest, oldestSure)
		}
		if !d.Oldest.IsZero() {
			require.False(m.r, d.Oldest.Before(oldest.Add(-rounding)), "%v, and none is older than %v", d.Oldest, oldest)
		}
	}
}

// drain handles all that is left, and wants it to be all that should be, each
// once and in its chat's order. Those who had leases come back late.
func (m *machine) drain() {
	m.pass(100) // no lease is held, no try waits, and what can expire has
	r := m.r
	want := make(map[inbox.Ref]bool)
	for _, y := range m.w.items {
		if !y.dead && y.expires == 0 {
			want[y.u.Ref()] = true
		}
	}
	last := make(map[[2]string]int64)
	for n := 0; ; n++ {
		x := m.workers[n%len(m.workers)]
		leases, err := x.in.Lease(m.ctx, inbox.Want{Limit: 5, TTL: 60 * m.unit})
		require.NoError(r, err)
		if len(leases) == 0 {
			break
		}
		var done, late []inbox.Settlement
		again := make(map[[2]string]bool)
		for _, l := range leases {
			require.True(r, want[l.Ref()], "%v is done, dead, expired or was handled before", l)
			delete(want, l.Ref())
			chat := [2]string{l.Tenant, l.Chat}
			require.Greater(r, l.ID, last[chat], "out of order")
			last[chat], again[chat] = l.ID, true
			done = append(done, inbox.Settlement{Lease: l, Verdict: inbox.Done})
		}
		for _, y := range m.workers {
			for _, l := range y.leases {
				if again[[2]string{l.Tenant, l.Chat}] { // another has the chat now
					late = append(late, inbox.Settlement{Lease: l, Verdict: inbox.Done})
				}
			}
		}
		held, err := m.workers[(n+1)%len(m.workers)].in.Settle(m.ctx, late)
		require.NoError(r, err)
		require.NotContains(r, held, true)
		held, err = x.in.Settle(m.ctx, done)
		require.NoError(r, err)
		require.NotContains(r, held, false)
	}
	require.Empty(r, want, "lost")
	d, err := m.workers[0].in.Depth(m.ctx, "")
	require.NoError(r, err)
	require.Zero(r, d.Waiting+d.Leased)
}
