package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Config configures a [Scheduler]. Its zero value binds nothing but freezes:
// it learns from them alone.
type Config struct {
	// Total is the limit of all tenants together.
	Total Limit
	// Shared is a limit of all tenants together that others draw on too, such
	// as other processes. It applies beside Total and is asked last. Nil is
	// none.
	Shared Limiter
	// InFlight is the number of slots: how many admitted requests of all
	// tenants may be under way at once. 0 and less are no bound.
	//
	// A quarter of the slots, rounded up, is kept for tenants that hold none. A
	// tenant that holds a slot gets another one only while more than that
	// quarter is free. One tenant holds at most half of the slots, rounded up.
	InFlight int
	// Tenant are the limits of every tenant that has none of its own.
	Tenant Limits

	// Starts are limits of how many tenants may begin: make a first request,
	// or the first after WarmFor without one. Empty is no limit.
	Starts []Limit
	// WarmFor is how long after its last request a tenant needs no new start.
	// 0 means an hour.
	WarmFor time.Duration

	// Lanes is how many lanes there are. 0 means 2.
	Lanes int
	// LaneShare says how often a lane has its turn while more urgent ones
	// wait: when LaneShare-1 of those went before it. Of two lanes the lower
	// one thus gets at least one in LaneShare of the tenant's admissions, and
	// of a key's. 0 means 10, the least is 2.
	LaneShare int

	// MaxWaiting bounds how many wait, and MaxWaitingPerTenant how many of one
	// tenant; more are refused with [ErrQueueFull]. 0 means 100,000 and 10,000.
	MaxWaiting, MaxWaitingPerTenant int
	// MaxTenants and MaxKeys bound how many tenants, and keys of all tenants,
	// are remembered. One is forgotten only when that loses nothing: its
	// bucket is full, it is not frozen and nobody waits. When that is not
	// enough, new ones are refused with [ErrQueueFull]. 0 means 131,072 and
	// 1,048,576. A tenant takes some 550 bytes, and 200 for each further class
	// that it uses; a key some 210, where K is a number (BenchmarkSchedulerMemory).
	MaxTenants, MaxKeys int
}

func (c Config) withDefaults() (Config, error) {
	var bad []error
	count := func(name string, value *int, zero, least int) {
		if *value == 0 {
			*value = zero
		}
		if *value < least {
			bad = append(bad, fmt.Errorf("%s is %d", name, *value))
		}
	}
	count("Lanes", &c.Lanes, 2, 1)
	count("LaneShare", &c.LaneShare, 10, 2)
	count("MaxWaiting", &c.MaxWaiting, 100_000, 1)
	count("MaxWaitingPerTenant", &c.MaxWaitingPerTenant, 10_000, 1)
	count("MaxTenants", &c.MaxTenants, 1<<17, 1)
	count("MaxKeys", &c.MaxKeys, 1<<20, 1)
	if c.WarmFor == 0 {
		c.WarmFor = time.Hour
	}
	if c.WarmFor < 0 {
		bad = append(bad, errors.New("WarmFor is negative"))
	}
	for _, l := range append([]Limit{c.Total}, c.Starts...) {
		if err := l.Check(); err != nil {
			bad = append(bad, err)
		}
	}
	if err := c.Tenant.Check(); err != nil {
		bad = append(bad, fmt.Errorf("field Tenant: %w", err))
	}
	if len(bad) > 0 {
		return c, fmt.Errorf("configure scheduler: %w", errors.Join(bad...))
	}
	c.Starts = slices.DeleteFunc(slices.Clone(c.Starts), Limit.IsUnlimited)
	return c, nil
}

// Scheduler admits requests of many tenants at three levels at once: what all
// share, what the tenant may, and what one key of the tenant may. A request
// that can't go yet waits its turn, and nothing is taken from any level before
// all have room.
//
// Who waits for what all share goes in fair order: tenants get it in
// proportion to their weights, whatever each of them asks, and one that asks
// less than its share hardly waits. Within a tenant, a key that waits holds up
// no other key, and urgent lanes go first without ever starving the rest.
// Within a key and lane the order is that of arrival.
//
// It starts no goroutine and has one timer, which is stopped while nobody
// waits. A Scheduler is safe for concurrent use. Make it with [NewScheduler].
type Scheduler[K comparable] struct {
	cfg     Config
	base    time.Time
	warmFor int64 // 0 where starts have no limit
	waiters sync.Pool

	// mu guards what follows. What is called under it is quick and calls
	// nothing of the caller's but Config.Shared. All times are nanoseconds
	// since base.
	mu      sync.Mutex
	closed  bool
	tenants table[string, *tenant[K]]
	keys    table[ref[K], *key[K]]
	at      int64 // when idle is asked
	common  *Limits
	own     map[string]*Limits
	// changedAt is when any limit was changed last.
	changedAt int64

	total    bucket
	frozen   int64 // until
	slots    slots
	inFlight int
	capped   *tenant[K] // that has parked gates since it holds half of the slots; see park

	starts       []bucket
	startsFrozen int64 // until
	starting     int   // tenants that wait to begin
	retryStarts  int64

	metered, free fair[K]
	freeTurn      bool
	retry         int64 // when what all share may have room

	alarms heap[*alarm[K]]
	timer  *time.Timer
	armed  int64

	ticket     uint64
	waiting    int
	admitted   uint64
	refused    uint64
	holders    map[uint64]*key[K]   // by ticket
	frozenKeys map[*key[K]]struct{} // and some that were
}

