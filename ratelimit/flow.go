package ratelimit

// waiter is a request that waits.
type waiter[K comparable] struct {
	req    Request[K]
	flow   *flow[K]
	place  elem[*waiter[K]]
	expiry alarm[K]
	// done gets nil for an admission, the refusal otherwise: once. A waiter is
	// used again after that was received.
	done chan error
	// Once admitted:
	granted int64  // when
	charge  uint64 // to the tenant's tag
	began   bool   // the tenant began with it
}

// flow is the queue of a key's requests of one class and lane, first come
// first served. A flow without a key is the queue of those that have none. It
// is among its lane's while its first could go as far as the key is concerned,
// and else among the gate's sleeping ones.
type flow[K comparable] struct {
	key  *key[K]
	gate *gate[K]
	flowID
	waiters list[*waiter[K]]
	cost    int // of all who wait
	passed  int // how many others of the key went before the first, while it slept
	place   elem[*flow[K]]
	alarm   alarm[K] // when the key has room for the first
}

// flowID tells a key's flows of one gate apart.
type flowID struct {
	lane int32
	// class is the KeyClass of free requests. A class that has no limit does not
	// wait behind one that has.
	class int32
}

func (r *Request[K]) flowID() flowID {
	id := flowID{lane: int32(r.Lane)}
	if r.Free {
		id.class = int32(r.KeyClass)
	}
	return id
}

func (f *flow[K]) first() *waiter[K] { return f.waiters.first.of }

// delay returns how long the key keeps the first of the flow waiting.
func (f *flow[K]) delay(now int64) int64 {
	if f.key == nil {
		return 0
	}
	d := max(f.key.frozen-now, 0)
	r := &f.first().req
	if !f.key.binds(r) {
		return d
	}
	own := false
	if f.gate.metered() { // free requests pass holds
		var until int64
		if until, own = f.key.kept(r.Ticket); until == never {
			return never
		}
		d = max(d, until-now)
	}
	if !own && f.held() {
		return never
	}
	b := f.key.in(now, r.KeyClass)
	return max(d, b.delay(now, r.need(b)))
}

// held reports whether the flow must leave the key's units to another one: to
// the one whose turn it is, or to a more urgent one of its class.
func (f *flow[K]) held() bool {
	if f.key.claim != nil {
		return f.key.claim != f
	}
	for _, o := range f.key.flows {
		if o.gate == f.gate && o.lane < f.lane {
			return true
		}
	}
	return false
}

// passBy notes that units of a key were taken while others wait for them. One
// that was passed as often as a lane may be has the next turn, and the others
// hold: else one that needs many units would never see them together.
func (s *Scheduler[K]) passBy(k *key[K], went *flow[K]) {
	for _, f := range k.flows {
		if f == went || !k.binds(&f.first().req) {
			continue
		}
		if !f.sleeps() {
			// Its gate may wait for units that only this one needs, and it must
			// wait for the key now.
			if f.gate.state == asleep {
				s.setAlarm(&f.gate.alarm, 0)
			}
			continue
		}
		f.passed++
		if k.claim == nil && f.passed >= s.cfg.LaneShare-1 {
			k.claim = f
			s.setAlarm(&f.alarm, 0)
		}
	}
}

// unclaim ends a flow's turn, since its first has gone or given up.
func (s *Scheduler[K]) unclaim(f *flow[K]) {
	f.passed = 0
	if f.key != nil && f.key.claim == f {
		f.key.claim = nil
		s.rouse(f.key)
	}
}

// rouse has all that sleeps of a key looked at before anyone else goes.
func (s *Scheduler[K]) rouse(k *key[K]) {
	for _, f := range k.flows {
		if f.sleeps() {
			s.setAlarm(&f.alarm, 0)
		}
	}
}

// flowOf finds the flow that a request belongs to; nil where none waits.
func flowOf[K comparable](g *gate[K], k *key[K], id flowID) *flow[K] {
	if k == nil {
		if len(g.keyless) > 0 {
			return g.keyless[id.lane]
		}
		return nil
	}
	for _, f := range k.flows {
		if f.gate == g && f.flowID == id {
			return f
		}
	}
	return nil
}

func (s *Scheduler[K]) newFlow(g *gate[K], k *key[K], id flowID) *flow[K] {
	f := &flow[K]{key: k, gate: g, flowID: id}
	f.place.of, f.alarm.of = f, f
	if len(g.lanes) == 0 {
		g.lanes = make([]waitingLane[K], s.cfg.Lanes)
	}
	if k != nil {
		k.flows = append(k.flows, f)
		return f
	}
	if len(g.keyless) == 0 {
		g.keyless = make([]*flow[K], s.cfg.Lanes)
	}
	g.keyless[id.lane] = f
	return f
}

