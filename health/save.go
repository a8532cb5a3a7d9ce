package health

import (
	"context"
	"crypto/rand"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health/internal/loop"
)

// saver keeps a monitor's snapshots in a store.
type saver struct {
	store  Store
	every  time.Duration
	batch  int
	log    *slog.Logger
	ask    loop.Gone // nil where nobody says; the loop's own
	loaded atomic.Bool
	writer string

	// turn holds one token: whoever has it talks to the store and owns what
	// follows. It is no mutex, since who waits for it obeys a context.
	turn   chan struct{}
	seq    uint64     // of the pending flush
	flying []Snapshot // the pending flush, which may or may not have been applied
	// halves are what follows it of a flush that was refused.
	halves  [][]Snapshot
	refused loop.Seldom

	kick   chan struct{}       // holds one: there is something urgent
	mu     sync.Mutex          // guards what follows; nothing is called under it
	urgent []string            // tenants on whom was decided since the last look
	gone   map[string]struct{} // tenants that were forgotten before all was loaded
}

const (
	// storeTimeout bounds one call of a store, and lastSave the last save,
	// however often it is tried.
	storeTimeout = 30 * time.Second
	lastSave     = time.Minute
)

func newSaver(cfg Config) *saver {
	s := &saver{store: cfg.Store, every: cfg.SaveEvery, batch: cfg.SaveBatch, log: cfg.Logger, ask: cfg.Gone,
		writer: rand.Text(), seq: 1, turn: make(chan struct{}, 1), kick: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

// take waits for the turn.
func (s *saver) take(ctx context.Context) error {
	select {
	case <-s.turn:
		return nil
	case <-ctx.Done():
		return loop.Ended("wait for the health store", ctx)
	}
}

func (s *saver) give() { s.turn <- struct{}{} }

// run loads what is stored and then saves, until stop is closed; then it saves
// once more. It returns the error of that.
func (s *saver) run(ctx context.Context, m *Monitor, stop <-chan struct{}) error {
	if !s.load(ctx, m, stop) {
		// What was counted can't be added to the store before it was loaded,
		// or it would be loaded again; but it can once nothing will be.
		return s.last(ctx, m)
	}
	timer := time.NewTimer(loop.Jitter(s.every))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			_ = s.save(ctx, m, stop) // was logged
			timer.Reset(loop.Jitter(s.every))
		case <-s.kick:
			_ = s.saveAll(ctx, m, stop, false)
		case <-stop:
			return s.last(ctx, m)
		case <-ctx.Done():
			return loop.Ended("save health snapshots", ctx)
		}
	}
}

// hurry has a tenant saved at once: what somebody decided must not be lost.
func (s *saver) hurry(tenant string) {
	s.mu.Lock()
	s.urgent = append(s.urgent, tenant)
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// leaveOut keeps a tenant that is forgotten from being loaded again: the page
// that it is on may be under way.
func (s *saver) leaveOut(tenant string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded.Load() {
		return
	}
	if s.gone == nil {
		s.gone = make(map[string]struct{})
	}
	s.gone[tenant] = struct{}{}
}

// isGone reports whether a tenant was forgotten before it was loaded.
func (s *saver) isGone(tenant string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, gone := s.gone[tenant]
	return gone
}

func (s *saver) hasUrgent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.urgent) > 0
}

// decided takes a batch of the snapshots that are urgent.
func (s *saver) decided(m *Monitor) (list []Snapshot) {
	s.mu.Lock()
	n := min(len(s.urgent), s.batch)
	tenants := s.urgent[:n:n]
	if s.urgent = s.urgent[n:]; len(s.urgent) == 0 {
		s.urgent = nil
	}
	s.mu.Unlock()
	for _, tenant := range tenants {
		sh := m.shard(tenant)
		sh.mu.Lock()
		if state := sh.tenants[tenant]; state != nil && state.dirty {
			list = append(list, m.take(tenant, state))
		}
		sh.mu.Unlock()
	}
	return list
}

// last saves all that is not saved yet, for as long as ctx lets it.
func (s *saver) last(ctx context.Context, m *Monitor) error {
	ctx, cancel := context.WithTimeout(ctx, lastSave)
	defer cancel()
	return s.save(ctx, m, nil)
}

// load takes in all that is stored. It reports whether it came to the end.
func (s *saver) load(ctx context.Context, m *Monitor, stop <-chan struct{}) bool {
	after, n, left := "", 0, 0
	for {
		var page []Snapshot
		ok := loop.Retry(ctx, stop, s.log, "load health snapshots", func() (err error) {
			ctx, cancel := context.WithTimeout(ctx, storeTimeout)
			defer cancel()
			page, err = s.store.Load(ctx, after, DefaultLimit)
			return err
		})
		if !ok {
			return false
		}
		if len(page) == 0 {
			s.mu.Lock()
			s.gone = nil
			s.loaded.Store(true)
			s.mu.Unlock()
			s.log.Info("health snapshots loaded", slog.Int("tenants", n))
			if left > 0 {
				s.log.Warn("health snapshots left out: MaxTenants is too low", slog.Int("tenants", left))
			}
			return true
		}
		after = page[len(page)-1].Tenant
		page = s.leaveGone(ctx, stop, page)
		n += len(page)
		for _, snap := range page {
			if !m.restore(snap) {
				left++
			}
		}
	}
}