// NewScheduler returns a scheduler whose buckets are full. The error names
// every bad field of cfg.
func NewScheduler[K comparable](cfg Config) (*Scheduler[K], error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Scheduler[K]{
		cfg:         cfg,
		base:        time.Now().Add(-1), // so that now is never 0
		common:      cfg.Tenant.clone(),
		own:         make(map[string]*Limits),
		total:       newBucket(cfg.Total),
		slots:       newSlots(cfg.InFlight),
		retry:       never,
		retryStarts: never,
		armed:       never,
		holders:     make(map[uint64]*key[K]),
		frozenKeys:  make(map[*key[K]]struct{}),
	}
	s.metered.metered = true
	for i, q := range s.queues() {
		q.i = i
	}
	s.tenants = newTable[string](cfg.MaxTenants, s.idle, nil)
	s.keys = newTable[ref[K]](cfg.MaxKeys, s.idleKey, s.forgotten)
	for _, l := range cfg.Starts {
		s.starts = append(s.starts, newBucket(l))
		s.warmFor = int64(cfg.WarmFor)
	}
	s.waiters.New = func() any {
		w := &waiter[K]{done: make(chan error, 1)}
		w.place.of, w.expiry.of = w, w
		return w
	}
	if n, ok := cfg.Shared.(Notifier); ok {
		n.Notify(s.fire)
	}
	return s, nil
}

// queues is how many queues there are.
const queues = 6

func (s *Scheduler[K]) queues() [queues]*queue[K] {
	m, f := &s.metered, &s.free
	return [queues]*queue[K]{&m.first, &m.further, &m.slotless, &f.first, &f.further, &f.slotless}
}

// now returns the time since base.
func (s *Scheduler[K]) now() int64 { return int64(time.Since(s.base)) }

func (s *Scheduler[K]) time(now int64) time.Time { return s.base.Add(time.Duration(now)) }

// Admit waits until the request may go. It fails at once when ctx is done,
// when the queue is full, and when the wait would not end before ctx's
// deadline or within MaxWait. The error is a *[Refusal], or says what of the
// request makes no sense.
//
// Whoever is admitted must release the permit when the request has ended. A
// request that is refused, or whose context ends while it waits, has taken
// nothing, and its turn goes to the next.
func (s *Scheduler[K]) Admit(ctx context.Context, r Request[K]) (Permit[K], error) {
	if err := r.check(s.cfg.Lanes); err != nil {
		return Permit[K]{}, err
	}
	// The context is the caller's, and so isn't asked under the lock.
	var done error
	if ctx.Err() != nil {
		done = ended(ctx)
	}
	ends, _ := ctx.Deadline()
	w, p, err := s.ask(&r, done, ends)
	if w == nil {
		return p, err
	}
	select {
	case err = <-w.done:
	case <-ctx.Done():
		err = s.giveUp(ended(ctx), w)
	}
	p = Permit[K]{s: s, tenant: w.flow.gate.tenant, ticket: w.req.Ticket, slot: !w.req.Slotless, began: w.began}
	s.recycle(w)
	if err != nil {
		return Permit[K]{}, err
	}
	return p, nil
}

