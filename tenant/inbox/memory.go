package inbox

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// MemoryConfig configures a [Memory]. Its zero value is a good one. Negative
// values are errors.
type MemoryConfig struct {
	// MaxUpdates and MaxPerTenant bound how many updates wait or are leased,
	// of all tenants and of one. 0 means 200,000 and 20,000.
	MaxUpdates, MaxPerTenant int
	// MaxBytes bounds the size of all updates that wait or are leased, as
	// Telegram sent them. 0 means 256 MiB.
	MaxBytes int64
	// MaxBytesPerTenant bounds the same of one tenant; what is larger alone
	// is taken where the tenant has nothing else. 0 means an eighth of
	// MaxBytes.
	//
	// The last sixteenth of MaxUpdates and of MaxBytes is kept for tenants
	// that have less than their share, which is that of all divided by those
	// that have something.
	MaxBytesPerTenant int64
	// MaxDead and MaxDeadPerTenant bound the dead letters, of all tenants and
	// of one, and MaxDeadBytes their size in all. Past MaxDeadPerTenant the
	// tenant's oldest makes room, past the others the oldest of the tenant that
	// has most. 0 means 20,000, 1000 and a quarter of MaxBytes.
	MaxDead, MaxDeadPerTenant int
	MaxDeadBytes              int64
	// RetryAfter is what those are told who are refused. 0 means 5 s.
	RetryAfter time.Duration
	// Remember is for how long at least the id of an update is remembered,
	// to drop duplicates, and at most an hour longer. 0 means 24 h, which is
	// how long Telegram keeps an update.
	Remember time.Duration
}

// Memory is an [Inbox] in this process's memory: for tests, and for services
// that may lose what they have received when they end. It is durable for as
// long as the process is. It starts no goroutine and needs no closing. Make it
// with [NewMemory].
type Memory struct {
	cfg MemoryConfig

	mu     sync.Mutex // guards what follows
	boxes  map[string]*box
	ring   list[*box] // those with a ready chat, by turn
	all    list[*box] // every one; the first is looked at next by tidy
	swept  time.Time  // when all were last looked through for what has expired
	timers timers
	holds  holds
	token  int64
	count  int // that wait or are leased
	bytes  int64
	busy   int // tenants that any of those are of
	graves graves
	wake   chan struct{} // nil while nobody has asked
	stats  MemoryStats
}

// MemoryStats are a [Memory]'s figures since it was made.
type MemoryStats struct {
	// Stored, Duplicates and Refused count updates that were put.
	Stored     uint64 `json:"stored"`
	Duplicates uint64 `json:"duplicates"`
	Refused    uint64 `json:"refused"`
	// Expired counts updates dropped because they were no longer worth
	// handling, and Lapsed leases that nobody settled in time.
	Expired uint64 `json:"expired"`
	Lapsed  uint64 `json:"lapsed"`
	// DeadDropped counts dead letters that made room for newer ones.
	DeadDropped uint64 `json:"dead_dropped"`
}

// NewMemory returns an empty inbox. The error names every bad field.
func NewMemory(cfg MemoryConfig) (*Memory, error) {
	var bad []error
	count := func(name string, value *int, zero int) {
		if *value < 0 {
			bad = append(bad, fmt.Errorf("%s is negative", name))
		}
		if *value == 0 {
			*value = zero
		}
	}
	count("MaxUpdates", &cfg.MaxUpdates, 200_000)
	count("MaxPerTenant", &cfg.MaxPerTenant, 20_000)
	count("MaxDead", &cfg.MaxDead, 20_000)
	count("MaxDeadPerTenant", &cfg.MaxDeadPerTenant, 1000)
	size := func(name string, value *int64, zero int64) {
		if *value < 0 {
			bad = append(bad, fmt.Errorf("%s is negative", name))
		}
		if *value == 0 {
			*value = zero
		}
	}
	size("MaxBytes", &cfg.MaxBytes, 256<<20)
	size("MaxBytesPerTenant", &cfg.MaxBytesPerTenant, max(cfg.MaxBytes/8, 1))
	size("MaxDeadBytes", &cfg.MaxDeadBytes, max(cfg.MaxBytes/4, 1))
	if cfg.RetryAfter < 0 {
		bad = append(bad, errors.New("RetryAfter is negative"))
	}
	if cfg.RetryAfter == 0 {
		cfg.RetryAfter = 5 * time.Second
	}
	if cfg.Remember < 0 {
		bad = append(bad, errors.New("Remember is negative"))
	}
	if cfg.Remember == 0 {
		cfg.Remember = 24 * time.Hour
	}
	if len(bad) > 0 {
		return nil, fail("configure inbox", "", errors.Internal, errors.Join(bad...))
	}
	return &Memory{
		cfg: cfg, boxes: make(map[string]*box), graves: graves{maxCount: cfg.MaxDead, maxBytes: cfg.MaxDeadBytes},
	}, nil
}

