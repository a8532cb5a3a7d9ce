package ratelimit

import (
	"cmp"
	"slices"
	"time"
)

// Stats are a scheduler's figures at one moment.
type Stats struct {
	// Waiting and InFlight count requests that wait, and admitted ones that
	// hold a slot.
	Waiting  int `json:"waiting"`
	InFlight int `json:"in_flight"`
	// Admitted and Refused count requests since the scheduler was made; those
	// whose context ended while they waited count as refused.
	Admitted uint64 `json:"admitted"`
	Refused  uint64 `json:"refused"`
	// Tenants and Keys count those that are remembered, and Starting the
	// tenants that wait to begin.
	Tenants  int `json:"tenants"`
	Keys     int `json:"keys"`
	Starting int `json:"starting"`
	// Frozen is for how much longer everything is frozen, and StartsFrozen the
	// starts; 0 if they are not. FrozenTenants and FrozenKeys count.
	Frozen        time.Duration `json:"frozen_ns"`
	StartsFrozen  time.Duration `json:"starts_frozen_ns"`
	FrozenTenants int           `json:"frozen_tenants"`
	FrozenKeys    int           `json:"frozen_keys"`
	// Top are the tenants of which most wait, those first.
	Top []TenantStats `json:"top"`
}

// TenantStats are a tenant's figures.
type TenantStats struct {
	// Waiting and InFlight count the tenant's requests that wait and those that
	// are under way, now.
	Tenant   string `json:"tenant"`
	Waiting  int    `json:"waiting"`
	InFlight int    `json:"in_flight"`
	// Admitted counts since the tenant is remembered.
	Admitted uint64 `json:"admitted"`
	// Frozen is for how long the tenant still is; 0 where it is not.
	Frozen time.Duration `json:"frozen_ns"`
}

// Stats returns the figures of this moment, with the top tenants of which most
// wait. It takes time in proportion to the tenants.
func (s *Scheduler[K]) Stats(top int) Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	stats := Stats{
		Waiting:      s.waiting,
		InFlight:     s.inFlight,
		Admitted:     s.admitted,
		Refused:      s.refused,
		Tenants:      s.tenants.len(),
		Keys:         s.keys.len(),
		Starting:     s.starting,
		Frozen:       time.Duration(max(s.frozen-now, 0)),
		StartsFrozen: time.Duration(max(s.startsFrozen-now, 0)),
		FrozenKeys:   s.countFrozenKeys(now),
	}
	var waiting []*tenant[K]
	for _, t := range s.tenants.values() {
		if t.frozen > now {
			stats.FrozenTenants++
		}
		if t.waiting > 0 {
			waiting = append(waiting, t)
		}
	}
	slices.SortFunc(waiting, func(a, b *tenant[K]) int {
		return cmp.Or(cmp.Compare(b.waiting, a.waiting), cmp.Compare(a.id(), b.id()))
	})
	for _, t := range waiting[:min(max(top, 0), len(waiting))] {
		stats.Top = append(stats.Top, t.stats(now))
	}
	return stats
}

// TenantStats returns a tenant's figures; all 0 for one that is not known.
func (s *Scheduler[K]) TenantStats(tenant string) TenantStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, found := s.tenants.get(tenant); found {
		return t.stats(s.now())
	}
	return TenantStats{Tenant: tenant}
}

func (t *tenant[K]) stats(now int64) TenantStats {
	return TenantStats{
		Tenant:   t.id(),
		Waiting:  t.waiting,
		InFlight: t.inFlight,
		Admitted: t.admitted,
		Frozen:   time.Duration(max(t.frozen-now, 0)),
	}
}