// ask admits a request at once, refuses it, or returns what waits for it. Its
// context may be done already, or have a deadline.
func (s *Scheduler[K]) ask(r *Request[K], done error, ends time.Time) (*waiter[K], Permit[K], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now() // with the lock, or what waited for it would count as earlier
	if s.closed {
		done = ErrClosed
	}
	if done != nil {
		s.refused++
		return nil, Permit[K]{}, &Refusal{Err: done}
	}
	t := s.tenantOf(now, r.Tenant, false)
	if t == nil {
		s.refused++
		return nil, Permit[K]{}, &Refusal{Err: ErrQueueFull, Level: LevelTenant}
	}
	g := s.gate(t, r)
	k, ok := s.keyFor(now, t, r, false)
	if !ok {
		s.refused++
		return nil, Permit[K]{}, &Refusal{Err: ErrQueueFull, Level: LevelKey}
	}
	again := r.Ticket != 0
	if !again {
		s.ticket++
		r.Ticket = s.ticket
	}
	if admitted, began := s.try(now, g, k, r); admitted {
		if s.metered.len() > 0 || k != nil && len(k.flows) > 0 {
			s.pump(now) // who is next may have lost its slot, or the key's units, and so its turn
		}
		return nil, Permit[K]{s: s, tenant: t, ticket: r.Ticket, slot: !r.Slotless, began: began}, nil
	}
	if level, large := s.tooLarge(now, g, k, r); large {
		s.refused++
		return nil, Permit[K]{}, &Refusal{Err: ErrTooLarge, Level: level, Wait: Forever}
	}
	if k, ok = s.keyFor(now, t, r, true); !ok {
		s.refused++
		return nil, Permit[K]{}, &Refusal{Err: ErrQueueFull, Level: LevelKey}
	}
	w, err := s.join(now, s.deadline(now, ends, r), g, k, r, again)
	if err != nil {
		s.refused++
	}
	return w, Permit[K]{}, err
}

// deadline is when the request must have been admitted.
func (s *Scheduler[K]) deadline(now int64, ends time.Time, r *Request[K]) int64 {
	deadline := never
	if r.MaxWait > 0 {
		deadline = later(now, int64(r.MaxWait))
	}
	if !ends.IsZero() {
		deadline = min(deadline, int64(ends.Sub(s.base)))
	}
	return deadline
}

// keyFor returns the key of a request, and whether there is room for it. It is
// nil where the request has none, or where nothing needs to be known of it
// because it has no limit and the request does not wait.
func (s *Scheduler[K]) keyFor(now int64, t *tenant[K], r *Request[K], waits bool) (*key[K], bool) {
	var none K
	if r.Key == none {
		return nil, true
	}
	k, found := s.keys.get(ref[K]{t, r.Key})
	if !found {
		if !waits && limitOf(t.limits.Keys, r.KeyClass).IsUnlimited() {
			return nil, true
		}
		if k = s.keyOf(now, t, r.Key, false); k == nil {
			return nil, false
		}
	}
	return k, true
}

// tooLarge reports whether a level can never hold what the request costs.
func (s *Scheduler[K]) tooLarge(now int64, g *gate[K], k *key[K], r *Request[K]) (Level, bool) {
	large := func(b *bucket) bool { return b.tooLarge(r.need(b)) }
	switch {
	case k != nil && k.binds(r) && large(k.in(now, r.KeyClass)):
		return LevelKey, true
	case !g.metered():
		return 0, false
	case large(g.bucket):
		return LevelTenant, true
	case large(&s.total):
		return LevelAll, true
	}
	return 0, false
}

// giveUp ends a wait whose context is done. One that was admitted at the same
// moment gives everything back.
func (s *Scheduler[K]) giveUp(cause error, w *waiter[K]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	select {
	case err := <-w.done:
		if err != nil {
			return err
		}
		s.undo(now, w)
		s.refused++
		s.pump(now)
		return &Refusal{Err: cause}
	default:
	}
	f := w.flow
	at, level := s.earliest(now, f.gate, f.key, 0, &w.req)
	s.dequeue(w)
	s.refused++
	s.changed(now, f)
	s.pump(now)
	return &Refusal{Err: cause, Level: level, Wait: duration(at, now)}
}

func (s *Scheduler[K]) newWaiter(r *Request[K]) *waiter[K] {
	w := s.waiters.Get().(*waiter[K])
	w.req = *r
	return w
}

// recycle is called when what was sent to the waiter was received.
func (s *Scheduler[K]) recycle(w *waiter[K]) {
	var none Request[K]
	w.req, w.flow, w.charge, w.granted, w.began = none, nil, 0, 0, false
	s.waiters.Put(w)
}

// Close refuses all who wait, and all who come, with [ErrClosed], and stops
// the timer. Permits that are out may be released later. Close may be called
// more than once.
func (s *Scheduler[K]) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, t := range s.tenants.values() {
		for _, g := range t.gates {
			if g == nil {
				continue
			}
			for _, f := range g.flows() {
				for f.waiters.n > 0 {
					s.refuse(f.first(), &Refusal{Err: ErrClosed})
				}
				s.placeFlow(s.now(), f)
			}
		}
	}
	s.arm(s.now())
}
