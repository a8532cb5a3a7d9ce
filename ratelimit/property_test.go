package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestTheSchedulerDoesWhatAPlainModelSays drives a scheduler with random steps.
// After each of them, and a moment after each time at which the model says that
// something may change, it holds that
//
//   - what was let in had room at every level, and took from all of them;
//   - what was refused was refused for a reason that holds, with the right wait;
//   - within a tenant, class, key and lane none went before one that came
//     sooner;
//   - whoever still waits has a level that keeps it: there is no lost or late
//     wake-up, and no room is left unused;
//   - tenants that wait for nothing but what all share get it by their weights;
//   - the scheduler's lists, heaps and counters agree;
//
// and that nothing is left of it all at the end.
func TestTheSchedulerDoesWhatAPlainModelSays(t *testing.T) {
	check := func(rt *rapid.T) {
		// The bubble has a goroutine of its own, but rapid wants a failure and
		// its own panics on this one.
		var failure any
		synctest.Test(t, func(*testing.T) {
			defer func() {
				if failure = recover(); failure != nil {
					if _, ok := failure.(runtime.Error); ok {
						failure = difference(fmt.Sprintf("%v\n%s", failure, debug.Stack()))
					}
				}
			}()
			newDriver(rt).run()
		})
		switch failure := failure.(type) {
		case nil:
		case difference:
			rt.Fatal(string(failure))
		default:
			panic(failure)
		}
	}
	for range 4 { // four hundred runs take a second or less
		rapid.Check(t, check)
	}
}

// asked is a request that the driver made.
type asked struct {
	r       Request[string]
	tenant  *modelTenant
	n       int
	ticket  uint64
	began   int64 // the wait
	ends    int64 // the context
	cancel  context.CancelFunc
	stopped int64 // when it was cancelled; 0 if not

	done   bool
	at     int64
	permit Permit[string]
	err    error
}

// flowName names a flow.
type flowName struct {
	gateName
	key   string
	lane  int
	class int // the KeyClass of free ones
}

type gateName struct {
	tenant   string
	class    int // -1 for free ones
	slotless bool
}

func (q *asked) gate() gateName {
	g := gateName{q.r.Tenant, q.r.Class, q.r.Slotless}
	if q.r.Free {
		g.class = -1
	}
	return g
}

func (q *asked) queue() flowName {
	name := flowName{gateName: q.gate(), key: q.r.Key, lane: q.r.Lane}
	if q.r.Free && q.r.Key != "" {
		name.class = q.r.KeyClass
	}
	return name
}

// noClass is a KeyClass that never has a limit.
const noClass = 9

// difference is what the driver panics with when it finds one.
type difference string

func (d *driver) Fatalf(format string, args ...any) { panic(difference(fmt.Sprintf(format, args...))) }

type driver struct {
	*rapid.T
	s       *Scheduler[string]
	m       *model
	waiting []*asked // by ticket
	held    []*asked
	tickets []uint64
	asked   int
	largest float64 // cost that was asked for
	lately  map[[2]string]fairness
	refused uint64
}

// fairness is what two tenants had when both began to contend.
type fairness struct {
	epochs [2]int
	had    [2]float64
}

func (d *driver) limit(name string) Limit {
	every := rapid.SampledFrom([]time.Duration{0, 0, 50 * time.Millisecond, 100 * time.Millisecond, 333 * time.Millisecond, time.Second, 7 * time.Second, -1, -2}).Draw(d.T, name)
	switch every {
	case 0:
		return Unlimited
	case -1:
		return Limit{Burst: rapid.IntRange(1, 3).Draw(d.T, "burst")}
	case -2:
		if rapid.IntRange(0, 9).Draw(d.T, "closed") == 0 {
			return Limit{Burst: -1}
		}
		every = 20 * time.Millisecond
	}
	return Limit{Rate: 1e9 / float64(every), Burst: rapid.IntRange(1, 5).Draw(d.T, "burst")}
}

func (d *driver) limits() Limits {
	l := Limits{Weight: rapid.IntRange(0, 3).Draw(d.T, "weight"), InFlight: rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(d.T, "slots")}
	for range rapid.IntRange(0, 2).Draw(d.T, "classes") {
		l.Classes = append(l.Classes, d.limit("class"))
	}
	for range rapid.IntRange(0, 2).Draw(d.T, "key classes") {
		l.Keys = append(l.Keys, d.limit("key"))
	}
	return l
}

