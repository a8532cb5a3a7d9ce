package ratelimit

// A tenant that made no request for long, or never, is cold: its first one
// needs a start, of which there are as many as Config.Starts say. A start is
// taken with all the rest, when the request goes; if it were taken sooner,
// those that wait for something else would be let in in a crowd later on.
//
// Cold tenants begin in the order in which they came, as far as they wait for
// the same: those that wait for units, or for slots, don't hold up the rest. So
// each of the queues has a list of them. The first of it is in the queue while
// there is a start, the rest are unbegun.

// cold reports whether a tenant needs a start.
func (s *Scheduler[K]) cold(now int64, t *tenant[K]) bool {
	return s.warmFor > 0 && t.warm <= now
}

// startDelay returns how long the nth start from now must wait.
func (s *Scheduler[K]) startDelay(now int64, n int) int64 {
	d := max(s.startsFrozen-now, 0)
	for i := range s.starts {
		d = max(d, s.starts[i].delay(now, n))
	}
	return d
}

// begin takes a start.
func (s *Scheduler[K]) begin(now int64, t *tenant[K]) {
	for i := range s.starts {
		s.starts[i].take(now, 1)
	}
	s.warmUntil(t, now+s.warmFor)
}

// warmUntil lets a tenant need no start until a time, also while it waits for
// one.
func (s *Scheduler[K]) warmUntil(t *tenant[K], until int64) {
	t.warm = max(t.warm, until)
	for _, q := range s.queues() {
		s.enterUnbegun(t, q)
		s.leaveStarting(t, q)
	}
}

// enterUnbegun puts a tenant's gates into a queue that it waited for a start
// for.
func (s *Scheduler[K]) enterUnbegun(t *tenant[K], q *queue[K]) {
	if !t.startsIn(q) {
		return
	}
	for _, g := range t.gates {
		if g != nil && g.queue == q && g.state == unbegun {
			s.enter(g)
			s.settle(g)
		}
	}
}

// mayBegin reports whether a gate's tenant, which is cold, may take a start, or
// else lets it wait for one.
func (s *Scheduler[K]) mayBegin(now int64, g *gate[K]) bool {
	t, list := g.tenant, &g.queue.starting
	if (list.n == 0 || list.first.of == t) && s.startDelay(now, 1) == 0 {
		return true
	}
	if !t.startsIn(g.queue) {
		if t.starting == nil {
			t.starting = new([queues]elem[*tenant[K]])
			for i := range t.starting {
				t.starting[i].of = t
			}
		}
		list.pushBack(&t.starting[g.queue.i])
		if t.startIn++; t.startIn == 1 {
			s.starting++
		}
	}
	return false
}

// startsIn reports whether a tenant waits for a start in a queue.
func (t *tenant[K]) startsIn(q *queue[K]) bool {
	return t.startIn > 0 && t.starting[q.i].in != nil
}

// callFirst puts the first of those that wait for a start into the queues if
// there is one, and else notes when there will be.
func (s *Scheduler[K]) callFirst(now int64) {
	s.retryStarts = never
	if s.starting == 0 {
		return
	}
	if d := s.startDelay(now, 1); d > 0 {
		s.retryStarts = later(now, d)
		return
	}
	for _, q := range s.queues() {
		if q.starting.n > 0 {
			s.enterUnbegun(q.starting.first.of, q)
		}
	}
}

// mayLeaveStarting ends a tenant's wait for a start when none of its requests
// of that queue could go even with one.
func (s *Scheduler[K]) mayLeaveStarting(t *tenant[K], q *queue[K]) {
	if !t.startsIn(q) {
		return
	}
	for _, g := range t.gates {
		if g != nil && g.queue == q && (g.state == queued || g.state == unbegun) {
			return
		}
	}
	s.leaveStarting(t, q)
}

func (s *Scheduler[K]) leaveStarting(t *tenant[K], q *queue[K]) {
	if !t.startsIn(q) {
		return
	}
	t.starting[q.i].leave()
	if t.startIn--; t.startIn == 0 {
		s.starting--
	}
}
