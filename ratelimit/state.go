package ratelimit

// tenant is what is known of a tenant.
type tenant[K comparable] struct {
	id       string
	limits   *Limits
	frozen   int64 // until
	warm     int64 // until when it counts as begun
	begun    bool  // it took a start, and no request has gone since
	used     int64 // last
	inFlight int
	waiting  int
	keys     int // how many of its are remembered
	admitted uint64
	starting elem[*tenant[K]] // in Scheduler.starting
	// gates are the classes' plus one; the first is that of the free ones.
	// What was never used is nil.
	gates []*gate[K]
}

// key is what is known of a key.
type key[K comparable] struct {
	tenant *tenant[K]
	id     K
	bucket bucket
	limits *Limits // that the bucket's limit is of
	class  int
	frozen int64 // until
	used   int64 // last
	flows  []*flow[K]
}

// ref names a key.
type ref[K comparable] struct {
	tenant *tenant[K]
	key    K
}

// tenantOf returns what is known of a tenant, nil where there is no room.
func (s *Scheduler[K]) tenantOf(now int64, id string, force bool) *tenant[K] {
	if t, found := s.tenants.get(id); found {
		return t
	}
	t := &tenant[K]{id: id, limits: s.common, used: now}
	t.starting.of = t
	if own, found := s.own[id]; found {
		t.limits = own
	}
	s.at = now
	if !s.tenants.add(id, t) {
		if !force {
			return nil
		}
		s.tenants.lru.Add(id, t)
	}
	return t
}

// keyOf returns what is known of a key, nil where there is no room.
func (s *Scheduler[K]) keyOf(now int64, t *tenant[K], id K, force bool) *key[K] {
	at := ref[K]{t, id}
	if k, found := s.keys.get(at); found {
		return k
	}
	k := &key[K]{tenant: t, id: id, class: -1, used: now}
	s.at = now
	if !s.keys.add(at, k) {
		if !force {
			return nil
		}
		s.keys.lru.Add(at, k)
	}
	t.keys++
	return k
}

// use makes sure that the key has the limit that it has now.
func (k *key[K]) use(now int64, class int) {
	if k.limits == k.tenant.limits && k.class == class {
		return
	}
	limit := limitOf(k.tenant.limits.Keys, class)
	if k.limits == nil {
		k.bucket = newBucket(limit)
	} else {
		k.bucket.set(now, limit)
	}
	k.limits, k.class = k.tenant.limits, class
}

// idle reports whether a tenant may be forgotten: it then knows nothing that a
// new one would not know, but that it has begun.
func (s *Scheduler[K]) idle(t *tenant[K], room bool) bool {
	if room && s.at-t.used < keep {
		return false
	}
	if t.inFlight > 0 || t.waiting > 0 || t.keys > 0 || t.frozen > s.at || t.warm > s.at {
		return false
	}
	for _, g := range t.gates {
		if g != nil && !g.bucket.full(s.at) {
			return false
		}
	}
	return true
}

// idleKey reports whether a key may be forgotten.
func (s *Scheduler[K]) idleKey(k *key[K], room bool) bool {
	if room && s.at-k.used < keep {
		return false
	}
	return len(k.flows) == 0 && k.frozen <= s.at && k.bucket.full(s.at)
}

// gate returns where a request's class waits.
func (s *Scheduler[K]) gate(t *tenant[K], r *Request[K]) *gate[K] {
	i := 0
	if !r.Free {
		i = r.Class + 1
	}
	if i < len(t.gates) && t.gates[i] != nil {
		return t.gates[i]
	}
	for len(t.gates) <= i {
		t.gates = append(t.gates, nil)
	}
	g := &gate[K]{tenant: t, fair: &s.free}
	if i > 0 {
		g.fair = &s.metered
		g.bucket = newBucket(limitOf(t.limits.Classes, i-1))
	}
	g.alarm.of = g
	t.gates[i] = g
	return g
}

// full reports whether all of the tenant's slots are taken.
func (t *tenant[K]) full() bool { return t.limits.InFlight > 0 && t.inFlight >= t.limits.InFlight }

// full reports whether all slots are taken.
func (s *Scheduler[K]) full() bool { return s.slots > 0 && s.inFlight >= s.slots }

// occupy takes a slot, and vacate gives it back.
func (s *Scheduler[K]) occupy(t *tenant[K]) {
	t.inFlight++
	s.inFlight++
}

func (s *Scheduler[K]) vacate(t *tenant[K]) {
	t.inFlight--
	s.inFlight--
	for _, g := range t.gates {
		if g != nil && g.state == parked {
			s.enter(g)
		}
	}
}
