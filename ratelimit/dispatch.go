package ratelimit

// try admits a request that need not wait: every level has room for it, and
// nobody waits who was here before.
func (s *Scheduler[K]) try(now int64, g *gate[K], k *key[K], r *Request[K]) (admitted, began bool) {
	t := g.tenant
	if g.ready > 0 || g.fair.len() > 0 || s.frozen > now || t.frozen > now {
		return false, false
	}
	if !r.Slotless && !s.hasSlot(t) {
		return false, false
	}
	if k != nil {
		if k.frozen > now || k.waits(r.Lane) {
			return false, false
		}
		if g.metered() {
			if until, _ := k.kept(r.Ticket); until > now {
				return false, false
			}
		}
		if k.binds(r) {
			if b := k.in(now, r.KeyClass); b.delay(now, r.need(b)) > 0 {
				return false, false
			}
		}
	}
	cold := s.cold(now, t)
	if cold && (s.starting > 0 || s.startDelay(now, 1) > 0) {
		return false, false
	}
	if g.metered() {
		if g.bucket.delay(now, r.need(g.bucket)) > 0 {
			return false, false
		}
		if d, _ := s.totalDelay(now, r); d > 0 {
			return false, false
		}
	}
	if cold {
		s.begin(now, t)
	}
	began = cold
	if t.begun {
		began, t.begun = true, false
	}
	s.take(now, g, k, r)
	if k != nil && len(k.flows) > 0 && k.binds(r) {
		s.passBy(k, nil)
	}
	return true, began
}

// waits reports whether anyone waits for the key who is as urgent, or whose
// turn it is.
func (k *key[K]) waits(lane int) bool {
	if k.claim != nil {
		return true
	}
	for _, f := range k.flows {
		if int(f.lane) <= lane {
			return true
		}
	}
	return false
}

// totalDelay asks what all tenants share, and takes from Config.Shared if
// there is room: it is asked last. A request that is large will never fit into
// it.
func (s *Scheduler[K]) totalDelay(now int64, r *Request[K]) (delay int64, large bool) {
	if d := s.total.delay(now, r.need(&s.total)); d > 0 {
		return d, false
	}
	if s.cfg.Shared == nil {
		return 0, false
	}
	// How much Shared can hold is not known, so a debt is tried with half as
	// much each time.
	for need := r.Cost; ; need /= 2 {
		d := int64(s.cfg.Shared.Take(s.time(now), r.Cost, need))
		if d < never || !r.Debt || need <= 1 {
			return d, d == never
		}
	}
}

// take takes from every level but Config.Shared.
func (s *Scheduler[K]) take(now int64, g *gate[K], k *key[K], r *Request[K]) {
	if k != nil && k.binds(r) {
		k.in(now, r.KeyClass).take(now, r.Cost)
	}
	if g.metered() {
		g.bucket.take(now, r.Cost)
		s.total.take(now, r.Cost)
	}
	if !r.Slotless {
		s.occupy(g.tenant)
	}
	if s.warmFor > 0 {
		g.tenant.warm = now + s.warmFor
	}
	g.tenant.used = now
	if k != nil {
		k.used = now
	}
	g.tenant.admitted++
	s.admitted++
}

// undo gives back what an admission took, because nobody wants it any more.
func (s *Scheduler[K]) undo(now int64, w *waiter[K]) {
	g, k, r := w.flow.gate, w.flow.key, &w.req
	if g.metered() && s.cfg.Shared != nil {
		s.cfg.Shared.Give(s.time(now), r.Cost)
	}
	if w.granted >= s.changedAt { // or they were other units
		ago := now - w.granted
		if k != nil && k.binds(r) {
			k.in(now, r.KeyClass).give(r.Cost, ago)
		}
		if g.metered() {
			g.bucket.give(r.Cost, ago)
			s.total.give(r.Cost, ago)
		}
	}
	if !r.Slotless {
		s.vacate(g.tenant)
	}
	if w.began {
		g.tenant.begun = true // the next one begins it, with the start that was taken
	}
	g.tenant.admitted--
	s.admitted--
	// What waits for these buckets waits too long now.
	if k != nil {
		s.placeKey(now, k)
	}
	s.retag(g, *g.tag-w.charge)
	for _, g := range g.tenant.gates {
		if g != nil {
			s.retryGate(g)
		}
	}
}

// join makes a request wait. The error is a *Refusal.
func (s *Scheduler[K]) join(now, deadline int64, g *gate[K], k *key[K], r *Request[K], again bool) (*waiter[K], error) {
	t := g.tenant
	f := flowOf(g, k, r.flowID())
	ahead := 0
	if f != nil && !again {
		ahead = f.cost
	}
	at, level := s.earliest(now, g, k, ahead, r)
	if at > deadline {
		return nil, &Refusal{Err: ErrTooLate, Level: level, Wait: duration(at, now)}
	}
	if s.waiting >= s.cfg.MaxWaiting {
		return nil, &Refusal{Err: ErrQueueFull, Level: LevelAll, Wait: duration(at, now)}
	}
	if t.waiting >= s.cfg.MaxWaitingPerTenant {
		return nil, &Refusal{Err: ErrQueueFull, Level: LevelTenant, Wait: duration(at, now)}
	}
	if f == nil {
		f = s.newFlow(g, k, r.flowID())
	}
	w := s.newWaiter(r)
	f.enqueue(w)
	t.waiting++
	s.waiting++
	if r.MaxWait > 0 {
		// What may go at the last moment goes.
		s.setAlarm(&w.expiry, later(now, int64(r.MaxWait)+1))
	}
	if f.first() == w {
		s.unclaim(f)
		s.changed(now, f)
	}
	s.pump(now)
	return w, nil
}