func newDriver(rt *rapid.T) *driver {
	d := &driver{T: rt, lately: map[[2]string]fairness{}}
	cfg := Config{
		Total:     d.limit("total"),
		InFlight:  rapid.SampledFrom([]int{0, 0, 1, 2, 3, 4, 5, 9}).Draw(rt, "slots"),
		Tenant:    d.limits(),
		Lanes:     rapid.IntRange(1, 3).Draw(rt, "lanes"),
		LaneShare: rapid.IntRange(2, 4).Draw(rt, "lane share"),
		WarmFor:   rapid.SampledFrom([]time.Duration{time.Second, time.Minute}).Draw(rt, "warm"),
	}
	if rapid.Bool().Draw(rt, "small") {
		cfg.MaxWaiting, cfg.MaxWaitingPerTenant = 8, 4
	}
	if rapid.IntRange(0, 2).Draw(rt, "starts") == 0 {
		cfg.Starts = []Limit{{Rate: 1e9 / float64(400*time.Millisecond), Burst: 2}, {Rate: 1, Burst: 4}}
	}
	s, err := NewScheduler[string](cfg)
	if err != nil {
		rt.Fatal(err)
	}
	d.s = s
	d.m = newModel(s.now(), s.cfg)
	return d
}

func (d *driver) run() {
	defer func() { // also of a run that failed
		d.s.Close()
		for _, q := range d.waiting {
			q.cancel()
		}
		synctest.Wait()
	}()
	steps := map[string]func(){
		"admit": d.admit, "cancel": d.cancel, "release": d.release, "freeze": d.freeze, "thaw": d.thaw,
		"tenant": d.setTenant, "default": d.setDefault, "total": d.setTotal, "move": d.move, "sleep": d.sleep,
	}
	names := []string{"admit", "admit", "admit", "admit", "admit", "admit", "release", "release", "sleep", "sleep"}
	names = append(names, slices.Sorted(maps.Keys(steps))...)
	for range rapid.IntRange(1, 80).Draw(d.T, "steps") {
		steps[rapid.SampledFrom(names).Draw(d.T, "step")]()
		d.check()
	}
	d.end()
}

func (d *driver) tenantName() string {
	return rapid.SampledFrom([]string{"t0", "t1", "t2", "t3"}).Draw(d.T, "tenant")
}

func (d *driver) keyName() string {
	return rapid.SampledFrom([]string{"", "a0", "a1", "b0", "b1", "c0"}).Draw(d.T, "key")
}

func (d *driver) admit() {
	r := Request[string]{
		Tenant:   d.tenantName(),
		Key:      d.keyName(),
		Cost:     rapid.SampledFrom([]int{1, 1, 1, 2, 3, 6}).Draw(d.T, "cost"),
		Free:     rapid.IntRange(0, 4).Draw(d.T, "free") == 0,
		Debt:     rapid.Bool().Draw(d.T, "debt"),
		Slotless: rapid.IntRange(0, 3).Draw(d.T, "slotless") == 0,
		Class:    rapid.IntRange(0, 2).Draw(d.T, "class"),
		Lane:     rapid.IntRange(0, d.s.cfg.Lanes-1).Draw(d.T, "lane"),
	}
	if r.Key != "" {
		r.KeyClass = int(r.Key[0] - 'a') // a key is of one kind
		if r.Free && rapid.Bool().Draw(d.T, "no key class") {
			r.KeyClass = noClass
		}
	}
	if len(d.tickets) > 0 && rapid.IntRange(0, 9).Draw(d.T, "again") == 0 {
		r.Ticket = rapid.SampledFrom(d.tickets).Draw(d.T, "ticket")
		d.tickets = slices.DeleteFunc(d.tickets, func(t uint64) bool { return t == r.Ticket })
	}
	now := d.s.now()
	d.asked++
	d.largest = max(d.largest, float64(r.Cost))
	q := &asked{r: r, n: d.asked, tenant: d.m.tenant(r.Tenant), began: now, ends: never, ticket: r.Ticket}
	ctx, cancel := context.WithCancel(context.Background())
	wait := time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 10, 500, 3000, 20_000}).Draw(d.T, "ms")) * time.Millisecond
	bound := never
	switch {
	case wait == 0:
	case rapid.Bool().Draw(d.T, "by context"):
		if len(d.m.starts) > 0 {
			// A start that is taken at the very moment of giving up is not
			// taken back, which the model doesn't know.
			wait += time.Duration(d.asked)
		}
		ctx, cancel = context.WithTimeout(ctx, wait)
		q.ends, bound = now+int64(wait), int64(wait)
	default:
		q.r.MaxWait, bound = wait, int64(wait)
	}
	q.cancel = cancel
	earliest := d.earliest(now, q)
	large := d.m.tooLarge(now, q.tenant, &q.r)
	full := len(d.waiting) >= d.s.cfg.MaxWaiting || d.waitingOf(r.Tenant) >= d.s.cfg.MaxWaitingPerTenant
	d.waiting = append(d.waiting, q)
	go func() {
		defer cancel()
		q.permit, q.err = d.s.Admit(ctx, q.r)
		q.at, q.done = d.s.now(), true
	}()
	synctest.Wait()
	if q.ticket == 0 {
		q.ticket = d.s.ticket
	}
	var refusal *Refusal
	if !q.done || !errors.As(q.err, &refusal) {
		if large {
			d.Fatalf("%d is too large for a level, but was not refused: %+v", q.n, q.r)
		}
		if d.m.cold(now, q.tenant) || earliest-now <= bound {
			return
		}
		d.Fatalf("%d can't go before %v, later than %v, but was not refused", q.n, earliest-now, bound)
	}
	switch {
	case errors.Is(q.err, ErrTooLarge):
		if !large {
			d.Fatalf("%d was refused: %v", q.n, q.err)
		}
	case errors.Is(q.err, ErrQueueFull):
		if !full {
			d.Fatalf("%d was refused: %v", q.n, q.err)
		}
	case errors.Is(q.err, ErrTooLate):
		if int64(refusal.Wait) <= bound {
			d.Fatalf("%d was refused for %v, which is no more than %d", q.n, refusal, bound)
		}
		if refusal.Level == LevelStarts && d.m.cold(now, q.tenant) {
			break
		}
		if off := int64(refusal.Wait) - (earliest - now); earliest == never && refusal.Wait != Forever || earliest != never && (off < 0 || off > moment) {
			d.Fatalf("%d was refused: %v; the model says %d", q.n, refusal, earliest-now)
		}
	default:
		d.Fatalf("%d was refused: %v", q.n, q.err)
	}
	d.waiting = d.waiting[:len(d.waiting)-1]
	d.refused++
}

