package ratelimit

import "slices"

// Move makes what is known of a key that of another: units that are missing,
// freeze, and who waits. It is for a key that was found to be the same as
// another, or became it.
//
// Where the other one is known too, both become one: units that are missing add
// up, the longer freeze holds, and all who wait do so in the order in which they
// came. So from then on both together keep to the limit of one. Requests for the
// old key should end; those that come begin anew.
func (s *Scheduler[K]) Move(tenant string, from, to K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var none K
	t, found := s.tenants.get(tenant)
	if !found || from == to || from == none || to == none || !same(to, to) {
		return
	}
	old, found := s.keys.get(ref[K]{t, from})
	if !found {
		return
	}
	now := s.now()
	if old.class >= 0 {
		old.in(now, int(old.class))
	}
	s.keys.remove(old)
	if other, found := s.keys.get(ref[K]{t, to}); found {
		s.merge(now, old, other)
		s.forgotten(old)
		s.pump(now)
		return
	}
	s.keys.put(ref[K]{t, to}, old)
}

// merge makes two keys one, the other.
func (s *Scheduler[K]) merge(now int64, old, other *key[K]) {
	if other.class >= 0 {
		other.in(now, int(other.class))
	}
	if other.bucket.interval == 0 {
		// It never had a limit, so whatever the bucket has missing is the old's.
		other.bucket, other.limits, other.class, other.open = old.bucket, old.limits, old.class, old.open
	} else {
		other.bucket.miss(now, &old.bucket)
	}
	if old.frozen > now {
		s.freezeKey(other, old.frozen)
	}
	other.used = max(other.used, old.used)
	for _, h := range old.holds {
		other.keep(h)
		s.holders[h.ticket] = other
	}
	old.holds, old.claim = nil, nil
	for _, f := range slices.Clone(old.flows) {
		if into := flowOf(f.gate, other, f.flowID); into != nil {
			into.merge(f)
			s.drop(f)
		} else {
			f.key = other
			other.flows = append(other.flows, f)
		}
	}
	old.flows = nil
	for _, f := range slices.Clone(other.flows) {
		s.changed(now, f)
	}
}

// merge takes over all who wait in another flow, in the order of their tickets.
func (f *flow[K]) merge(from *flow[K]) {
	next := f.waiters.first
	for from.waiters.n > 0 {
		w := from.first()
		for next != nil && next.of.req.Ticket < w.req.Ticket {
			next = next.next
		}
		w.place.leave()
		w.flow = f
		f.waiters.insertBefore(&w.place, next)
	}
	f.cost += from.cost
	from.cost = 0
}
