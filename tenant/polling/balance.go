package polling

import (
	"context"
	"hash/fnv"
	"slices"
	"time"
)

// The processes that share leases poll about equally many tenants each. All of
// them know of each other by their heartbeats, and so each can tell what its
// share is. One that has more gives some of its leases back, and looks a moment
// later whether others took them; what nobody took it polls on. Those that have
// less look often at what is likely to be given: all agree on an order.

// beatsPerTTL is how often a process tells of itself, and looks at what others
// do, in a LeaseTTL. What is given waits for two of these.
const beatsPerTTL = 10

// The most leases that are given away at one time. It begins with one, and
// doubles while others take them.
const maxGiven = leaseBatch / 2

// shares divides tenants among those who want some, as equally as their wants
// let it be, rounded up.
func shares(wants map[string]int, tenants int) map[string]int {
	sorted := make([]int, 0, len(wants))
	for _, w := range wants {
		if w > 0 {
			sorted = append(sorted, w)
		}
	}
	slices.Sort(sorted)
	level := 0
	for i, w := range sorted {
		n := len(sorted) - i
		level = (tenants + n - 1) / n
		if w >= level {
			break
		}
		tenants -= w
	}
	each := make(map[string]int, len(wants))
	for owner, w := range wants {
		each[owner] = min(w, level)
	}
	return each
}

// slack is by how many a share may be exceeded before any are given away, so
// that they do not go back and forth when tenants come and go.
func slack(share int) int { return 1 + share/20 }

// balance is what the keeper knows of the other processes.
type balance struct {
	beatAt  time.Time
	heard   time.Time      // when a heartbeat last came through
	deaf    int            // heartbeats that failed in a row
	shares  map[string]int // by owner; nil while nothing is known
	rich    map[string]bool
	missing map[string]time.Time // who has leases and is not heard, and since when

	giving bool
	giveAt time.Time
	pace   int      // how many to give at one time
	given  []*entry // and not known yet who has them
	kept   int      // of these, that nobody took
	shy    int      // how often in a row nobody took any
}

// beat tells of this process and hears of the others, when it is time.
func (k *keeper) beat() {
	now := time.Now()
	if now.Before(k.beatAt) {
		return
	}
	k.mu.Lock()
	if k.phase != running {
		k.mu.Unlock()
		return
	}
	tenants := 0
	for _, e := range k.entries {
		if e.wanted && e.status.State != Stopped {
			tenants++
		}
	}
	want := tenants
	if k.cfg.MaxTenants > 0 {
		want = min(want, k.cfg.MaxTenants)
	}
	if now.Before(k.distrust.until) || k.failures > 0 && now.Sub(k.reached) >= k.cfg.LeaseTTL {
		want = 0 // it could not poll what others leave to it
	}
	k.mu.Unlock()
	var wants map[string]int
	err := k.try(&k.deaf, "other processes that poll can't be heard", func(ctx context.Context) (err error) {
		wants, err = k.cfg.Leases.Heartbeat(ctx, k.cfg.Owner, want, k.cfg.LeaseTTL)
		return err
	})
	now = time.Now()
	k.beatAt = now.Add(k.cfg.LeaseTTL / beatsPerTTL)
	if err != nil {
		k.unheard(now)
		return
	}
	k.heard = now
	if wants == nil {
		wants = make(map[string]int)
	}
	wants[k.cfg.Owner] = want
	k.shares = shares(wants, tenants)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.share, k.sharers, k.counted = k.shares[k.cfg.Owner], len(wants), len(k.entries)
	if len(wants) == 1 || !wanted(wants) {
		k.share = -1
	}
	k.expect(now)
	k.give(now)
}

// unheard is what follows from a heartbeat that failed. What was heard before is
// true for as long as it would be of others that are silent; after that nothing
// is known of them, and what they poll is told by the leases alone.
func (k *keeper) unheard(now time.Time) {
	wait := k.cfg.LeaseTTL / beatsPerTTL << min(k.deaf-1, 4)
	k.beatAt = now.Add(min(wait, k.cfg.LeaseTTL))
	if over := k.heard.Add(k.cfg.LeaseTTL); now.Before(over) {
		k.beatAt = earlier(k.beatAt, over)
		return
	}
	k.shares, k.rich, k.missing, k.giving = nil, nil, nil, false
	k.mu.Lock()
	defer k.mu.Unlock()
	k.share = -1
}

// wanted reports whether anybody wants any tenants. All may have lost the
// network at one time; then a tenant is better tried by whoever can.
func wanted(wants map[string]int) bool {
	for _, w := range wants {
		if w > 0 {
			return true
		}
	}
	return false
}

// leave tells the others not to count on this process any more.
func (k *keeper) leave() {
	_ = k.call(func(ctx context.Context) error {
		_, err := k.cfg.Leases.Heartbeat(ctx, k.cfg.Owner, 0, 0)
		return err
	})
}