func (d *driver) waitingOf(tenant string) (n int) {
	for _, q := range d.waiting {
		if q.r.Tenant == tenant {
			n++
		}
	}
	return n
}

// earliest is when a request that comes now could go if it were alone but for
// those of its own queue.
func (d *driver) earliest(now int64, q *asked) int64 {
	ahead := int64(0)
	if q.r.Ticket == 0 {
		for _, o := range d.waiting {
			if o.queue() == q.queue() {
				ahead += int64(o.r.Cost)
			}
		}
	}
	at := max(now, d.m.frozen, q.tenant.frozen)
	if k := d.m.key(q.tenant, q.r.Key); k != nil {
		at = max(at, k.frozen)
	}
	for _, b := range d.m.levels(now, q.tenant, &q.r) {
		at = max(at, later(now, b.delay(now, ahead+b.need(&q.r))))
	}
	return at
}

func (d *driver) cancel() {
	if len(d.waiting) == 0 {
		return
	}
	q := rapid.SampledFrom(d.waiting).Draw(d.T, "which")
	q.stopped = d.s.now()
	q.cancel()
}

func (d *driver) release() {
	if len(d.held) == 0 {
		return
	}
	i := rapid.IntRange(0, len(d.held)-1).Draw(d.T, "which")
	d.let(i)
}

func (d *driver) let(i int) {
	q := d.held[i]
	d.held = slices.Delete(d.held, i, i+1)
	q.tenant.inFlight--
	d.m.inFlight--
	q.permit.Release()
}

func (d *driver) scope() (Scope[string], *int64) {
	scope := Scope[string]{Level: Level(rapid.IntRange(0, 3).Draw(d.T, "level"))}
	switch scope.Level {
	case LevelAll:
		return scope, &d.m.frozen
	case LevelStarts:
		return scope, &d.m.startsFrozen
	}
	scope.Tenant = d.tenantName()
	t := d.m.tenant(scope.Tenant)
	if scope.Level == LevelTenant {
		return scope, &t.frozen
	}
	if scope.Key = d.keyName(); scope.Key == "" {
		return scope, new(int64)
	}
	return scope, &d.m.key(t, scope.Key).frozen
}

func (d *driver) freeze() {
	scope, frozen := d.scope()
	until := d.s.now() + int64(rapid.SampledFrom([]time.Duration{-time.Second, time.Millisecond, time.Second, 10 * time.Second}).Draw(d.T, "for"))
	d.s.Freeze(scope, d.s.time(until))
	*frozen = max(*frozen, until)
}

func (d *driver) thaw() {
	scope, frozen := d.scope()
	d.s.Thaw(scope)
	*frozen = 0
}

// waits tells of a tenant's key whether anyone waits for its units.
func (d *driver) waits(tenant string) func(key string) (int, bool) {
	return func(key string) (int, bool) {
		for _, q := range d.waiting {
			if q.r.Tenant == tenant && q.r.Key == key && q.r.KeyClass != noClass {
				return q.r.KeyClass, true
			}
		}
		return 0, false
	}
}

