package ratelimit

// try admits a request that need not wait: every level has room for it, and
// nobody waits who was here before.
func (s *Scheduler[K]) try(now int64, g *gate[K], k *key[K], r *Request[K]) (admitted, began bool) {
	t := g.tenant
	if g.ready > 0 || g.fair.heap.len() > 0 || s.frozen > now || t.frozen > now {
		return false, false
	}
	if !r.Slotless && (s.full() || t.full()) {
		return false, false
	}
	if k != nil {
		if k.frozen > now || k.waits(r.Lane) {
			return false, false
		}
		if g.metered() && k.bucket.delay(now, r.need(&k.bucket)) > 0 {
			return false, false
		}
	}
	cold := s.cold(now, t)
	if cold && (s.starting.n > 0 || s.startDelay(now, 1) > 0) {
		return false, false
	}
	if g.metered() {
		if g.bucket.delay(now, r.need(&g.bucket)) > 0 {
			return false, false
		}
		if d, _ := s.totalDelay(now, r); d > 0 {
			return false, false
		}
	}
	if cold {
		s.begin(now, t)
		t.begun = false // this request has begun it
	}
	s.take(now, g, k, r)
	return true, cold
}

// waits reports whether anyone waits for the key who is as urgent.
func (k *key[K]) waits(lane int) bool {
	for _, f := range k.flows {
		if f.lane <= lane {
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
	need := r.Cost
	if r.Debt {
		need = 1
	}
	d := int64(s.cfg.Shared.Take(s.time(now), r.Cost, need))
	return d, d == never
}

// take takes from every level but Config.Shared.
func (s *Scheduler[K]) take(now int64, g *gate[K], k *key[K], r *Request[K]) {
	if g.metered() {
		if k != nil {
			k.bucket.take(now, r.Cost)
		}
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
	if g.metered() {
		if k != nil {
			k.bucket.give(r.Cost, 0)
		}
		g.bucket.give(r.Cost, 0)
		s.total.give(r.Cost, 0)
		if s.cfg.Shared != nil {
			s.cfg.Shared.Give(s.time(now), r.Cost)
		}
	}
	if !r.Slotless {
		s.vacate(g.tenant)
	}
	g.tenant.admitted--
	s.admitted--
	// What waits for these buckets waits too long now.
	if k != nil {
		s.placeKey(now, k)
	}
	g.tag -= w.charge
	switch g.state {
	case queued:
		g.fair.heap.fix(g)
	case asleep:
		s.enter(g)
		s.settle(g)
	}
}

// join makes a request wait. The error is a *Refusal.
func (s *Scheduler[K]) join(now, deadline int64, g *gate[K], k *key[K], r *Request[K], again bool) (*waiter[K], error) {
	t := g.tenant
	f := flowOf(g, k, r.Lane)
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
		f = s.newFlow(g, k, r.Lane)
	}
	w := s.newWaiter(r)
	f.enqueue(w)
	t.waiting++
	s.waiting++
	if r.MaxWait > 0 {
		s.setAlarm(&w.expiry, later(now, int64(r.MaxWait)))
	}
	if f.first() == w {
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
		delay(LevelTenant, &g.bucket)
	}
	if k != nil {
		later(LevelKey, k.frozen)
		if g.metered() {
			delay(LevelKey, &k.bucket)
		}
	}
	if t := g.tenant; s.cold(now, t) && t.starting.in == nil {
		if d := s.startDelay(now, s.starting.n+1); d == never {
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
// is asleep, parked or unbegun), or what all share (the gate is queued, and
// retry or the next free slot will be the time).
func (s *Scheduler[K]) pump(now int64) {
	s.wake(now)
	s.beginTenants(now)
	s.retry = never
	blocked := false // whether what all share has no unit for the metered ones
	for {
		g := s.pick(blocked)
		if g == nil {
			break
		}
		if s.frozen > now {
			s.retry = s.frozen
			break
		}
		t := g.tenant
		if s.cold(now, t) && !s.mayBegin(now, t) {
			s.leave(g, unbegun)
			continue
		}
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
		if !r.Slotless {
			if s.full() {
				break
			}
			if t.full() {
				s.leave(g, parked)
				continue
			}
		}
		if g.metered() {
			if level, large := s.tooLarge(g, f.key, r); large { // now
				s.refuse(f.first(), &Refusal{Err: ErrTooLarge, Level: level, Wait: Forever})
				s.placeFlow(now, f)
				continue
			}
			if d := g.bucket.delay(now, r.need(&g.bucket)); d > 0 {
				s.leave(g, asleep)
				s.setAlarm(&g.alarm, later(now, d))
				continue
			}
			d, large := s.totalDelay(now, r)
			if large {
				s.refuse(f.first(), &Refusal{Err: ErrTooLarge, Level: LevelAll, Wait: Forever})
				s.placeFlow(now, f)
				continue
			}
			if d > 0 {
				s.retry = min(s.retry, later(now, d))
				blocked = true
				continue
			}
		}
		s.grant(now, f)
	}
	s.arm(now)
}

// pick returns the gate that goes next. The metered and the free ones take
// turns, since they compete for slots.
func (s *Scheduler[K]) pick(blocked bool) *gate[K] {
	metered, free := s.metered.heap.items, s.free.heap.items
	switch {
	case len(free) > 0 && (blocked || len(metered) == 0 || s.freeTurn):
		return free[0]
	case len(metered) > 0 && !blocked:
		return metered[0]
	}
	return nil
}

// grant lets the first of a flow go.
func (s *Scheduler[K]) grant(now int64, f *flow[K]) {
	g, w := f.gate, f.first()
	s.freeTurn = g.metered()
	w.began, g.tenant.begun = g.tenant.begun, false
	s.take(now, g, f.key, &w.req)
	s.dequeue(w)
	g.fair.last = max(g.fair.last, g.tag)
	w.charge = g.charge(w.req.Cost)
	g.tag += w.charge
	g.fair.heap.fix(g)
	g.went(f)
	w.done <- nil
	s.placeFlow(now, f)
}
