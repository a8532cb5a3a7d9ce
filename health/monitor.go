package health

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health/internal/loop"
)

// Config configures a [Monitor]. Its zero value watches, and neither stores
// nor alerts.
type Config struct {
	// Thresholds say when a status changes.
	Thresholds Thresholds
	// Window and LongWindow are the times over which the share of failed calls
	// is taken. They move in twelve steps. 0 means 5 min and 1 h.
	Window, LongWindow time.Duration
	// MaxTenants bounds how many tenants are remembered. 0 means 200,000. The
	// outcomes of further ones count for the fleet and for nobody: see
	// [Fleet.Untracked]. Those on whose suspension somebody decided are
	// remembered in any case.
	MaxTenants int

	// Alerts says who is told when a status changes.
	Alerts AlertConfig

	// Store is where snapshots are kept. Nil keeps none.
	Store Store
	// SaveEvery is the time between saves, give or take a tenth. A crash loses
	// what was counted since the last one. 0 means 5 min.
	SaveEvery time.Duration
	// SaveBatch is how many snapshots are saved at once. 0 means 500.
	SaveBatch int

	// Gone says which of some tenants are there no longer. They are then
	// forgotten as by [Monitor.Forget], which is not called where a process is
	// killed after a tenant was removed, and only in one of several replicas.
	// What is not a minute older than the question stays, so that a tenant who
	// registers meanwhile with the same id loses nothing. It is asked for up to
	// 1,000 at once, when they are loaded, an hour after the start, and then once
	// a day, or an hour after an error, on which nothing is forgotten; its context
	// ends after 30 s. Nil forgets nobody. See package tenant's Gone.
	Gone func(ctx context.Context, tenants []string) ([]string, error)

	// Logger is told of stores and handlers that fail. Nil discards it.
	Logger *slog.Logger
}

// Monitor knows how each tenant's bot does. Make it with [New], tell it of
// outcomes with [Monitor.Observe], and [Monitor.Start] it if it is to store or
// alert. It is safe for concurrent use, and nothing that reports to it or asks
// it ever waits for a store or a handler.
//
// Of several replicas each knows what was stored when it started, and what it
// has been told since. What they store adds up.
type Monitor struct {
	thresholds Thresholds
	start      time.Time // what all times are since
	slot, long int64     // how long a window's part is
	seed       maphash.Seed
	shards     [shardCount]shard
	most       int64
	tenants    atomic.Int64
	untracked  atomic.Uint64
	platform   atomic.Uint32 // the platform's Breaker
	byStatus   [statuses]atomic.Int64
	alerts     *alerts   // nil where nobody is told
	saver      *saver    // nil where nothing is stored
	gone       loop.Gone // nil where nobody says
	log        *slog.Logger
	life       loop.Life
}

// shardCount keeps those who report apart. A power of two.
const shardCount = 64

// shard is a part of the tenants.
type shard struct {
	// mu guards what follows. Of all else, only the locks of the alerts and of
	// the saver's list are taken while it is held, and nothing is called that is not ours.
	mu      sync.Mutex
	tenants map[string]*state
	ill     map[string]*state // those that are degraded or unhealthy
	// The fleet's figures are the sums of the shards'.
	requests, failures, rejected, refused uint64
	window                                window[uint32]
	latency                               bins[uint32]
	_                                     [64]byte // no two shards on one cache line
}