// save saves what has changed, in batches, each of which is tried until it
// succeeds, stop is closed or ctx ends.
func (s *saver) save(ctx context.Context, m *Monitor, stop <-chan struct{}) error {
	m.beginRound()
	return s.saveAll(ctx, m, stop, true)
}

// saveAll saves what is urgent, and the rest too if asked.
func (s *saver) saveAll(ctx context.Context, m *Monitor, stop <-chan struct{}, rest bool) error {
	at, done := 0, false
	if !rest {
		at = shardCount
	}
	for !done {
		var err error
		ok := loop.Retry(ctx, stop, s.log, "save health snapshots", func() error {
			at, done, err = s.saveBatch(ctx, m, at)
			return err
		})
		if !ok {
			return err
		}
	}
	return nil
}

// saveBatch saves the batch that was not saved before, or else the next one.
// Between two batches others have their turn.
func (s *saver) saveBatch(ctx context.Context, m *Monitor, at int) (next int, done bool, err error) {
	if err := s.take(ctx); err != nil {
		return at, false, err
	}
	defer s.give()
	if n := len(s.halves); s.flying == nil && n > 0 {
		s.flying, s.halves = s.halves[n-1], s.halves[:n-1]
	}
	if s.flying == nil {
		for s.flying = s.decided(m); len(s.flying) == 0 && s.hasUrgent(); s.flying = s.decided(m) {
		}
		if len(s.flying) == 0 {
			s.flying, at = m.changed(at, s.batch)
		}
		if len(s.flying) == 0 {
			s.flying = nil
			return at, true, nil
		}
	}
	switch err := s.merge(ctx); {
	case err == nil:
	case !errors.Is(err, errors.BadRequest):
		return at, false, err
	case len(s.flying) == 1:
		// To try it again would keep all others from being saved, for ever.
		s.refused.Log(s.log, "health snapshot dropped: the store refuses it", slog.String("tenant", s.flying[0].Tenant),
			slog.Any("err", errors.Classify(err)))
	default:
		// A refused flush was not applied. One snapshot of it is to blame, and
		// halving finds it.
		half := len(s.flying) / 2
		s.halves = append(s.halves, s.flying[half:], s.flying[:half:half])
	}
	s.flying = nil
	s.seq++
	return at, false, nil
}

func (s *saver) merge(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return s.store.Merge(ctx, Flush{Writer: s.writer, Seq: s.seq}, s.flying)
}

// changed takes a batch of snapshots from the shard with number at on, and
// returns which shard to go on with. It leaves out those that this round of
// saves has had already, or a busy fleet's save would never end.
func (m *Monitor) changed(at, most int) ([]Snapshot, int) {
	var list []Snapshot
	for ; at < shardCount; at++ {
		tenants := m.shards[at].changed(most - len(list) + 1)
		full := len(list)+len(tenants) > most
		tenants = tenants[:min(len(tenants), most-len(list))]
		// To take one is slow, so those who report wait for a few at most.
		for some := range slices.Chunk(tenants, takeAtOnce) {
			list = m.takeSome(list, &m.shards[at], some)
		}
		switch {
		case full && len(list) > 0:
			return list, at
		case full: // all of those were forgotten meanwhile
			at--
		}
	}
	return list, at
}

// takeAtOnce is how many snapshots are taken under one lock: less than 1 ms.
const takeAtOnce = 32

// beginRound begins a round of saves, which has had nobody yet.
func (m *Monitor) beginRound() {
	for i := range m.shards {
		sh := &m.shards[i]
		sh.mu.Lock()
		for _, s := range sh.tenants {
			s.had = false
		}
		sh.mu.Unlock()
	}
}

// changed returns the ids of tenants that this round of saves has not had yet.
func (sh *shard) changed(most int) (tenants []string) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for tenant, s := range sh.tenants {
		if s.dirty && !s.had {
			if tenants = append(tenants, tenant); len(tenants) == most {
				break
			}
		}
	}
	return tenants
}

func (m *Monitor) takeSome(list []Snapshot, sh *shard, tenants []string) []Snapshot {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, tenant := range tenants {
		if s := sh.tenants[tenant]; s != nil && s.dirty {
			s.had = true
			list = append(list, m.take(tenant, s))
		}
	}
	return list
}

// forget removes a tenant from the store and from what is on its way there; of
// what is not before a time, unless it is zero, nothing.
func (s *saver) forget(ctx context.Context, tenant string, before time.Time) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.give()
	gone := func(snap Snapshot) bool {
		return snap.Tenant == tenant && (before.IsZero() || snap.Latest().Before(before))
	}
	for i := range s.halves {
		s.halves[i] = slices.DeleteFunc(s.halves[i], gone)
	}
	s.halves = slices.DeleteFunc(s.halves, func(half []Snapshot) bool { return len(half) == 0 })
	if s.flying != nil {
		s.flying = slices.DeleteFunc(s.flying, gone)
		if len(s.flying) == 0 {
			// It may have been applied, so its number is not for another one.
			s.flying = nil
			s.seq++
		}
	}
	return s.store.Delete(ctx, tenant, before)
}