// free is how many more tenants belong to this process's share. The lock is
// held.
func (s *Supervisor) free() int {
	if s.share < 0 {
		return len(s.entries)
	}
	n := s.share - s.loops
	if grown := len(s.entries) - s.counted; grown > 0 {
		n += (grown + s.sharers - 1) / s.sharers
	}
	return n
}

// late is for how long a tenant waits for a process that has not its share yet,
// before it is polled by another.
func (s *Supervisor) late() time.Duration { return 2 * s.cfg.LeaseTTL }

// expect has those tenants looked at now that others no longer poll, or may be
// about to give away. The lock is held.
func (k *keeper) expect(now time.Time) {
	missing := k.missing
	k.missing = make(map[string]time.Time)
	if k.free() <= 0 {
		k.rich = nil
		return
	}
	of := make(map[string][]*entry)
	for _, e := range k.entries {
		if e.busy != resting || !e.wanted || e.status.State != Standby {
			continue
		}
		if _, there := k.shares[e.status.Holder]; !there {
			if k.ends(e.status.Holder, missing, now) {
				e.change(Waiting, now)
				k.queue.put(e, now)
			}
			continue
		}
		of[e.status.Holder] = append(of[e.status.Holder], e)
	}
	rich := make(map[string]bool)
	var look []*entry
	for holder, held := range of {
		share := k.shares[holder]
		if len(held) > share+slack(share) || len(held) > share && k.rich[holder] {
			rich[holder] = true
			look = append(look, held...)
		}
	}
	k.rich = rich
	for _, e := range first(look, leaseBatch) {
		k.queue.put(e, now)
	}
}

// ends reports whether the leases of a process that is not heard may be about to
// end. Those that are extended all the same are looked at as all others are.
func (k *keeper) ends(holder string, missing map[string]time.Time, now time.Time) bool {
	since, known := missing[holder]
	if !known {
		since = now
	}
	k.missing[holder] = since
	return now.Sub(since) < k.cfg.LeaseTTL
}

// give ends the loops of tenants that others are to have. The lock is held.
func (k *keeper) give(now time.Time) {
	waits := func(e *entry) bool {
		return e.given && k.entries[e.id] == e && e.wanted && (e.busy != resting || e.place >= 0)
	}
	if slices.ContainsFunc(k.given, waits) {
		return
	}
	if n := len(k.given); n > 0 {
		switch {
		case k.kept > 0:
			k.pace, k.shy = max(1, k.pace/2), k.shy+1
			k.giveAt = now.Add(backoff{k.cfg.LeaseTTL, 16 * k.cfg.LeaseTTL}.after(k.shy))
		default:
			k.pace, k.shy = min(2*k.pace, maxGiven), 0
		}
		k.given, k.kept = nil, 0
	}
	excess := k.Supervisor.loops - k.share
	switch {
	case k.share < 0:
		k.giving, k.pace, k.shy = false, 1, 0
		return
	case excess <= 0, k.shy > 0 && excess <= slack(k.share):
		k.giving, k.pace, k.shy = false, 1, 0
		return
	case !k.giving && excess <= slack(k.share), len(k.shares) < 2, now.Before(k.giveAt):
		return
	case k.distrust.count > 0: // they end by themselves
		return
	}
	k.giving = true
	var loops []*entry
	for _, e := range k.entries {
		if e.busy == looping && e.wanted && !e.slot && !e.until.IsZero() {
			loops = append(loops, e)
		}
	}
	for _, e := range first(loops, min(excess, max(k.pace, 1))) {
		e.given = true
		e.cancel(errGiven)
		k.given = append(k.given, e)
	}
}

// answered notes who has an entry that was given away. The lock is held.
func (k *keeper) answered(e *entry, holder string) {
	if !e.given {
		return
	}
	e.given = false
	if holder == k.cfg.Owner {
		k.kept++
		return
	}
	k.stats.Given++
}

// first returns the n entries that are first in the order that all processes
// agree on.
func first(entries []*entry, n int) []*entry {
	if len(entries) > n {
		slices.SortFunc(entries, func(a, b *entry) int {
			if a.order != b.order {
				if a.order < b.order {
					return -1
				}
				return 1
			}
			return 0
		})
		entries = entries[:n]
	}
	return entries
}

// orderOf is where a tenant stands in that order.
func orderOf(id string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	return h.Sum32()
}

// distrust is what a process thinks of its own network.
type distrust struct {
	count int       // how often it had tenants yielded since a call came through
	until time.Time // when to ask for tenants again
}

// yielded notes that a tenant is given back because nothing comes through. The
// lock is held.
func (s *Supervisor) yielded(now time.Time) {
	if now.Before(s.distrust.until) {
		return
	}
	s.distrust.count++
	s.distrust.until = now.Add(backoff{s.cfg.YieldAfter, 4 * s.cfg.YieldAfter}.after(s.distrust.count))
}