// earliest returns when a request can go at the earliest, with as much of its
// flow ahead of it, and the level that lets it go last. Others may keep it
// waiting longer.
func (s *Scheduler[K]) earliest(now int64, g *gate[K], k *key[K], ahead int, r *Request[K]) (at int64, level Level) {
	at = now
	later := func(l Level, t int64) {
		if t > at {
			at, level = t, l
		}
	}
	delay := func(l Level, b *bucket) {
		if d := b.delay(now, ahead+r.need(b)); d == never {
			later(l, never)
		} else {
			later(l, now+d)
		}
	}
	later(LevelAll, s.frozen)
	later(LevelTenant, g.tenant.frozen)
	if g.metered() {
		delay(LevelAll, &s.total)
		delay(LevelTenant, g.bucket)
	}
	if k != nil {
		later(LevelKey, k.frozen)
		if g.metered() && len(k.holds) > 0 && r.Ticket >= k.holds[0].ticket {
			later(LevelKey, k.holds[0].until)
		}
		if k.binds(r) {
			delay(LevelKey, k.in(now, r.KeyClass))
		}
	}
	if t := g.tenant; s.cold(now, t) {
		n := 1
		if q := s.queueOf(g); !t.startsIn(q) {
			n += q.starting.n
		}
		if d := s.startDelay(now, n); d == never {
			later(LevelStarts, never)
		} else {
			later(LevelStarts, now+d)
		}
	}
	return at, level
}

// pump lets go all who may go now, and sets the timer for the next. It is
// called after every change; the lock is held. Afterwards whoever still waits
// has a level that keeps it: its key (the flow sleeps), its tenant (the gate
// is asleep or parked), the starts (it is unbegun, and there is none or another
// tenant is first), or what all share (the gate is queued, and retry or the
// next free slot will be the time).
func (s *Scheduler[K]) pump(now int64) {
	s.retry, s.retryStarts = never, never
	// Whether what all share has no unit for the metered gate that is next. The
	// others wait behind it, as long as nothing else keeps it: what a free
	// request takes may be the slot or start that it needs.
	blocked := false
	for {
		s.wake(now)
		if s.frozen > now {
			s.retry = s.frozen
			break
		}
		s.callFirst(now)
		g := s.pick(blocked)
		if g == nil {
			break
		}
		t := g.tenant
		if t.frozen > now {
			s.leave(g, asleep)
			s.setAlarm(&g.alarm, t.frozen)
			continue
		}
		f := s.next(now, g)
		if f == nil {
			s.settle(g)
			continue
		}
		r := &f.first().req
		if !r.Slotless && s.full(t) {
			s.park(g)
			continue
		}
		if level, large := s.tooLarge(now, g, f.key, r); large { // now
			s.refuse(f.first(), &Refusal{Err: ErrTooLarge, Level: level, Wait: Forever})
			s.placeFlow(now, f)
			continue
		}
		if g.metered() {
			if d := g.bucket.delay(now, r.need(g.bucket)); d > 0 {
				s.leave(g, asleep)
				s.setAlarm(&g.alarm, later(now, d))
				continue
			}
		}
		cold := s.cold(now, t)
		if cold && !s.mayBegin(now, g) {
			s.leave(g, unbegun)
			continue
		}
		if g.metered() {
			d, large := s.totalDelay(now, r)
			if large {
				s.refuse(f.first(), &Refusal{Err: ErrTooLarge, Level: LevelAll, Wait: Forever})
				s.placeFlow(now, f)
				continue
			}
			if d > 0 {
				s.retry = later(now, d)
				if s.warmFor > 0 && !cold {
					s.retry = min(s.retry, t.warm) // from then on it needs a start
				}
				blocked = true
				continue
			}
		}
		s.grant(now, f, cold)
		s.retry, blocked = never, false
	}
	s.arm(now)
}

// pick returns the gate that goes next. The metered and the free ones take
// turns, since they compete for slots.
func (s *Scheduler[K]) pick(blocked bool) *gate[K] {
	first, further := s.inFlight < s.slots.all, s.inFlight < s.slots.shared
	free := s.free.head(first, further)
	if blocked || free != nil && s.freeTurn {
		return free
	}
	if metered := s.metered.head(first, further); metered != nil {
		return metered
	}
	return free
}

// grant lets the first of a flow go.
func (s *Scheduler[K]) grant(now int64, f *flow[K], cold bool) {
	g, w := f.gate, f.first()
	s.freeTurn = g.metered()
	if cold {
		s.begin(now, g.tenant)
	}
	s.take(now, g, f.key, &w.req)
	s.dequeue(w)
	if f.key != nil && f.key.binds(&w.req) {
		s.passBy(f.key, f)
	}
	if behind(g.fair.last, *g.tag) {
		g.fair.last = *g.tag
	}
	w.granted, w.charge = now, s.charge(g, w.req.Cost)
	w.began, g.tenant.begun = cold || g.tenant.begun, false
	g.went(f)
	w.done <- nil
	s.placeFlow(now, f)
}