func (d *driver) setTenant() {
	name, limits := d.tenantName(), d.limits()
	t, now := d.m.tenant(name), d.s.now()
	if rapid.IntRange(0, 2).Draw(d.T, "reset") == 0 {
		d.s.ResetTenant(name)
		if t.own {
			t.own = false
			d.m.apply(now, t, d.m.common, d.waits(name))
		}
		return
	}
	if err := d.s.SetTenant(name, limits); err != nil {
		d.Fatalf("%v", err)
	}
	t.own = true
	d.m.apply(now, t, &limits, d.waits(name))
}

func (d *driver) setDefault() {
	limits, now := d.limits(), d.s.now()
	if err := d.s.SetDefault(limits); err != nil {
		d.Fatalf("%v", err)
	}
	d.m.common = &limits
	for name, t := range d.m.tenants {
		if !t.own {
			d.m.apply(now, t, d.m.common, d.waits(name))
		}
	}
}

func (d *driver) setTotal() {
	limit := d.limit("total")
	d.m.slots = rapid.SampledFrom([]int{0, 1, 2, 4, 7}).Draw(d.T, "slots")
	d.m.total.set(d.s.now(), limit)
	if err := d.s.SetTotal(limit, d.m.slots); err != nil {
		d.Fatalf("%v", err)
	}
}

func (d *driver) move() {
	name := d.tenantName()
	pair := rapid.SampledFrom([][2]string{{"a0", "a1"}, {"a1", "a0"}, {"b0", "b1"}, {"", "a0"}, {"b0", ""}}).Draw(d.T, "pair")
	known := func(key string) bool {
		t, found := d.s.tenants.get(name)
		if found {
			_, found = d.s.keys.get(ref[string]{t, key})
		}
		return found
	}
	moves, both := known(pair[0]), known(pair[1])
	d.s.Move(name, pair[0], pair[1])
	if pair[0] == "" || pair[1] == "" {
		return
	}
	t, now := d.m.tenant(name), d.s.now()
	from, to := d.m.key(t, pair[0]), d.m.key(t, pair[1])
	if !moves {
		if from.frozen > now || from.bucket != nil && from.bucket.limited && from.bucket.short(now, 0, from.bucket.burst) {
			d.Fatalf("%s of %s was forgotten: %+v", pair[0], name, from)
		}
		return
	}
	class := int(pair[0][0] - 'a')
	if from.bucket != nil {
		from.in(now, t, class)
	}
	if both && to.bucket != nil {
		to.in(now, t, class)
	}
	switch a, b := from.bucket, to.bucket; {
	case a == nil:
	case b == nil || !both:
		to.bucket, to.limits = a, from.limits
	default:
		missing := new(big.Rat).Sub(big.NewRat(a.burst, 1), a.have(now))
		if a.interval == 0 || b.interval == 0 {
			missing = ceil(missing)
		}
		b.take(now, missing)
	}
	to.frozen = max(to.frozen, from.frozen)
	delete(t.keys, pair[0])
	for _, q := range d.waiting {
		if q.r.Tenant == name && q.r.Key == pair[0] {
			q.r.Key = pair[1]
		}
	}
}

func ceil(r *big.Rat) *big.Rat {
	up := new(big.Int).Add(r.Num(), new(big.Int).Sub(r.Denom(), big.NewInt(1)))
	return new(big.Rat).SetInt(up.Div(up, r.Denom()))
}

// sleep lets time pass, and looks a moment after each time at which the model
// says that something may go.
func (d *driver) sleep() {
	until := d.s.now() + int64(rapid.SampledFrom([]time.Duration{1, time.Millisecond, 100 * time.Millisecond, time.Second, 15 * time.Second}).Draw(d.T, "for"))
	for {
		now := d.s.now()
		if now >= until {
			return
		}
		time.Sleep(time.Duration(min(until, d.event(now)) - now))
		d.check()
	}
}

// event is a moment after the next time at which something may change.
func (d *driver) event(now int64) int64 {
	next := never
	at := func(t int64) {
		if t > now-moment && t < next {
			next = t
		}
	}
	for _, q := range d.waiting {
		at(d.m.frozen)
		at(q.tenant.frozen)
		at(d.m.startsFrozen)
		if k := d.m.key(q.tenant, q.r.Key); k != nil {
			at(k.frozen)
		}
		for _, b := range d.m.levels(now, q.tenant, &q.r) {
			if wait := b.delay(now, b.need(&q.r)); wait > 0 {
				at(later(now, wait))
			}
		}
		at(q.tenant.warm)
		for _, b := range d.m.starts {
			if wait := b.delay(now, 1); wait > 0 {
				at(later(now, wait))
			}
		}
		if q.r.MaxWait > 0 {
			at(q.began + int64(q.r.MaxWait))
		}
	}
	return later(next, 2*moment)
}