// drop forgets an empty flow.
func (s *Scheduler[K]) drop(f *flow[K]) {
	s.alarms.remove(&f.alarm)
	f.leaveLane()
	f.place.leave()
	if f.key == nil {
		f.gate.keyless[f.lane] = nil
		return
	}
	for i, other := range f.key.flows {
		if other == f {
			last := len(f.key.flows) - 1
			f.key.flows[i] = f.key.flows[last]
			f.key.flows[last] = nil
			f.key.flows = f.key.flows[:last]
			break
		}
	}
	s.rouse(f.key) // it may have held them
}

func (f *flow[K]) sleeps() bool { return f.place.in == &f.gate.sleeping }

func (f *flow[K]) inLane() bool { return f.place.in == &f.gate.lanes[f.lane].flows }

func (f *flow[K]) enterLane() {
	if !f.inLane() {
		f.place.leave()
		f.gate.lanes[f.lane].flows.pushBack(&f.place)
		f.gate.ready++
	}
}

func (f *flow[K]) leaveLane() {
	if f.inLane() {
		f.place.leave()
		f.gate.ready--
	}
}

// placeFlow puts a flow where it belongs after its first or its key has changed.
func (s *Scheduler[K]) placeFlow(now int64, f *flow[K]) {
	for f.waiters.n > 0 && f.tooLarge(now) {
		s.refuse(f.first(), &Refusal{Err: ErrTooLarge, Level: LevelKey, Wait: Forever})
	}
	if f.waiters.n == 0 {
		s.drop(f)
	} else if d := f.delay(now); d > 0 {
		s.sleep(now, f, d)
	} else {
		s.alarms.remove(&f.alarm)
		f.enterLane()
	}
	s.settle(f.gate)
}

func (f *flow[K]) tooLarge(now int64) bool {
	r := &f.first().req
	if f.key == nil || !f.key.binds(r) {
		return false
	}
	b := f.key.in(now, r.KeyClass)
	return b.tooLarge(r.need(b))
}

// sleep takes a flow out of its lane for a time.
func (s *Scheduler[K]) sleep(now int64, f *flow[K], d int64) {
	f.leaveLane()
	f.place.leave()
	f.gate.sleeping.pushBack(&f.place)
	s.setAlarm(&f.alarm, later(now, d))
}

// wake implements sleeper.
func (f *flow[K]) wake(s *Scheduler[K], now int64) { s.placeFlow(now, f) }

// enqueue puts a request at the end of its flow, or before the first that came
// later.
func (f *flow[K]) enqueue(w *waiter[K]) {
	next := f.waiters.last
	if next == nil || next.of.req.Ticket < w.req.Ticket {
		next = nil
	} else {
		// One that is made again is older than nearly all.
		for next = f.waiters.first; next.of.req.Ticket < w.req.Ticket; {
			next = next.next
		}
	}
	w.flow = f
	f.waiters.insertBefore(&w.place, next)
	f.cost += w.req.Cost
}

// dequeue takes a waiter out of its flow, which may be empty then.
func (s *Scheduler[K]) dequeue(w *waiter[K]) {
	if w.flow.first() == w {
		s.unclaim(w.flow)
	}
	w.place.leave()
	s.alarms.remove(&w.expiry)
	w.flow.cost -= w.req.Cost
	w.flow.gate.tenant.waiting--
	s.waiting--
}

// refuse takes a waiter out and tells it. Its flow must be placed anew.
func (s *Scheduler[K]) refuse(w *waiter[K], err error) {
	s.dequeue(w)
	s.refused++
	w.done <- err
}

// wake implements sleeper: the longest wait is over.
func (w *waiter[K]) wake(s *Scheduler[K], now int64) {
	f := w.flow
	at, level := s.earliest(now, f.gate, f.key, 0, &w.req)
	s.refuse(w, &Refusal{Err: ErrTooLate, Level: level, Wait: duration(at, now)})
	s.changed(now, f)
}

// changed looks anew at a flow whose first may be another, and at its gate,
// which may have been waiting for the old one.
func (s *Scheduler[K]) changed(now int64, f *flow[K]) {
	s.placeFlow(now, f)
	s.retryGate(f.gate)
}