// New returns a Monitor. The error names every bad field of cfg.
func New(cfg Config) (*Monitor, error) {
	var bad []error
	thresholds, err := cfg.Thresholds.withDefaults()
	if err != nil {
		bad = append(bad, fmt.Errorf("%s: %w", "Thresholds", err))
	}
	positive := func(name string, d *time.Duration, zero time.Duration) {
		if *d == 0 {
			*d = zero
		}
		if *d < time.Second {
			bad = append(bad, fmt.Errorf("%s is below 1 s", name))
		}
	}
	positive("Window", &cfg.Window, 5*time.Minute)
	positive("LongWindow", &cfg.LongWindow, time.Hour)
	positive("SaveEvery", &cfg.SaveEvery, 5*time.Minute)
	if cfg.MaxTenants < 0 {
		bad = append(bad, errors.New("MaxTenants is negative"))
	} else if cfg.MaxTenants == 0 {
		cfg.MaxTenants = 200_000
	}
	if cfg.SaveBatch < 0 {
		bad = append(bad, errors.New("SaveBatch is negative"))
	} else if cfg.SaveBatch == 0 {
		cfg.SaveBatch = 500
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Monitor{
		thresholds: thresholds,
		start:      time.Now(),
		slot:       int64(cfg.Window) / windowSlots,
		long:       int64(cfg.LongWindow) / windowSlots,
		seed:       maphash.MakeSeed(),
		most:       int64(cfg.MaxTenants),
		gone:       cfg.Gone,
		log:        cfg.Logger,
	}
	if m.alerts, err = newAlerts(cfg.Alerts, cfg.Logger, m.told); err != nil {
		bad = append(bad, fmt.Errorf("%s: %w", "Alerts", err))
	}
	if err := errors.Join(bad...); err != nil {
		return nil, fmt.Errorf("health: %w", err)
	}
	if cfg.Store != nil {
		m.saver = newSaver(cfg)
	}
	for i := range m.shards {
		m.shards[i].tenants = make(map[string]*state)
		m.shards[i].ill = make(map[string]*state)
	}
	return m, nil
}

// now returns the time in the monitor's own measure.
func (m *Monitor) now() int64 { return int64(time.Since(m.start)) }

// at converts a time; the zero time is now, and no time is later.
func (m *Monitor) at(t time.Time) int64 {
	now := m.now()
	if t.IsZero() {
		return now
	}
	return min(m.past(t), now)
}

// past converts a time; the zero time is never.
func (m *Monitor) past(t time.Time) int64 {
	if t.IsZero() {
		return never
	}
	return max(int64(t.Sub(m.start)), longAgo)
}

// before is past for a time that has been: a clock that was ahead when it was
// stored must not keep out all that comes before it.
func (m *Monitor) before(t time.Time) int64 { return min(m.past(t), m.now()) }

// longAgo is before all else, and so far from the end of the range that no
// difference between two times overflows.
const longAgo = -1 << 61

// wall converts back; never is the zero time.
func (m *Monitor) wall(at int64) time.Time {
	if at == never {
		return time.Time{}
	}
	// Without the monotonic reading, which means nothing outside this process.
	return m.start.Add(time.Duration(at)).Round(0).UTC()
}

// given is at without a look at the clock, which takes a third of an Observe.
func (m *Monitor) given(t time.Time) int64 {
	if t.IsZero() {
		return m.now()
	}
	return m.past(t)
}

func (m *Monitor) shard(tenant string) *shard {
	return &m.shards[maphash.String(m.seed, tenant)%shardCount]
}

// Observe counts what became of an attempt of a call. It does not block and
// does not allocate once it knows the tenant.
func (m *Monitor) Observe(tenant string, o Outcome) {
	v := verdicts[o.Kind]
	if v == abandoned {
		return
	}
	now := m.given(o.At)
	shortSlot, longSlot := slotOf(now, m.slot), slotOf(now, m.long)
	bin := binOf(o.Latency)
	sh := m.shard(tenant)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if shortSlot > sh.window.at {
		// A time that has not come yet would keep out all that come before it.
		// To look at the clock once in a while is enough to know.
		if real := m.now(); now > real {
			now, shortSlot, longSlot = real, slotOf(real, m.slot), slotOf(real, m.long)
		}
	}
	if v == refused {
		sh.refused++
	} else {
		sh.requests++
		switch v {
		case failure:
			sh.failures++
		case rejected:
			sh.rejected++
		}
		sh.window.add(shortSlot, v == failure)
		if !o.Poll {
			sh.latency.add(bin, 1, maxBins)
		}
	}
	s := m.state(sh, tenant)
	if s == nil {
		m.untracked.Add(1)
		return
	}
	s.observe(now, shortSlot, longSlot, &o, v, bin, m.thresholds.Conflicts)
	if s.status != Healthy || s.short.sum.failed > 0 || s.long.sum.failed > 0 {
		m.settle(sh, tenant, s, now)
	}
}

func slotOf(now, length int64) int32 {
	n := now / length
	if now%length < 0 {
		n--
	}
	return int32(min(max(n, math.MinInt32), math.MaxInt32))
}

// state returns what is known of a tenant, nil where there is no room for a
// new one, and for the empty id, which no store takes. The shard's lock is held.
func (m *Monitor) state(sh *shard, tenant string) *state { return m.known(sh, tenant, false) }

// known is state, and makes room if it must.
func (m *Monitor) known(sh *shard, tenant string, must bool) *state {
	s := sh.tenants[tenant]
	if s == nil {
		if tenant == "" {
			return nil
		}
		if m.tenants.Add(1) > m.most && !must {
			m.tenants.Add(-1)
			return nil
		}
		s = newState()
		sh.tenants[tenant] = s
		m.byStatus[Healthy].Add(1)
	}
	return s
}

// with calls f with a tenant's state under its shard's lock, unless there is
// no room for it.
func (m *Monitor) with(tenant string, f func(*shard, *state)) {
	sh := m.shard(tenant)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s := m.state(sh, tenant); s != nil {
		f(sh, s)
	}
}

// Update notes that the tenant's bot received an update.
func (m *Monitor) Update(tenant string, at time.Time) {
	now := m.at(at)
	m.with(tenant, func(_ *shard, s *state) {
		s.lastUpdate, s.dirty = max(s.lastUpdate, now), true
	})
}

// SetBreaker notes the state of the tenant's circuit breaker.
func (m *Monitor) SetBreaker(tenant string, b Breaker) {
	if b == BreakerClosed && !m.knows(tenant) {
		return // the breaker of a tenant that is gone is closed at some time too
	}
	m.with(tenant, func(_ *shard, s *state) { s.breaker = b })
}

// SetPlatformBreaker notes the state of the circuit breaker of all tenants
// together, which [Fleet] shows.
func (m *Monitor) SetPlatformBreaker(b Breaker) { m.platform.Store(uint32(b)) }

// SetWebhook notes what getWebhookInfo says of the tenant's bot. An answer that
// is older than the last one is left out.
func (m *Monitor) SetWebhook(tenant string, info WebhookInfo) {
	w := m.webhookOf(&info)
	m.with(tenant, func(sh *shard, s *state) {
		s.more().webhook.saw(w)
		s.dirty = true
		m.settle(sh, tenant, s, w.at)
	})
}

// settle gives a tenant the status that it should have now, and tells of it
// when that is another one. The shard's lock is held, so that the transitions
// of a tenant are told in order.
func (m *Monitor) settle(sh *shard, tenant string, s *state, now int64) {
	s.short.move(slotOf(now, m.slot))
	s.long.move(slotOf(now, m.long))
	to, why := m.thresholds.next(s, now)
	from := s.status
	s.status, s.cause = to, why
	if to == from {
		return
	}
	s.since, s.dirty = now, true
	m.byStatus[from].Add(-1)
	m.byStatus[to].Add(1)
	if to == Degraded || to == Unhealthy {
		sh.ill[tenant] = s
	} else {
		delete(sh.ill, tenant)
	}
	if to > from {
		s.group = groupOf(why, s.lastKind)
	}
	if m.alerts != nil {
		m.hurry(tenant, s) // a crash must not take what waits to be told with it
		m.alerts.add(Transition{
			Tenant: tenant,
			From:   from,
			To:     to,
			At:     m.wall(now),
			Kind:   s.kind(),
			Reason: m.reason(s, now),
			Group:  groupName(s.group),
		})
	}
}

// Forget drops what is known of a tenant, also in the store. Outcomes that are
// reported later make it known again, so call it once the tenant is gone. The
// error is the store's.
func (m *Monitor) Forget(ctx context.Context, tenant string) error {
	if m.saver != nil {
		m.saver.leaveOut(tenant)
	}
	m.drop(tenant, math.MaxInt64)
	if m.saver == nil {
		return nil
	}
	return m.saver.forget(ctx, tenant, time.Time{})
}