func (d *driver) check() {
	synctest.Wait()
	d.collect()
	d.checkNobodyWaitsInVain()
	d.checkFairness()
	checkStructure(d.Fatalf, d.s)
	stats := d.s.Stats(2)
	if stats.Waiting != len(d.waiting) || stats.InFlight != d.m.inFlight || stats.Refused != d.refused {
		d.Fatalf("%+v; the model says %d waiting, %d in flight, %d refused", stats, len(d.waiting), d.m.inFlight, d.refused)
	}
}

// collect takes note of all that was let in or refused, time by time.
func (d *driver) collect() {
	var done []*asked
	d.waiting = slices.DeleteFunc(d.waiting, func(q *asked) bool {
		if q.done {
			done = append(done, q)
		}
		return q.done
	})
	slices.SortStableFunc(done, func(a, b *asked) int { return int(a.at - b.at) })
	var in []*asked
	for i, q := range done {
		if q.err == nil {
			in = append(in, q)
		} else {
			d.refused++
			d.checkRefusal(q)
		}
		if i+1 == len(done) || done[i+1].at > q.at {
			d.admitted(q.at, in, done[i+1:])
			in = nil
		}
	}
}

func (d *driver) checkRefusal(q *asked) {
	switch {
	case errors.Is(q.err, context.Canceled):
		if q.stopped == 0 || q.at != q.stopped {
			d.Fatalf("%d ended at %d but was cancelled at %d", q.n, q.at, q.stopped)
		}
	case errors.Is(q.err, ErrTooLate):
		if q.at != q.began+int64(q.r.MaxWait)+1 {
			d.Fatalf("%d ended after %d, not after %d", q.n, q.at-q.began, q.r.MaxWait)
		}
	case errors.Is(q.err, context.DeadlineExceeded):
		if q.at != q.ends {
			d.Fatalf("%d ended at %d, not at %d", q.n, q.at, q.ends)
		}
	case errors.Is(q.err, ErrTooLarge):
		if !d.m.tooLarge(q.at, q.tenant, &q.r) {
			d.Fatalf("%d is not too large", q.n)
		}
	default:
		d.Fatalf("%d was refused: %v", q.n, q.err)
	}
}

// admitted is told of all that were let in at one time, and of those that ended
// later.
func (d *driver) admitted(at int64, in, rest []*asked) {
	if len(in) == 0 {
		return
	}
	takes := map[*modelBucket][]*Request[string]{}
	for _, q := range in {
		k := d.m.key(q.tenant, q.r.Key)
		if max(d.m.frozen, q.tenant.frozen) > at || k != nil && k.frozen > at {
			d.Fatalf("%d was let in while it was frozen", q.n)
		}
		for _, b := range d.m.levels(at, q.tenant, &q.r) {
			takes[b] = append(takes[b], &q.r)
		}
		for _, o := range slices.Concat(d.waiting, rest) {
			if o.queue() == q.queue() && o.ticket < q.ticket && o.began <= at {
				d.Fatalf("%d was let in before %d, which came sooner", q.n, o.n)
			}
		}
		if !q.r.Free {
			q.tenant.had += float64(q.r.Cost) / float64(max(q.tenant.limits.Weight, 1))
		}
	}
	for b, all := range takes {
		if !b.limited {
			continue
		}
		sum, have := int64(0), b.have(at)
		for _, r := range all {
			sum += int64(r.Cost)
			if need := b.need(r); need < int64(r.Cost) && (len(all) > 1 || have.Cmp(big.NewRat(need, 1)) < 0) {
				d.Fatalf("%+v was let in on debt with %v of %d there, and %d others", r, have, b.burst, len(all)-1)
			}
		}
		if have.Cmp(big.NewRat(sum, 1)) < 0 && !(len(all) == 1 && all[0].Debt && sum > b.burst) {
			d.Fatalf("%d units were taken, of %v", sum, have)
		}
		b.take(at, big.NewRat(sum, 1))
	}
	d.checkStarts(at, in)
	d.checkSlots(in)
	for _, q := range in {
		q.tenant.warm = at + int64(d.s.cfg.WarmFor)
		if q.permit.Ticket() != q.ticket {
			d.Fatalf("%d has ticket %d, not %d", q.n, q.permit.Ticket(), q.ticket)
		}
		d.tickets = append(d.tickets, q.ticket)
		if q.r.Slotless {
			q.permit.Release()
			continue
		}
		d.held = append(d.held, q)
	}
}

