package ratelimit

import (
	"math"
	"math/big"
)

// The model is what the documentation says, as plainly as can be: exact
// fractions for tokens, no queues, no alarms. It knows no order but FIFO; what
// it judges by is whether what was let in had room at every level, and whether
// what still waits has none at one.

// modelBucket is a token bucket by the book.
type modelBucket struct {
	limited  bool
	interval int64 // 0 where no tokens come
	burst    int64
	tokens   *big.Rat
	at       int64
}

func newModelBucket(now int64, l Limit) *modelBucket {
	b := &modelBucket{at: now}
	b.set(now, l)
	return b
}

func (b *modelBucket) set(now int64, l Limit) {
	missing := new(big.Rat)
	if b.limited {
		missing.Sub(new(big.Rat).SetInt64(b.burst), b.have(now))
	}
	b.limited = !l.IsUnlimited()
	if !b.limited {
		return
	}
	b.interval = 0
	if l.Rate > 0 {
		b.interval = int64(math.Round(1e9 / l.Rate))
	}
	b.burst = int64(max(l.Burst, 0))
	if b.interval == 0 && !missing.IsInt() { // parts of a token are lost
		missing.SetInt(new(big.Int).Add(new(big.Int).Div(missing.Num(), missing.Denom()), big.NewInt(1)))
	}
	b.tokens = new(big.Rat).Sub(new(big.Rat).SetInt64(b.burst), missing)
	b.at = now
}

// have returns the tokens there are.
func (b *modelBucket) have(now int64) *big.Rat {
	have := new(big.Rat).Set(b.tokens)
	if b.interval > 0 {
		have.Add(have, big.NewRat(now-b.at, b.interval))
	}
	if full := new(big.Rat).SetInt64(b.burst); have.Cmp(full) > 0 {
		return full
	}
	return have
}

func (b *modelBucket) take(now int64, n *big.Rat) {
	if b.limited {
		b.tokens, b.at = new(big.Rat).Sub(b.have(now), n), now
	}
}

// delay returns how long it takes until there are n, if the bucket could hold
// as many.
func (b *modelBucket) delay(now, n int64) int64 {
	if !b.limited {
		return 0
	}
	short := new(big.Rat).Sub(new(big.Rat).SetInt64(n), b.have(now))
	switch {
	case short.Sign() <= 0:
		return 0
	case b.interval == 0 || b.burst == 0:
		return never
	}
	short.Mul(short, new(big.Rat).SetInt64(b.interval))
	ns := new(big.Int).Add(short.Num(), new(big.Int).Sub(short.Denom(), big.NewInt(1)))
	return ns.Div(ns, short.Denom()).Int64()
}

// short reports whether n are not there, or were not a while ago.
func (b *modelBucket) short(now, ago, n int64) bool {
	if !b.limited {
		return false
	}
	have := b.have(now)
	if b.interval > 0 && b.tokens.Cmp(new(big.Rat).SetInt64(b.burst)) < 0 {
		have = b.have(now - ago)
	}
	return have.Cmp(new(big.Rat).SetInt64(n)) < 0
}

// moment is how much later than the model the scheduler may be, in nanoseconds,
// because it rounds up.
const moment = 1000

// need is how many tokens of the bucket a request must find.
func (b *modelBucket) need(r *Request[string]) int64 {
	if b.limited && r.Debt {
		return max(1, min(int64(r.Cost), b.burst))
	}
	return int64(r.Cost)
}

func (b *modelBucket) tooLarge(r *Request[string]) bool { return b.limited && b.need(r) > b.burst }

type modelTenant struct {
	limits   *Limits
	own      bool
	frozen   int64
	warm     int64
	inFlight int
	classes  map[int]*modelBucket
	keys     map[string]*modelKey

	had        float64 // units by weight, for fairness
	lightest   float64 // weight that it ever had
	contending bool    // waits for nothing but the units of all
	epoch      int     // changes when that, or its weight, did
}