var (
	_ Inbox  = (*Memory)(nil)
	_ Waker  = (*Memory)(nil)
	_ Holder = (*Memory)(nil)
)

// Put implements [Inbox].
func (m *Memory) Put(ctx context.Context, batch []Update) ([]Outcome, error) {
	if ctx.Err() != nil {
		return nil, ended("put updates", ctx)
	}
	outcomes := make([]Outcome, len(batch))
	now := time.Now()
	var refused map[string]error
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range batch {
		u := &batch[i]
		if err := u.Validate(); err != nil {
			outcomes[i].Err = err
			continue
		}
		b := m.boxes[u.Tenant]
		if b != nil {
			b.seen.forget(hours(now.Add(-m.cfg.Remember))) // ids may have been started anew since
		}
		if b != nil && b.seen.has(u.ID) {
			m.stats.Duplicates++
			outcomes[i].Duplicate = true
			continue
		}
		err := refused[u.Tenant]
		if err == nil {
			if err = m.room(b, u, now); err != nil {
				if refused == nil {
					refused = make(map[string]error)
				}
				refused[u.Tenant] = err
			}
		}
		if err != nil {
			m.stats.Refused++
			outcomes[i].Err = err
			continue
		}
		m.put(b, u, now)
	}
	m.tidy(now)
	return outcomes, nil
}

// room reports that there is no room for an update.
func (m *Memory) room(b *box, u *Update, now time.Time) error {
	size := int64(len(u.Raw))
	full := func() bool {
		spareCount, spareBytes := m.cfg.MaxUpdates/16, m.cfg.MaxBytes/16
		if b == nil || b.waiting+b.leased < m.cfg.MaxUpdates/max(m.busy, 1) && b.bytes < m.cfg.MaxBytes/int64(max(m.busy, 1)) {
			spareCount, spareBytes = 0, 0
		}
		return m.count >= m.cfg.MaxUpdates-spareCount || m.bytes+size > m.cfg.MaxBytes-spareBytes
	}
	own := func() bool {
		return b != nil && (b.waiting+b.leased >= m.cfg.MaxPerTenant || b.bytes > 0 && b.bytes+size > m.cfg.MaxBytesPerTenant)
	}
	if own() {
		m.expire(b, now)
		if own() {
			return Full(u.Tenant, errors.ScopeTenant, m.cfg.RetryAfter)
		}
	}
	if full() {
		if now.Sub(m.swept) >= time.Second { // it looks at every tenant
			m.swept = now
			for e := m.all.first; e != nil; e = e.next {
				m.expire(e.of, now)
			}
		}
		if full() {
			return Full(u.Tenant, errors.ScopeAll, m.cfg.RetryAfter)
		}
	}
	return nil
}

func (m *Memory) put(b *box, u *Update, now time.Time) {
	if b == nil {
		b = &box{id: u.Tenant, chats: make(map[string]*chat), graveAt: -1, heldAt: -1}
		b.turn.of, b.all.of = b, b
		m.boxes[u.Tenant] = b
		m.all.pushBack(&b.all)
	}
	b.seen.add(u.ID, hours(now))
	m.stats.Stored++
	i := &item{Update: *u}
	i.Attempt = 0
	m.insert(b, i)
}

