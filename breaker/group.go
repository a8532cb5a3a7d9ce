package breaker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// GroupConfig configures a [Group].
type GroupConfig[K comparable] struct {
	// Breaker is every key's configuration. Its OnStateChange must be nil.
	Breaker Config
	// OnStateChange hears of the changes of every key's state, for each key as
	// [Config].OnStateChange does. Changes of several keys may come at once.
	OnStateChange func(key K, c Change)
	// MaxKeys bounds how many keys are remembered. 0 means 131,072. A key takes
	// some 350 bytes, and 80 to 160 more where rates are looked at by the usual
	// windows.
	MaxKeys int
	// ForgetAfter is for when as many keys are remembered as may be: what was
	// learned so long ago, and not since, may then be forgotten. An open key is
	// forgotten that long after its open time at the soonest. 0 means an hour.
	ForgetAfter time.Duration
}

// Group is a breaker for every key. A key that was not used yet has a breaker
// in its first state. One is forgotten only when that loses nothing: it is as
// new, with no failure counted and no call under way. Since a breaker that is
// open is never forgotten before its time, and some time more, no call goes to
// a failing callee because others were busy.
//
// When as many keys are remembered as may be and none can be forgotten, the
// calls of new ones pass and are not recorded: a breaker is there to spare
// what fails, not to stop what it knows nothing of.
//
// All methods are safe for concurrent use. Make it with [NewGroup].
type Group[K comparable] struct {
	cfg  *settings
	hear func(K, Change)
	old  int64 // ForgetAfter

	// mu guards what follows. A breaker is used under a lock for reading, so
	// that it is not forgotten while a call is let in. A breaker's own lock may
	// be taken under it, never the other way round, and nothing of the
	// caller's is called under either.
	mu         sync.RWMutex
	keys       table[K, *member]
	forgotten  []*member // of which somebody is to hear
	unrecorded uint64
}

// keep is for how long a key is remembered, while there is room, after it was
// last seen to be used: it is likely to be used again.
const keep = time.Minute

// member is a key's breaker.
type member struct {
	Breaker
	// seen is how many calls it had let in when somebody looked last, and
	// seenAt since when it was as many. The group's lock guards them.
	seen   uint64
	seenAt int64
}

// NewGroup returns an empty group. The error names every bad field of cfg.
func NewGroup[K comparable](cfg GroupConfig[K]) (*Group[K], error) {
	s, err := newSettings(cfg.Breaker)
	bad := []error{err}
	if cfg.Breaker.OnStateChange != nil {
		bad = append(bad, errors.New("Breaker.OnStateChange is set; a group has its own"))
	}
	if cfg.MaxKeys == 0 {
		cfg.MaxKeys = 1 << 17
	}
	if cfg.MaxKeys < 0 {
		bad = append(bad, fmt.Errorf("MaxKeys is %d", cfg.MaxKeys))
	}
	if cfg.ForgetAfter == 0 {
		cfg.ForgetAfter = time.Hour
	}
	if cfg.ForgetAfter < 0 || cfg.ForgetAfter > maxSpan {
		bad = append(bad, fmt.Errorf("ForgetAfter is %v", cfg.ForgetAfter))
	}
	if err := errors.Join(bad...); err != nil {
		return nil, fmt.Errorf("configure group: %w", err)
	}
	g := &Group[K]{cfg: s, hear: cfg.OnStateChange, old: int64(cfg.ForgetAfter)}
	g.keys = newTable[K](cfg.MaxKeys, g.idle)
	return g, nil
}

// Do calls fn if the key's breaker lets it; see [Breaker.Do].
func (g *Group[K]) Do(ctx context.Context, key K, fn func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := g.Allow(key)
	if err != nil {
		return err
	}
	return p.run(ctx, fn)
}

// Allow lets a call of a key pass, or returns an *[OpenError]; see
// [Breaker.Allow].
func (g *Group[K]) Allow(key K) (Permit, error) {
	g.mu.RLock()
	m, found := g.keys.get(key)
	if !found {
		g.mu.RUnlock()
		return g.allowNew(key)
	}
	p, refusal, due := m.allow()
	g.mu.RUnlock()
	return answer(m, p, refusal, due)
}

// allowNew is Allow for a key that was not there just now.
func (g *Group[K]) allowNew(key K) (Permit, error) {
	g.mu.Lock()
	m, found := g.keys.get(key)
	if !found {
		m = g.make(key)
		if !g.keys.add(key, m) && g.cfg.Start != ForcedOpen {
			g.unrecorded++
			g.unlock()
			return Permit{}, nil
		}
	}
	p, refusal, due := m.allow()
	if !found {
		m.seen, m.seenAt = m.admitted, g.cfg.now()
	}
	g.unlock()
	return answer(m, p, refusal, due)
}

