package ratelimit

// tenant is what is known of a tenant.
type tenant[K comparable] struct {
	limits *Limits
	frozen int64 // until
	warm   int64 // until when it counts as begun
	used   int64 // last
	// gates are two for the free requests and two for each class: those that
	// hold a slot, and those that don't. What was never used is nil.
	gates    []*gate[K]
	inFlight int
	waiting  int
	admitted uint64
	begun    bool                     // with a request whose caller had given up
	keys     int                      // how many of its are remembered
	at       seat[string, *tenant[K]] // in the table, by id
	tags     [2]uint64                // what it has had of Scheduler.metered and free
	// starting are its places in the queues' lists of those that wait for a
	// start, nil before it waits for one, and startIn is in how many it is.
	starting *[queues]elem[*tenant[K]]
	startIn  int
}

// key is what is known of a key.
type key[K comparable] struct {
	tenant *tenant[K]
	// bucket has the limit of the class that was asked for last, if that has
	// one; see in.
	bucket bucket
	limits *Limits
	class  int8
	open   bool  // the class has no limit
	frozen int64 // until
	used   int64 // last
	flows  []*flow[K]
	holds  []hold
	claim  *flow[K] // the one of them whose turn it is; nil while it is nobody's
	at     seat[ref[K], *key[K]]
}

func (t *tenant[K]) seat() *seat[string, *tenant[K]] { return &t.at }
func (k *key[K]) seat() *seat[ref[K], *key[K]]       { return &k.at }

func (t *tenant[K]) id() string { return t.at.key }

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
	t := &tenant[K]{limits: s.common, used: now}
	if own, found := s.own[id]; found {
		t.limits = own
	}
	s.at = now
	// A tenant is not forgotten before its keys are, and these are looked at
	// only for new ones; which a tenant that is refused doesn't bring.
	s.keys.shrink(lookAt, lookAt, true)
	if !s.tenants.add(id, t) {
		s.keys.shrink(searchFor, searchFor, false)
		if !s.tenants.add(id, t) {
			if !force {
				return nil
			}
			s.tenants.put(id, t)
		}
	}
	return t
}

// keyOf returns what is known of a key, nil where there is no room.
func (s *Scheduler[K]) keyOf(now int64, t *tenant[K], id K, force bool) *key[K] {
	at := ref[K]{t, id}
	if k, found := s.keys.get(at); found {
		return k
	}
	k := &key[K]{tenant: t, class: -1, used: now}
	s.at = now
	if !s.keys.add(at, k) {
		if !force {
			return nil
		}
		s.keys.put(at, k)
	}
	t.keys++
	return k
}

// forgotten is called when a key is no longer remembered.
func (s *Scheduler[K]) forgotten(k *key[K]) {
	k.tenant.keys--
	delete(s.frozenKeys, k)
}

// binds reports whether a request takes units of the key: a free one does so
// only where its class has a limit.
func (k *key[K]) binds(r *Request[K]) bool {
	return !r.Free || !limitOf(k.tenant.limits.Keys, r.KeyClass).IsUnlimited()
}

// unlimited is the bucket of what has no limit. It is never written to.
var unlimited bucket

// in returns the key's bucket for requests of a class, with the limit that they
// have now. It is one bucket for all classes: the units that are missing are
// the same whatever class took them. A class without a limit leaves it alone.
func (k *key[K]) in(now int64, class int) *bucket {
	if k.limits != k.tenant.limits || int(k.class) != class {
		limit := limitOf(k.tenant.limits.Keys, class)
		k.limits, k.class, k.open = k.tenant.limits, int8(class), limit.IsUnlimited()
		if !k.open {
			k.bucket.set(now, limit)
		}
	}
	if k.open {
		return &unlimited
	}
	return &k.bucket
}

// idle reports whether a tenant may be forgotten: it then knows nothing that a
// new one would not know, but how many were admitted.
func (s *Scheduler[K]) idle(t *tenant[K], room bool) bool {
	if room && s.at-t.used < keep {
		return false
	}
	if t.inFlight > 0 || t.waiting > 0 || t.keys > 0 || t.frozen > s.at || t.warm > s.at {
		return false
	}
	for _, g := range t.gates {
		if g != nil && !g.own.full(s.at) {
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
	return len(k.flows) == 0 && len(k.holds) == 0 && k.frozen <= s.at && k.bucket.full(s.at)
}

// gate returns where a request waits.
func (s *Scheduler[K]) gate(t *tenant[K], r *Request[K]) *gate[K] {
	i := 0
	if !r.Free {
		i = 2 * (r.Class + 1)
	}
	if r.Slotless {
		i++
	}
	if i < len(t.gates) && t.gates[i] != nil {
		return t.gates[i]
	}
	return s.newGate(t, i)
}

func (s *Scheduler[K]) newGate(t *tenant[K], i int) *gate[K] {
	for len(t.gates) <= i {
		t.gates = append(t.gates, nil)
	}
	g := &gate[K]{tenant: t, fair: &s.free, tag: &t.tags[0]}
	if i > 1 {
		g.fair, g.tag = &s.metered, &t.tags[1]
	}
	g.bucket, g.slotless = &g.own, i%2 == 1
	if g.slotless {
		if t.gates[i-1] == nil {
			s.newGate(t, i-1)
		}
		g.bucket = t.gates[i-1].bucket
	} else if i > 1 {
		g.own = newBucket(limitOf(t.limits.Classes, i/2-1))
	}
	g.queue = s.queueOf(g)
	g.alarm.of = g
	t.gates[i] = g
	return g
}
