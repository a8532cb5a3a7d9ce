package ratelimit

import "time"

// Scope names what can be frozen. Its zero value is everything.
type Scope[K comparable] struct {
	// Level says how wide it is.
	Level Level
	// Tenant is for LevelTenant and LevelKey, Key for LevelKey.
	Tenant string
	Key    K
}

// Freeze keeps everything of a scope back until a time, free requests
// included. It never shortens a freeze, and forgets nothing when the scope is
// not in use. What is under way is not touched. The zero K is no key, and can't
// be frozen.
func (s *Scheduler[K]) Freeze(scope Scope[K], until time.Time) {
	at := int64(until.Sub(s.base))
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	switch scope.Level {
	case LevelAll:
		s.frozen = max(s.frozen, at)
	case LevelStarts:
		s.startsFrozen = max(s.startsFrozen, at)
	case LevelTenant:
		t := s.tenantOf(now, scope.Tenant, true)
		t.frozen = max(t.frozen, at)
	case LevelKey:
		var none K
		if scope.Key == none || !same(scope.Key, scope.Key) || at <= now {
			return
		}
		k := s.keyOf(now, s.tenantOf(now, scope.Tenant, true), scope.Key, true)
		s.freezeKey(k, at)
		for _, f := range k.flows {
			s.retryGate(f.gate)
		}
	}
	s.pump(now) // others may wait behind one that is frozen now
}

func (s *Scheduler[K]) freezeKey(k *key[K], until int64) {
	k.frozen = max(k.frozen, until)
	s.frozenKeys[k] = struct{}{}
}

func (s *Scheduler[K]) countFrozenKeys(now int64) int {
	for k := range s.frozenKeys {
		if k.frozen <= now {
			delete(s.frozenKeys, k)
		}
	}
	return len(s.frozenKeys)
}

// Thaw ends a freeze. Who may go, goes.
func (s *Scheduler[K]) Thaw(scope Scope[K]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	switch scope.Level {
	case LevelAll:
		s.frozen = 0
	case LevelStarts:
		s.startsFrozen = 0
	case LevelTenant:
		if t, found := s.tenants.get(scope.Tenant); found {
			t.frozen = 0
			for _, g := range t.gates {
				if g != nil {
					s.retryGate(g)
				}
			}
		}
	case LevelKey:
		if t, found := s.tenants.get(scope.Tenant); found {
			if k, found := s.keys.get(ref[K]{t, scope.Key}); found {
				k.frozen = 0
				s.placeKey(now, k)
			}
		}
	}
	s.pump(now)
}

// placeKey looks anew at all that waits for a key.
func (s *Scheduler[K]) placeKey(now int64, k *key[K]) {
	for _, f := range append([]*flow[K](nil), k.flows...) {
		s.placeFlow(now, f)
	}
}