// checkSlots gives slots to what was let in at one time, in the order in which
// most may have one: to tenants that hold one already, and to the first request
// of the others after those.
func (d *driver) checkSlots(in []*asked) {
	left := slices.DeleteFunc(slices.Clone(in), func(q *asked) bool { return q.r.Slotless })
	more := func(q *asked) bool { // the tenant gets several
		return slices.ContainsFunc(left, func(o *asked) bool { return o != q && o.tenant == q.tenant })
	}
	for len(left) > 0 {
		i := slices.IndexFunc(left, func(q *asked) bool { return q.tenant.inFlight > 0 })
		if i < 0 {
			i = max(slices.IndexFunc(left, more), 0)
		}
		q := left[i]
		left = slices.Delete(left, i, i+1)
		if !d.m.hasSlot(q.tenant) {
			d.Fatalf("%d was let in without a slot: its tenant has %d of %d in flight, of %d", q.n, q.tenant.inFlight, d.m.inFlight, d.m.slots)
		}
		q.tenant.inFlight++
		d.m.inFlight++
	}
}

func (d *driver) checkStarts(at int64, in []*asked) {
	starts := map[*modelTenant]int{}
	for _, q := range in {
		n := 0
		if q.permit.Began() {
			n = 1
		}
		starts[q.tenant] += n
	}
	sum := int64(0)
	for t, n := range starts {
		cold := d.m.cold(at, t)
		if cold != (n == 1) || n > 1 {
			d.Fatalf("%d requests began a tenant that was cold: %v", n, cold)
		}
		sum += int64(n)
	}
	for _, b := range d.m.starts {
		if sum > 0 && (d.m.startsFrozen > at || b.have(at).Cmp(big.NewRat(sum, 1)) < 0) {
			d.Fatalf("%d tenants began, with starts for %v", sum, b.have(at))
		}
		b.take(at, big.NewRat(sum, 1))
	}
}

// contenders are the first of their queues that no level of their own keeps.
// Where the tenant's units keep one of a gate, that one's turn may be next, so
// the others only may be contenders.
func (d *driver) contenders(now, ago int64) (are, maybe []*asked) {
	heads := map[flowName]*asked{}
	for _, q := range d.waiting {
		if h := heads[q.queue()]; h == nil || q.ticket < h.ticket {
			heads[q.queue()] = q
		}
	}
	gates := map[gateName][]*asked{}
	for name, q := range heads {
		t := q.tenant
		if t.frozen > now-ago || !q.r.Slotless && !d.m.hasSlot(t) {
			continue
		}
		if k := d.m.key(t, q.r.Key); k != nil && d.keyKeeps(now, ago, k, name, q, heads) {
			continue
		}
		gates[name.gateName] = append(gates[name.gateName], q)
	}
	for name, ready := range gates {
		fit := slices.DeleteFunc(slices.Clone(ready), func(q *asked) bool {
			if q.r.Free {
				return false
			}
			b := d.m.class(now, q.tenant, name.class)
			return b.short(now, ago, b.need(&q.r))
		})
		maybe = append(maybe, fit...)
		if len(fit) == len(ready) {
			are = append(are, fit...)
		}
	}
	return are, maybe
}

// keyKeeps reports whether a key makes the first of a queue wait: a freeze, its
// units, or another queue of it whose turn it is.
func (d *driver) keyKeeps(now, ago int64, k *modelKey, name flowName, q *asked, heads map[flowName]*asked) bool {
	if k.frozen > now-ago {
		return true
	}
	b := k.in(now, q.tenant, q.r.KeyClass)
	if q.r.Free && b == nil {
		return false
	}
	if t, ok := d.s.tenants.get(q.r.Tenant); ok {
		if key, ok := d.s.keys.get(ref[string]{t, q.r.Key}); ok && key.claim != nil {
			if first := key.claim.first().req; first.Ticket != q.ticket {
				return true
			}
		} else {
			for lane := range q.r.Lane {
				if heads[flowName{name.gateName, name.key, lane, name.class}] != nil {
					return true
				}
			}
		}
	}
	return b != nil && b.short(now, ago, b.need(&q.r))
}

// checkNobodyWaitsInVain allows for the scheduler's being a moment late, since
// it rounds up. What holds now without that need not have held a moment ago.
func (d *driver) checkNobodyWaitsInVain() {
	if d.waitsInVain(0) != nil {
		if q := d.waitsInVain(moment); q != nil {
			d.Fatalf("%d waits, though nothing keeps it: %+v\n%s", q.n, q.r, describe(d.s))
		}
	}
}