// insert makes an item wait.
func (m *Memory) insert(b *box, i *item) {
	c := b.chats[i.Chat]
	if c == nil {
		c = &chat{box: b, name: i.Chat, timerAt: -1}
		c.ready.of = c
		b.chats[i.Chat] = c
	}
	if !i.ExpiresAt.IsZero() && (b.soonest.IsZero() || i.ExpiresAt.Before(b.soonest)) {
		b.soonest = i.ExpiresAt
	}
	c.add(i)
	if b.waiting+b.leased == 0 {
		m.busy++
	}
	b.waiting++
	b.bytes += int64(len(i.Raw))
	m.count++
	m.bytes += int64(len(i.Raw))
	m.settled(c)
}

// settled puts a chat where it belongs after a change: among the ready, or
// away when nothing is left of it. One that waits for a time stays there.
func (m *Memory) settled(c *chat) {
	b := c.box
	switch {
	case c.out != nil || c.timerAt >= 0:
		c.ready.leave()
	case len(c.queue) == 0:
		c.ready.leave()
		delete(b.chats, c.name)
	case c.ready.in == nil:
		b.ready.pushBack(&c.ready)
		if b.heldAt < 0 {
			m.tell()
		}
	}
	switch {
	case b.ready.first == nil:
		b.turn.leave()
	case b.turn.in == nil && b.heldAt < 0:
		m.ring.pushBack(&b.turn)
	}
}

// tell wakes who waits.
func (m *Memory) tell() {
	if m.wake != nil {
		close(m.wake)
		m.wake = nil
	}
}

// gone counts an item out that its box does not count any more.
func (m *Memory) gone(b *box, i *item) {
	if b.waiting+b.leased == 0 {
		m.busy--
	}
	b.bytes -= int64(len(i.Raw))
	m.count--
	m.bytes -= int64(len(i.Raw))
}

// due lets go on what has waited for its time: leases that have expired, and
// chats whose next try may be, and tenants that were held back.
func (m *Memory) due(now time.Time) {
	m.release(now)
	for len(m.timers) > 0 && !m.timers[0].at.After(now) {
		c := heap.Pop(&m.timers).(*chat)
		if c.out != nil {
			m.stats.Lapsed++
			m.back(c)
		}
		m.settled(c)
	}
}

// back makes the leased item wait again.
func (m *Memory) back(c *chat) {
	i := c.out
	c.out = nil
	c.add(i)
	c.box.leased--
	c.box.waiting++
	if !i.ExpiresAt.IsZero() && (c.box.soonest.IsZero() || i.ExpiresAt.Before(c.box.soonest)) {
		c.box.soonest = i.ExpiresAt
	}
}

// expire drops what has expired of a tenant's updates that wait.
func (m *Memory) expire(b *box, now time.Time) {
	if b.soonest.IsZero() || now.Before(b.soonest) {
		return
	}
	b.soonest = time.Time{}
	for _, c := range b.chats {
		kept := c.queue[:0]
		for _, i := range c.queue {
			if i.Expired(now) {
				m.drop(b, i)
				continue
			}
			if !i.ExpiresAt.IsZero() && (b.soonest.IsZero() || i.ExpiresAt.Before(b.soonest)) {
				b.soonest = i.ExpiresAt
			}
			kept = append(kept, i)
		}
		clear(c.queue[len(kept):])
		c.queue = kept
		if len(c.queue) == 0 && c.out == nil {
			m.timers.remove(c)
		}
		m.settled(c)
	}
}

// drop counts an expired item out.
func (m *Memory) drop(b *box, i *item) {
	b.waiting--
	m.gone(b, i)
	m.stats.Expired++
}

// tidy looks at a few tenants, in turn, for what need not be remembered any
// more, so that tenants that have fallen silent are forgotten.
func (m *Memory) tidy(now time.Time) {
	for range 2 {
		if m.all.first == nil {
			return
		}
		b := m.all.first.of
		b.all.leave()
		b.seen.forget(hours(now.Add(-m.cfg.Remember)))
		m.expire(b, now)
		if b.empty() {
			delete(m.boxes, b.id)
			continue
		}
		m.all.pushBack(&b.all)
	}
}

// Wake implements [Waker].
func (m *Memory) Wake() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wake == nil {
		m.wake = make(chan struct{})
	}
	return m.wake
}

// Stats returns the figures of this moment.
func (m *Memory) Stats() MemoryStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}