func answer(m *member, p Permit, refusal *OpenError, due bool) (Permit, error) {
	if due {
		m.tell()
	}
	if refusal != nil {
		return Permit{}, refusal
	}
	return p, nil
}

func (g *Group[K]) make(key K) *member {
	m := new(member)
	var hear func(Change)
	if g.hear != nil {
		hear = func(c Change) { g.hear(key, c) }
	}
	m.init(g.cfg, hear)
	return m
}

// State returns a key's state; see [Breaker.State].
func (g *Group[K]) State(key K) State { return g.Counts(key).State }

// RemainingDelay returns how long a key stays open; see
// [Breaker.RemainingDelay].
func (g *Group[K]) RemainingDelay(key K) time.Duration {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if m, found := g.keys.get(key); found {
		return m.RemainingDelay()
	}
	return 0
}

// Counts returns what a key's breaker has counted.
func (g *Group[K]) Counts(key K) Counts {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if m, found := g.keys.get(key); found {
		return m.Counts()
	}
	c := Counts{State: g.cfg.Start, Watched: g.cfg.Start}
	if c.State == WatchOnly {
		c.Watched = Closed
	}
	return c
}

// Trip opens a key's breaker; see [Breaker.Trip]. A key that there is no room
// for is tripped all the same, as it is forced.
func (g *Group[K]) Trip(key K, d time.Duration) {
	g.change(key, true, func(b *Breaker) { b.trip(d) })
}

// Force moves a key's breaker to a state; see [Breaker.Force]. One that was
// forced into ForcedOpen, Disabled or WatchOnly is never forgotten, unless the
// group begins in that state.
func (g *Group[K]) Force(key K, s State) error {
	if s > WatchOnly {
		return fmt.Errorf("force breaker: %v is no state", s)
	}
	g.change(key, true, func(b *Breaker) { b.force(s) })
	return nil
}

// Reset moves a key's breaker to the state that it began in; see
// [Breaker.Reset].
func (g *Group[K]) Reset(key K) {
	g.change(key, false, func(b *Breaker) { b.force(g.cfg.Start) })
}

// change does something to a key's breaker under its lock.
func (g *Group[K]) change(key K, add bool, do func(*Breaker)) {
	g.mu.Lock()
	m, found := g.keys.get(key)
	if !found {
		if !add {
			g.unlock()
			return
		}
		m = g.make(key)
		g.keys.force(key, m)
	}
	m.mu.Lock()
	do(&m.Breaker)
	m.seen, m.seenAt = m.admitted, g.cfg.now()
	due := m.release()
	g.unlock()
	if due {
		m.tell()
	}
}

// unlock ends what was done under the lock, and tells of what was forgotten.
func (g *Group[K]) unlock() {
	forgotten := g.forgotten
	g.forgotten = nil
	g.mu.Unlock()
	for _, m := range forgotten {
		m.mu.Lock()
		m.unlock()
	}
}

// GroupStats are figures of a [Group].
type GroupStats struct {
	// Keys is how many keys are remembered.
	Keys int
	// Unrecorded is how many calls have passed without a breaker, since there
	// was no room for their keys: MaxKeys is too small.
	Unrecorded uint64
}

// Stats returns the figures of this moment.
func (g *Group[K]) Stats() GroupStats {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return GroupStats{Keys: g.keys.len(), Unrecorded: g.unrecorded}
}

// idle reports whether a key may be forgotten, and is to be: its breaker is then
// as new. The group's lock is held.
func (g *Group[K]) idle(m *member, room bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := g.cfg.now()
	// Calls don't note when they were made, as that takes too long. That none
	// came between two looks says as much.
	if m.admitted != m.seen {
		m.seen, m.seenAt = m.admitted, now
	}
	if room {
		return now-m.seenAt >= int64(keep) && m.asNew(now)
	}
	if m.asNew(now) {
		return true
	}
	if !m.outdated(now - g.old) {
		return false
	}
	if m.state != Closed {
		m.openings = 0
		m.move(Closed, ReasonForgotten)
		g.forgotten = append(g.forgotten, m)
	}
	return true
}

// asNew reports whether a new breaker would do the same, but for successes in
// the window. The lock is held.
func (b *Breaker) asNew(now int64) bool {
	if b.mode != b.cfg.Start || b.state != Closed || b.telling {
		return false
	}
	b.roll(now)
	if b.streak > 0 || b.inFlight > 0 {
		return false
	}
	if b.recent == nil {
		return true
	}
	sum := b.recent.sum()
	return sum.failures == 0 && sum.slow == 0
}

// outdated reports whether all that it knows is older than that. The lock is
// held.
func (m *member) outdated(than int64) bool {
	if m.mode != m.cfg.Start || m.telling || m.seenAt > than {
		return false
	}
	switch m.state {
	case Open:
		return m.openUntil <= than
	case Closed:
		return m.lastBad <= than
	}
	return true
}