// waitsInVain returns one who waits though no level keeps it, nor did a while
// ago.
func (d *driver) waitsInVain(ago int64) *asked {
	now := d.s.now()
	for _, t := range d.m.tenants {
		t.contending = false
	}
	if d.m.frozen > now-ago {
		return nil
	}
	starts := d.m.startsFrozen <= now-ago
	for _, b := range d.m.starts {
		starts = starts && !b.short(now, ago, 1)
	}
	short := func(q *asked) bool {
		return !q.r.Free && d.m.total.short(now, ago, d.m.total.need(&q.r))
	}
	// Of the cold ones of each queue only the first is let in at a time.
	first := func(q *asked) bool {
		t, _ := d.s.tenants.get(q.r.Tenant)
		list := &d.s.queueOf(d.s.gate(t, &q.r)).starting
		return !d.m.cold(now, q.tenant) || list.n == 0 || list.first.of == t
	}
	// These are the ones whose turn it may be.
	kept := func(q *asked) bool { return d.m.cold(now, q.tenant) && !starts }
	are, maybe := d.contenders(now, ago)
	are, maybe = slices.DeleteFunc(are, kept), slices.DeleteFunc(maybe, kept)
	totalShort := slices.ContainsFunc(maybe, func(q *asked) bool { return first(q) && short(q) })
	for _, q := range are {
		if !q.r.Free && totalShort {
			q.tenant.contending = q.tenant.contending || !d.m.cold(now, q.tenant)
			continue
		}
		firstOfQueue := func(o *asked) bool {
			return first(o) && o.r.Free == q.r.Free && o.r.Slotless == q.r.Slotless && (o.tenant.inFlight == 0) == (q.tenant.inFlight == 0)
		}
		if first(q) || !slices.ContainsFunc(maybe, firstOfQueue) {
			return q
		}
	}
	return nil
}

// checkFairness holds that of two tenants that both waited for nothing but the
// units of all, neither got more than by its weight.
func (d *driver) checkFairness() {
	for _, t := range d.m.tenants {
		t.lightest = min(t.lightest, float64(max(t.limits.Weight, 1)))
		if !t.contending {
			t.epoch++
		}
	}
	for a, x := range d.m.tenants {
		for b, y := range d.m.tenants {
			if a >= b || !x.contending || !y.contending {
				continue
			}
			f, found := d.lately[[2]string{a, b}]
			if epochs := [2]int{x.epoch, y.epoch}; !found || f.epochs != epochs {
				d.lately[[2]string{a, b}] = fairness{epochs, [2]float64{x.had, y.had}}
				continue
			}
			apart := math.Abs((x.had - f.had[0]) - (y.had - f.had[1]))
			// What they had just before counts too, at the weight of then.
			most := d.largest/x.lightest + d.largest/y.lightest
			if apart > most+1e-6 {
				d.Fatalf("%s had %g and %s %g, by weight", a, x.had-f.had[0], b, y.had-f.had[1])
			}
		}
	}
}

// end lets everything go, and holds that nothing is left.
func (d *driver) end() {
	d.s.Thaw(Scope[string]{})
	d.s.Thaw(Scope[string]{Level: LevelStarts})
	d.m.frozen, d.m.startsFrozen = 0, 0
	for name, t := range d.m.tenants {
		d.s.Thaw(Scope[string]{Level: LevelTenant, Tenant: name})
		t.frozen = 0
		for key, k := range t.keys {
			d.s.Thaw(Scope[string]{Level: LevelKey, Tenant: name, Key: key})
			k.frozen = 0
		}
		d.check()
	}
	now := d.s.now()
	none := Limits{}
	_ = d.s.SetDefault(none)
	d.m.common = &none
	for name, t := range d.m.tenants {
		if !t.own {
			d.m.apply(now, t, &none, d.waits(name))
		}
	}
	d.check()
	for name, t := range d.m.tenants {
		d.s.ResetTenant(name)
		t.own = false
		d.m.apply(now, t, &none, d.waits(name))
		d.check()
	}
	_ = d.s.SetTotal(Unlimited, 0)
	d.m.total.set(now, Unlimited)
	d.m.slots = 0
	d.check()
	for until := now + int64(time.Minute); len(d.waiting) > 0; d.check() { // for starts
		if now = d.s.now(); now > until {
			d.Fatalf("%d wait for ever", len(d.waiting))
		}
		time.Sleep(time.Duration(min(d.event(now), until+1) - now))
	}
	for len(d.held) > 0 {
		d.let(len(d.held) - 1)
	}
	d.check()
	if d.s.timer != nil && d.s.timer.Stop() {
		d.Fatalf("the timer runs though nobody waits")
	}
	if n := d.s.alarms.len(); n > 0 {
		d.Fatalf("%d alarms are set though nobody waits", n)
	}
}

