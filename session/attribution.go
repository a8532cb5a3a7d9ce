package session

import (
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// attribution decides to whom a 429, a failure or a slow call belongs. Neither
// says it: a 429 may be about a chat, a bot or the source address, and one bot's
// failure looks like the platform's. The limiter and the breakers obey it and
// have no rules of their own.
//
// A 429 belongs to
//
//   - its chat, and there to the method, always;
//   - its tenant too, if [chatsInARow] of the tenant's chats were refused in a
//     row;
//   - all too, if enough independent tenants were refused in a row.
//
// A failure (no answer, a server error) belongs to
//
//   - all, if enough independent tenants failed in a row;
//   - its tenant, if the tenant's call before failed too;
//   - nobody otherwise: one failure may be anything.
//
// A slow call belongs to all, if half of the active tenants are slow and
// independent, or enough of them and no call was answered quickly for
// [slowAfter]. It never belongs to its tenant alone, which would only lose its
// own slow calls by it.
//
// A row ends when [rowTime] passes without a trouble of its kind, and with the
// first success. A call that began before the row says nothing about it: calls
// that were under way together are one event.
//
// Tenants are independent if their owners differ. A tenant without an owner
// counts as its own, and such tenants are at most a third of those that count,
// if the service sets owners at all. Enough are a third of the tenants that were
// active in the last [activeTime], at least [fewest], at most [most], and all of
// a fleet that is smaller.
//
// A verdict about all is a guess, so it lasts for [wideTime] at most and ends
// with the first success. It binds suspects, which are tenants with trouble of
// their own in the last [suspectTime]. The call of an innocent tenant is the best
// probe there is, so it passes.
type attribution struct {
	owner func(tenant string) string // nil: nobody has one
	known func() int                 // how many tenants there are; nil: many
	base  time.Time
	// troubles counts the tenants with trouble, so that a success looks no
	// further while there are none.
	troubles atomic.Int64
	activity activity
	owned    atomic.Bool // a tenant with an owner was seen

	mu      sync.Mutex // guards what follows; nothing is called under it
	tenants map[string]*trouble
	latest  time.Time // of any trouble
	refused row       // of tenants, by 429s
	starts  row       // of cold tenants, by 429s
	failed  row
	slow    map[string]slowTenant
	calls   callList
	// slowAt is when slowness was judged last, and slowWas the verdict.
	slowAt  time.Time
	slowWas bool
	quickAt time.Time // when a call was answered quickly
	made    Verdicts
}

const (
	chatsInARow  = 2
	startsInARow = 2
	fewest       = 3
	most         = 30
	rowTime      = 10 * time.Second
	activeTime   = 10 * time.Second
	failedTime   = time.Minute // how long a failure is the one before
	suspectTime  = 10 * time.Minute
	wideTime     = 30 * time.Second
	slowAfter    = 7 * time.Second
	// maxTroubles bounds the memory. When as many tenants are in trouble within
	// a row's time, it is nobody's own.
	maxTroubles = 10_000
)

// trouble is what is known of a tenant that was refused or failed.
type trouble struct {
	last    time.Time // of any kind
	refused places    // its chats, by 429s
	failed  time.Time // its last failure since its last answer
}

// places are the chats of a tenant that were refused in a row.
type places struct {
	since, last, until time.Time
	of                 []place
}

// row is witnesses of one kind of trouble, in a row.
type row struct {
	since, last time.Time
	until       time.Time           // the end of the shortest wait
	owned       map[string]struct{} // owners
	ownerless   map[string]struct{} // tenants without
}

// continues reports whether a trouble of a call from start to now belongs to
// the row, and begins a new row where there is none. It is false for a call
// that was under way when the row began.
func (r *row) continues(start, now, until time.Time) bool {
	if r.since.IsZero() || now.Sub(r.last) > rowTime {
		*r = row{since: now, last: now, until: until}
		return true
	}
	if start.Before(r.since) {
		return false
	}
	r.last = now
	if until.Before(r.until) {
		r.until = until
	}
	return true
}

// witness adds a tenant.
func (r *row) witness(tenant, owner string) {
	set := &r.owned
	if owner == "" {
		set, owner = &r.ownerless, tenant
	}
	if *set == nil {
		*set = make(map[string]struct{})
	}
	if len(*set) < most {
		(*set)[owner] = struct{}{}
	}
}

// independent returns the number of witnesses that count.
func independent(owned, ownerless int, ownersKnown bool) int {
	if ownersKnown {
		ownerless = min(ownerless, owned/2)
	}
	return owned + ownerless
}

// end ends the row if a call that began at start belongs to its time.
func (r *row) end(start time.Time) bool {
	if r.since.IsZero() || !start.After(r.since) {
		return false
	}
	*r = row{}
	return true
}

func newAttribution(owner func(tenant string) string) *attribution {
	return &attribution{
		owner: owner, base: time.Now(),
		tenants: make(map[string]*trouble), slow: make(map[string]slowTenant),
	}
}

// clock returns the time for a call that begins, with a monotonic reading only,
// which costs half.
func (a *attribution) clock() time.Time { return a.base.Add(time.Since(a.base)) }

func (a *attribution) ownerOf(tenant string) string {
	if a.owner == nil {
		return ""
	}
	owner := a.owner(tenant)
	if owner != "" {
		a.owned.Store(true)
	}
	return owner
}

// needed returns how many independent witnesses a verdict about all needs.
func (a *attribution) needed(now time.Time) int {
	third := (a.activity.count(now) + 2) / 3
	return a.atMostAll(min(max(third, fewest), most))
}

func (a *attribution) atMostAll(n int) int {
	if a.known == nil {
		return n
	}
	return max(min(n, a.known()), 1)
}

// verdict is the decision about a 429, beside its own chat.
type verdict struct {
	scope errors.Scope
	until time.Time // when the wider scope may be used again
	// starts says that no cold tenant should begin until startsUntil.
	starts      bool
	startsUntil time.Time
}

// of429 attributes a 429 of a call from start to now, which asks for a wait
// until a time. began says that the tenant was cold.
func (a *attribution) of429(tenant string, at place, began bool, start, now, until time.Time) (v verdict) {
	owner := a.ownerOf(tenant)
	a.mu.Lock()
	defer a.mu.Unlock()
	defer func() {
		switch v.scope {
		case errors.ScopeAll:
			a.made.RefusedAll++
		case errors.ScopeTenant:
			a.made.RefusedTenant++
		default:
			a.made.RefusedChat++
		}
	}()
	v.scope = errors.ScopeChat
	t := a.troubleOf(tenant, now)
	p := &t.refused
	switch {
	case len(p.of) == 0 || now.Sub(p.last) > rowTime:
		*p = places{since: now, last: now, until: until, of: append(p.of[:0], at)}
	case start.Before(p.since): // under way when the row began
	default:
		p.last = now
		if until.Before(p.until) {
			p.until = until
		}
		if len(p.of) < chatsInARow && !slices.Contains(p.of, at) {
			p.of = append(p.of, at)
		}
	}
	if len(p.of) >= chatsInARow {
		v.scope, v.until = errors.ScopeTenant, p.until
	}
	if began {
		if a.starts.continues(start, now, until) {
			a.starts.witness(tenant, owner)
		}
		if a.starts.count(a.owned.Load()) >= startsInARow {
			v.starts, v.startsUntil = true, earlier(a.starts.until, now.Add(wideTime))
		}
		return v
	}
	if a.refused.continues(start, now, until) {
		a.refused.witness(tenant, owner)
	}
	if n := a.refused.count(a.owned.Load()); n >= fewest && n >= a.needed(now) {
		v.scope, v.until = errors.ScopeAll, earlier(a.refused.until, now.Add(wideTime))
	}
	return v
}

func (r *row) count(ownersKnown bool) int {
	return independent(len(r.owned), len(r.ownerless), ownersKnown)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// ofFailure attributes a failure of a call from start to now.
func (a *attribution) ofFailure(tenant string, start, now time.Time) errors.Scope {
	owner := a.ownerOf(tenant)
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.troubleOf(tenant, now)
	before := t.failed
	inTurn := !before.IsZero() && now.Sub(before) <= failedTime && !start.Before(before)
	t.failed = now
	if a.failed.since.IsZero() || now.Sub(a.failed.last) > failedTime {
		a.failed = row{since: now, until: now}
	}
	a.failed.last = now
	a.failed.witness(tenant, owner)
	switch {
	case a.failed.count(a.owned.Load()) >= a.needed(now):
		a.made.FailedAll++
		return errors.ScopeAll
	case inTurn:
		a.made.FailedTenant++
		return errors.ScopeTenant
	}
	a.made.FailedNobody++
	return errors.ScopeUnknown
}

// count returns the verdicts so far.
func (a *attribution) count() Verdicts {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.made
}

// troubleOf returns what is known of a tenant, and notes that it is in trouble.
// The lock is held.
func (a *attribution) troubleOf(tenant string, now time.Time) *trouble {
	a.latest = now
	t := a.tenants[tenant]
	if t == nil {
		t = new(trouble)
		if len(a.tenants) < maxTroubles || a.forget(now) {
			a.tenants[tenant] = t
			a.troubles.Store(int64(len(a.tenants)))
		}
	}
	t.last = now
	return t
}

// forget drops a few tenants without recent trouble and reports whether it did.
// It looks at few, because an outage is the moment when this must be cheap.
func (a *attribution) forget(now time.Time) bool {
	looked, dropped := 0, false
	for tenant, t := range a.tenants {
		if now.Sub(t.last) > suspectTime {
			delete(a.tenants, tenant)
			dropped = true
		}
		if looked++; looked >= 8 {
			break
		}
	}
	return dropped
}

// innocent reports whether a tenant had no trouble of its own in the last
// suspectTime.
func (a *attribution) innocent(tenant string, now time.Time) bool {
	if a.troubles.Load() == 0 {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.tenants[tenant]
	return t == nil && len(a.tenants) < maxTroubles || t != nil && now.Sub(t.last) > suspectTime
}

// answered notes that the platform answered a tenant's call.
func (a *attribution) answered(tenant string) {
	if a.troubles.Load() == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if t := a.tenants[tenant]; t != nil {
		t.failed = time.Time{}
	}
	a.failed = row{}
}

// succeeded notes a call of a tenant that Telegram carried out. It reports
// whether that ends a row of 429s, of all tenants or of cold ones.
func (a *attribution) succeeded(tenant string, began bool, start, now time.Time) (refused, starts bool) {
	if a.troubles.Load() == 0 {
		return false, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if t := a.tenants[tenant]; t != nil && start.After(t.refused.since) {
		t.refused = places{of: t.refused.of[:0]}
	}
	refused = a.refused.end(start)
	if began {
		starts = a.starts.end(start)
	}
	if now.Sub(a.latest) > suspectTime {
		clear(a.tenants)
		a.troubles.Store(0)
	}
	return refused, starts
}

// callList is the calls under way in the order in which they began. Those that
// have lasted for slowAfter count as slow while they are under way.
type callList struct {
	first, last *callNode
	// next is the first that has not been counted as slow.
	next *callNode
}

// callNode is a call's place in the list.
type callNode struct {
	before, after *callNode
	tenant, owner string
	start         time.Time
	listed, slow  bool // slow: it was counted as such
}

// slowTenant is a tenant with a slow call.
type slowTenant struct {
	owner string
	at    time.Time // when it was slow last
	calls int       // that were slow
}

// begin puts a call into the list.
func (a *attribution) begin(n *callNode, tenant string, start time.Time) {
	a.activity.note(tenant, start)
	owner := a.ownerOf(tenant)
	a.mu.Lock()
	defer a.mu.Unlock()
	*n = callNode{tenant: tenant, owner: owner, start: start, before: a.calls.last, listed: true}
	if a.calls.last != nil {
		a.calls.last.after = n
	} else {
		a.calls.first = n
	}
	a.calls.last = n
	if a.calls.next == nil {
		a.calls.next = n
	}
}

// finish takes a call out of the list. It reports whether the platform is slow.
func (a *attribution) finish(n *callNode, now time.Time, answered bool) (slow bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := &a.calls
	if l.next == n {
		l.next = n.after
	}
	if n.before != nil {
		n.before.after = n.after
	} else {
		l.first = n.after
	}
	if n.after != nil {
		n.after.before = n.before
	} else {
		l.last = n.before
	}
	n.before, n.after, n.listed = nil, nil, false
	switch {
	case now.Sub(n.start) >= slowAfter:
		if !n.slow {
			a.noteSlow(n, now)
		}
	case answered:
		a.quickAt = now
		if len(a.slow) > 0 {
			delete(a.slow, n.tenant)
		}
	}
	return a.slowNow(now)
}

// overdue reports whether the platform is slow, at a moment when no call ends.
func (a *attribution) overdue(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.slowNow(now)
}

// notSlow forgets who was slow, since a probe has shown that the platform is not.
func (a *attribution) notSlow() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.slow)
	a.slowWas = false
}

// slowNow judges, a few times a second. The lock is held.
func (a *attribution) slowNow(now time.Time) bool {
	for n := a.calls.next; n != nil && now.Sub(n.start) >= slowAfter; n = n.after {
		n.slow = true
		a.noteSlow(n, now)
		a.calls.next = n.after
	}
	if len(a.slow) == 0 {
		return false
	}
	if now.Sub(a.slowAt) < slowJudged {
		return a.slowWas
	}
	a.slowAt = now
	owned, ownerless, calls := make(map[string]struct{}), 0, 0
	for tenant, slow := range a.slow {
		calls += slow.calls
		switch {
		case now.Sub(slow.at) > activeTime:
			delete(a.slow, tenant)
		case slow.owner != "":
			owned[slow.owner] = struct{}{}
		default:
			ownerless++
		}
	}
	enough := a.atMostAll(max((a.activity.count(now)+1)/2, fewest))
	if now.Sub(a.quickAt) >= slowAfter {
		enough = min(enough, a.needed(now))
	}
	was := a.slowWas
	a.slowWas = calls >= fewestSlow && independent(len(owned), ownerless, a.owned.Load()) >= enough
	if a.slowWas && !was {
		a.made.SlowAll++
	}
	return a.slowWas
}

const (
	slowJudged = 100 * time.Millisecond
	fewestSlow = 10 // calls, of all tenants
	maxSlow    = 5_000
)

func (a *attribution) noteSlow(n *callNode, now time.Time) {
	former, known := a.slow[n.tenant]
	if known || len(a.slow) < maxSlow {
		a.slow[n.tenant] = slowTenant{n.owner, now, former.calls + 1}
	}
}

// activity estimates how many tenants were active in the last activeTime, by
// linear counting (Whang and others, 1990): each sets a bit by its hash, and the
// share of bits that are still clear tells how many there were. Windows take
// turns, so the estimate is of one to two of them.
type activity struct {
	windows [2]struct {
		number atomic.Int64
		bits   [activityBits / 64]atomic.Uint64
	}
	seed maphash.Seed
	once sync.Once
}

const activityBits = 1 << 14

func (v *activity) hash(tenant string) uint64 {
	v.once.Do(func() { v.seed = maphash.MakeSeed() })
	return maphash.String(v.seed, tenant)
}

func (v *activity) note(tenant string, now time.Time) {
	number := now.UnixNano() / int64(activeTime)
	w := &v.windows[number&1]
	if old := w.number.Load(); old != number && w.number.CompareAndSwap(old, number) {
		for i := range w.bits {
			w.bits[i].Store(0)
		}
	}
	h := v.hash(tenant) % activityBits
	word, bit := &w.bits[h/64], uint64(1)<<(h%64)
	if word.Load()&bit == 0 {
		word.Or(bit)
	}
}

func (v *activity) count(now time.Time) int {
	number := now.UnixNano() / int64(activeTime)
	clear := activityBits
	for i := range v.windows[0].bits {
		var word uint64
		for k := range v.windows {
			if w := &v.windows[k]; number-w.number.Load() <= 1 {
				word |= w.bits[i].Load()
			}
		}
		clear -= bits.OnesCount64(word)
	}
	if clear == 0 {
		clear = 1
	}
	return int(math.Round(-activityBits * math.Log(float64(clear)/activityBits)))
}
