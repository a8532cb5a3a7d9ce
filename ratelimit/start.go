package ratelimit

// A tenant that made no request for long, or never, is cold: its first one
// needs a start, of which there are as many as Config.Starts say. Cold tenants
// begin in the order in which they came.

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
	t.warm = now + s.warmFor
	t.begun = true
}

// mayBegin takes a start for a tenant, or lets it wait for one.
func (s *Scheduler[K]) mayBegin(now int64, t *tenant[K]) bool {
	if t.starting.in == nil && s.starting.n == 0 && s.startDelay(now, 1) == 0 {
		s.begin(now, t)
		return true
	}
	if t.starting.in == nil {
		s.starting.pushBack(&t.starting)
		s.retryStarts = min(s.retryStarts, later(now, s.startDelay(now, 1)))
	}
	return false
}

// beginTenants takes starts for those who wait for one, as far as they go.
func (s *Scheduler[K]) beginTenants(now int64) {
	s.retryStarts = never
	for s.starting.n > 0 {
		t := s.starting.first.of
		if t.waiting > 0 && s.cold(now, t) {
			if d := s.startDelay(now, 1); d > 0 {
				s.retryStarts = later(now, d)
				return
			}
			s.begin(now, t)
		}
		t.starting.leave()
		for _, g := range t.gates {
			if g != nil && g.state == unbegun {
				s.enter(g)
				s.settle(g)
			}
		}
	}
}