// checkStructure holds that what a scheduler keeps twice agrees.
func checkStructure[K comparable](fatalf func(string, ...any), s *Scheduler[K]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fail := func(format string, args ...any) { fatalf("structure: "+format, args...) }
	waiting, inFlight, keys, starting := 0, 0, 0, 0
	known := map[*key[K]]bool{}
	for _, k := range s.keys.values() {
		known[k] = true
		keys++
	}
	perTenant := map[*tenant[K]]int{}
	for k := range known {
		perTenant[k.tenant]++
		claimed := k.claim == nil
		for _, f := range k.flows {
			claimed = claimed || f == k.claim
			if f.key != k {
				fail("a flow is of another key")
			}
		}
		if !claimed {
			fail("a claim is of no flow")
		}
	}
	for k := range s.frozenKeys {
		if !known[k] {
			fail("a key that is forgotten counts as frozen")
		}
	}
	queuedGates := map[*queue[K]]int{}
	for _, tn := range s.tenants.values() {
		inFlight += tn.inFlight
		if tn.keys != perTenant[tn] {
			fail("a tenant has %d keys, not %d", perTenant[tn], tn.keys)
		}
		ofTenant := 0
		lists := 0
		for _, q := range s.queues() {
			if tn.startsIn(q) {
				lists++
			}
		}
		if lists != tn.startIn {
			fail("a tenant is in %d lists, not %d", lists, tn.startIn)
		}
		if lists > 0 {
			starting++
		}
		for _, g := range tn.gates {
			if g == nil {
				continue
			}
			ready := 0
			for i := range g.lanes {
				ready += g.lanes[i].flows.n
			}
			if g.ready != ready {
				fail("a gate has %d ready flows, not %d", ready, g.ready)
			}
			if (g.state == resting) != (ready == 0) || (g.state == queued) != (g.pos > 0) {
				fail("a gate with %d ready flows is in state %d at %d", ready, g.state, g.pos)
			}
			if g.state == unbegun && !tn.startsIn(g.queue) {
				fail("an unbegun gate's tenant waits for no start")
			}
			if g.state == queued {
				queuedGates[g.queue]++
			}
			if (g.state == queued || g.state == unbegun) && g.queue != s.queueOf(g) {
				fail("a gate is in another queue than its tenant's slots say")
			}
			if g.state == parked && tn.inFlight < tn.limits.InFlight && tn != s.capped {
				fail("a gate is parked though its tenant may have one more slot")
			}
			for _, f := range g.flows() {
				cost := 0
				last := uint64(0)
				for e := f.waiters.first; e != nil; e = e.next {
					if e.of.flow != f || e.of.req.Ticket < last {
						fail("a waiter is out of place")
					}
					last = e.of.req.Ticket
					cost += e.of.req.Cost
					ofTenant++
				}
				if f.waiters.n == 0 || f.cost != cost {
					fail("a flow of %d costs %d, not %d", f.waiters.n, cost, f.cost)
				}
				if f.key != nil && !known[f.key] {
					fail("a key that is waited for is forgotten")
				}
			}
		}
		if tn.waiting != ofTenant {
			fail("%d of a tenant wait, not %d", ofTenant, tn.waiting)
		}
		waiting += ofTenant
	}
	if s.waiting != waiting || s.inFlight != inFlight || starting != s.starting {
		fail("%d wait, %d in flight, %d starting; not %d, %d, %d", waiting, inFlight, starting, s.waiting, s.inFlight, s.starting)
	}
	for _, q := range s.queues() {
		if q.gates.len() != queuedGates[q] {
			fail("a queue has %d gates, not %d", q.gates.len(), queuedGates[q])
		}
		checkHeap(fail, &q.gates)
	}
	checkHeap(fail, &s.alarms)
}

func checkHeap[T item[T]](fail func(string, ...any), h *heap[T]) {
	for i, x := range h.items {
		if *x.position() != i+1 {
			fail("an item at %d says %d", i+1, *x.position())
		}
		if i > 0 && x.before(h.items[(i-1)/2]) {
			fail("an item is before its parent")
		}
	}
}

// describe tells what a scheduler knows, for who looks for a difference.
func describe(s *Scheduler[string]) string {
	out := fmt.Sprintf("at %d: total %+v, %d/%v slots, retry %d, starts %+v, frozen %d, %d starting, armed %d\n", s.now(), s.total, s.inFlight, s.slots, s.retry, s.starts, s.startsFrozen, s.starting, s.armed)
	for _, t := range s.tenants.values() {
		out += fmt.Sprintf(" tenant %s, frozen %d, warm %d, %d in flight, %d wait, %+v\n", t.id(), t.frozen, t.warm, t.inFlight, t.waiting, *t.limits)
		for i, g := range t.gates {
			if g == nil || g.state == resting {
				continue
			}
			out += fmt.Sprintf("  gate %d, state %d, tag %d, %+v, alarm %d\n", i, g.state, *g.tag, *g.bucket, g.alarm.at)
			for _, f := range g.flows() {
				out += fmt.Sprintf("   lane %d, sleeps %v, alarm %d, delay %d, %+v\n    key %+v\n", f.lane, f.sleeps(), f.alarm.at, f.delay(s.now()), f.first().req, f.key)
			}
		}
	}
	return out
}
