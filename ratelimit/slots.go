package ratelimit

import "math"

// slots say how many requests may be under way at once, and how many of them a
// tenant may have, so that no tenant can take them all.
type slots struct {
	all    int // slots that there are
	shared int // of them, those that tenants which hold a slot already may fill
	most   int // that one tenant may hold
}

// newSlots returns n slots, unbounded if n is 0 or less. A quarter of them,
// rounded up, is kept for tenants that hold none. One tenant may hold half of
// them, rounded up.
func newSlots(n int) slots {
	if n <= 0 {
		return slots{math.MaxInt, math.MaxInt, math.MaxInt}
	}
	return slots{all: n, shared: n - 1 - (n-1)/4, most: n - n/2}
}

// hasSlot reports whether there is a slot that the tenant may take now.
func (s *Scheduler[K]) hasSlot(t *tenant[K]) bool {
	if t.inFlight == 0 {
		return s.inFlight < s.slots.all
	}
	return s.inFlight < s.slots.shared && !s.full(t)
}

// full reports whether a tenant holds as many slots as it may, whatever is free.
func (s *Scheduler[K]) full(t *tenant[K]) bool {
	return t.inFlight >= min(t.limits.InFlight, s.slots.most)
}

// occupy takes a slot.
func (s *Scheduler[K]) occupy(t *tenant[K]) {
	t.inFlight++
	s.inFlight++
	if t.inFlight == 1 && t.waiting > 0 {
		s.requeue(t)
	}
}

// vacate gives a slot back.
func (s *Scheduler[K]) vacate(t *tenant[K]) {
	t.inFlight--
	s.inFlight--
	if t.waiting == 0 {
		return
	}
	if t.inFlight == 0 {
		s.requeue(t)
	}
	s.unpark(t)
}

// park makes a gate wait until its tenant gives a slot back.
//
// A gate is parked only while a tenant that holds a slot may have one more, so
// less than three quarters of the slots are taken. At most one tenant can hold
// half of them then, which makes it the only one that has to be looked at when
// there are more slots.
func (s *Scheduler[K]) park(g *gate[K]) {
	s.leave(g, parked)
	if g.tenant.inFlight >= s.slots.most {
		s.capped = g.tenant
	}
}

// unpark has a tenant's parked gates looked at anew.
func (s *Scheduler[K]) unpark(t *tenant[K]) {
	if s.capped == t {
		s.capped = nil
	}
	for _, g := range t.gates {
		if g != nil && g.state == parked {
			s.enter(g)
		}
	}
}

// setSlots changes how many slots there are.
func (s *Scheduler[K]) setSlots(n int) {
	s.slots = newSlots(n)
	if s.capped != nil {
		s.unpark(s.capped)
	}
}

// requeue moves a tenant's gates to the queues that they belong in, after the
// tenant took its first slot or gave back its last one.
func (s *Scheduler[K]) requeue(t *tenant[K]) {
	for _, g := range t.gates {
		if g == nil || g.queue == s.queueOf(g) {
			continue
		}
		switch from := g.queue; g.state {
		case queued:
			from.gates.remove(g)
			g.queue = s.queueOf(g)
			g.queue.gates.push(g)
			s.mayLeaveStarting(t, from)
		case unbegun:
			s.enter(g)
			s.mayLeaveStarting(t, from)
		}
	}
}