type modelKey struct {
	bucket *modelBucket // nil before it had a limit
	limits *Limits
	frozen int64
}

type model struct {
	cfg          Config
	total        *modelBucket
	slots        int
	inFlight     int
	frozen       int64
	starts       []*modelBucket
	startsFrozen int64
	common       *Limits
	tenants      map[string]*modelTenant
}

func newModel(now int64, cfg Config) *model {
	m := &model{cfg: cfg, total: newModelBucket(now, cfg.Total), slots: cfg.InFlight, tenants: map[string]*modelTenant{}}
	common := cfg.Tenant
	m.common = &common
	for _, l := range cfg.Starts {
		m.starts = append(m.starts, newModelBucket(now, l))
	}
	return m
}

func (m *model) tenant(id string) *modelTenant {
	t := m.tenants[id]
	if t == nil {
		t = &modelTenant{limits: m.common, lightest: math.MaxInt, classes: map[int]*modelBucket{}, keys: map[string]*modelKey{}}
		m.tenants[id] = t
	}
	return t
}

func (m *model) class(now int64, t *modelTenant, class int) *modelBucket {
	b := t.classes[class]
	if b == nil {
		b = newModelBucket(now, limitOf(t.limits.Classes, class))
		t.classes[class] = b
	}
	return b
}

// key returns nil for the key that is none.
func (m *model) key(t *modelTenant, key string) *modelKey {
	if key == "" {
		return nil
	}
	k := t.keys[key]
	if k == nil {
		k = &modelKey{}
		t.keys[key] = k
	}
	return k
}

// in returns the key's bucket, nil where it has no limit, and gives it the
// limit that it has by now.
func (k *modelKey) in(now int64, t *modelTenant, class int) *modelBucket {
	l := limitOf(t.limits.Keys, class)
	if l.IsUnlimited() {
		return nil
	}
	switch {
	case k.bucket == nil:
		k.bucket = newModelBucket(now, l)
	case k.limits != t.limits:
		k.bucket.set(now, l)
	}
	k.limits = t.limits
	return k.bucket
}

func (m *model) apply(now int64, t *modelTenant, limits *Limits, waits func(key string) (class int, ok bool)) {
	t.lightest = min(t.lightest, float64(max(t.limits.Weight, 1)))
	t.limits = limits
	t.epoch++
	for class, b := range t.classes {
		b.set(now, limitOf(limits.Classes, class))
	}
	for name, k := range t.keys {
		if class, ok := waits(name); ok {
			k.in(now, t, class)
		}
	}
}

// hasSlot reports whether a request of a tenant may take a slot: the last
// quarter of the slots is for tenants that hold none, and one tenant has at most
// half of them.
func (m *model) hasSlot(t *modelTenant) bool {
	if most := t.limits.InFlight; most > 0 && t.inFlight >= most {
		return false
	}
	if m.slots <= 0 {
		return true
	}
	free := float64(m.slots - m.inFlight)
	if t.inFlight == 0 {
		return free > 0
	}
	return free > math.Ceil(float64(m.slots)/4) && float64(t.inFlight) < math.Ceil(float64(m.slots)/2)
}

func (m *model) cold(now int64, t *modelTenant) bool { return len(m.starts) > 0 && t.warm <= now }

// levels returns the buckets that a request takes from.
func (m *model) levels(now int64, t *modelTenant, r *Request[string]) []*modelBucket {
	var levels []*modelBucket
	if !r.Free {
		levels = append(levels, m.total, m.class(now, t, r.Class))
	}
	if k := m.key(t, r.Key); k != nil {
		if b := k.in(now, t, r.KeyClass); b != nil {
			levels = append(levels, b)
		}
	}
	return levels
}

func (m *model) tooLarge(now int64, t *modelTenant, r *Request[string]) bool {
	for _, b := range m.levels(now, t, r) {
		if b.tooLarge(r) {
			return true
		}
	}
	return false
}
