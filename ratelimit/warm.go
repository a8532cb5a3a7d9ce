package ratelimit

import "time"

// Warm says that a tenant made a request at a time, to another scheduler or to
// one before this: within [Config].WarmFor of that it needs no start. It never
// makes a tenant colder, and does nothing where there is no room for another
// tenant.
func (s *Scheduler[K]) Warm(tenant string, used time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	until := max(min(int64(used.Sub(s.base)), now), -s.warmFor) + s.warmFor // can't overflow
	if s.warmFor == 0 || until <= now {
		return
	}
	if t := s.tenantOf(now, tenant, false); t != nil {
		t.warm = max(t.warm, until)
		s.pump(now)
	}
}
