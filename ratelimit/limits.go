package ratelimit

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Limits are what a tenant is held to. The zero Limits bind nothing but
// freezes: then the tenant is held back by what the other side says, and by
// what all tenants share.
type Limits struct {
	// Weight is the tenant's share of what all tenants share, where they want
	// more than there is: a tenant of weight 2 gets twice as much as one of
	// weight 1. 0 means 1. At most [MaxWeight].
	Weight int
	// InFlight bounds how many admitted requests of the tenant may be under way
	// at once. 0 and less are no bound. [Config].InFlight binds beside it: one
	// tenant has at most half of those slots.
	InFlight int
	// Classes are the limits of the tenant's requests, by [Request].Class.
	Classes []Limit
	// Keys are the limits of one key's requests, by [Request].KeyClass.
	Keys []Limit
}

// MaxWeight is the largest weight.
const MaxWeight = 1 << 20

// Check reports all that is wrong.
func (l Limits) Check() error {
	var bad []error
	if l.Weight < 0 || l.Weight > MaxWeight {
		bad = append(bad, fmt.Errorf("weight %d", l.Weight))
	}
	if len(l.Classes) > maxClass+1 || len(l.Keys) > maxClass+1 {
		bad = append(bad, fmt.Errorf("more than %d classes", maxClass+1))
	}
	for _, limits := range [][]Limit{l.Classes, l.Keys} {
		for i, limit := range limits {
			if err := limit.Check(); err != nil {
				bad = append(bad, fmt.Errorf("limit %d: %w", i, err))
			}
		}
	}
	return errors.Join(bad...)
}

func (l Limits) clone() *Limits {
	l.Weight = max(l.Weight, 1)
	if l.InFlight <= 0 {
		l.InFlight = math.MaxInt
	}
	l.Classes, l.Keys = slices.Clone(l.Classes), slices.Clone(l.Keys)
	return &l
}

func limitOf(limits []Limit, class int) Limit {
	if class < len(limits) {
		return limits[class]
	}
	return Unlimited
}

// SetTenant gives a tenant limits of its own, at once and until
// [Scheduler.ResetTenant]. Who waits and may now go, goes; units that are
// missing stay missing.
//
// They are kept for tenants that make no requests too, so the caller bounds
// for how many there are; a tenant that is gone is reset.
func (s *Scheduler[K]) SetTenant(id string, limits Limits) error {
	if err := limits.Check(); err != nil {
		return fmt.Errorf("limits of a tenant: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	own := limits.clone()
	s.own[id] = own
	s.applyTo(id, own)
	return nil
}

// ResetTenant gives a tenant [Config].Tenant's limits again.
func (s *Scheduler[K]) ResetTenant(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, found := s.own[id]; !found {
		return
	}
	delete(s.own, id)
	s.applyTo(id, s.common)
}

func (s *Scheduler[K]) applyTo(id string, limits *Limits) {
	now := s.now()
	s.changedAt = now
	if t, found := s.tenants.get(id); found {
		s.apply(now, t, limits)
		s.pump(now)
	}
}

// SetDefault changes the limits of all tenants that have none of their own. It
// takes time in proportion to the tenants.
func (s *Scheduler[K]) SetDefault(limits Limits) error {
	if err := limits.Check(); err != nil {
		return fmt.Errorf("limits of tenants: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now, old := s.now(), s.common
	s.changedAt = now
	s.common = limits.clone()
	for _, t := range s.tenants.values() {
		if t.limits == old {
			s.apply(now, t, s.common)
		}
	}
	s.pump(now)
	return nil
}

// SetTotal changes the limit and the slots of all tenants together; see
// [Config].
func (s *Scheduler[K]) SetTotal(limit Limit, inFlight int) error {
	if err := limit.Check(); err != nil {
		return fmt.Errorf("limit of all tenants: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.changedAt = now
	s.total.set(now, limit)
	s.setSlots(inFlight)
	s.pump(now)
	return nil
}

// apply changes a tenant's limits and looks anew at all of its that waits.
// Limits of keys that nobody waits for change when they are next used.
func (s *Scheduler[K]) apply(now int64, t *tenant[K], limits *Limits) {
	t.limits = limits
	for i, g := range t.gates {
		if g == nil {
			continue
		}
		if i > 1 && i%2 == 0 {
			g.own.set(now, limitOf(limits.Classes, i/2-1))
		}
	}
	for _, g := range t.gates {
		if g != nil {
			s.reconsider(now, g)
		}
	}
}
