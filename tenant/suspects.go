package tenant

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// suspects are tenants whose token Telegram has refused and that are not
// quarantined yet. Their bots call in vain, and Telegram is asked about them
// less and less often, until it accepts the token or the quarantine is final.
type suspects struct {
	max    int // negative: no bound
	onHold func(context.Context, int)
	log    *slog.Logger
	wake   chan struct{} // of one place: somebody is to be asked about

	mu     sync.Mutex // guards what follows
	byID   map[string]*suspect
	recent map[string]time.Time // when the tokens of these and of others were refused
	tidied time.Time
	held   bool
}

// suspect is one of them.
type suspect struct {
	first     *Tenant
	instances []*Tenant // of the same token; guarded, as is what follows
	cause     error
	since     time.Time
	due       time.Time // when to ask next
	delay     time.Duration
	refusals  int
	doubted   bool // it may be quarantined already; of who examines it alone
}

const (
	// firstConfirm and so on, doubled, is when Telegram is asked whether it
	// meant a 401: after 1, 3, 7 and 15 s, the last of which is final. It has
	// answered 401 to all for some seconds.
	firstConfirm  = time.Second
	confirmations = 4
	maxConfirm    = time.Minute
	// confirmers is how many are asked about at a time.
	confirmers = 8
	// stormWindow is how long a refusal counts for the storm that it may be
	// part of.
	stormWindow = time.Minute
	// heldFor is how long a token must be refused to be quarantined in a storm.
	heldFor = time.Hour
	// defaultMaxQuarantines is far above how often customers revoke tokens.
	defaultMaxQuarantines = 10
)

func newSuspects(cfg ManagerConfig, log *slog.Logger) *suspects {
	s := &suspects{
		max: cfg.MaxQuarantines, onHold: cfg.OnHold, log: log, wake: make(chan struct{}, 1),
		byID: make(map[string]*suspect), recent: make(map[string]time.Time),
	}
	if s.max == 0 {
		s.max = defaultMaxQuarantines
	}
	return s
}

// note counts a tenant whose token was refused, and reports whether there are
// so many that it can't be theirs.
func (s *suspects) note(ctx context.Context, id string) (held bool) {
	s.mu.Lock()
	s.recent[id] = time.Now()
	before := s.held
	held, n := s.storm()
	s.mu.Unlock()
	if held && !before {
		s.log.ErrorContext(ctx, "Telegram refuses many tokens at once; nobody more is quarantined for now", slog.Int("tenants", n))
		if s.onHold != nil {
			defer func() {
				if p := recover(); p != nil {
					s.log.ErrorContext(ctx, "panic in OnHold", slog.String("panic", session.Redact(fmt.Sprint(p))))
				}
			}()
			s.onHold(ctx, n)
		}
	}
	return held
}

// storm counts. The lock is held.
func (s *suspects) storm() (held bool, n int) {
	now := time.Now()
	if now.Sub(s.tidied) >= time.Second {
		s.tidied = now
		for id, at := range s.recent {
			if now.Sub(at) >= stormWindow && s.byID[id] == nil {
				delete(s.recent, id)
			}
		}
	}
	n = len(s.recent)
	s.held = s.max >= 0 && n > s.max
	return s.held, n
}

// add has Telegram asked about a tenant's token.
func (s *suspects) add(t *Tenant, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.revoked.Store(true)
	one := s.byID[t.ID()]
	if one != nil && one.first.Record.Token.Equal(t.Record.Token) {
		one.instances = slices.DeleteFunc(one.instances, func(t *Tenant) bool { return t.closed.Load() })
		one.instances = append(one.instances, t)
		return
	}
	now := time.Now()
	s.byID[t.ID()] = &suspect{first: t, instances: []*Tenant{t}, cause: cause, since: now, due: now.Add(firstConfirm), delay: firstConfirm}
	s.poke()
}

func (s *suspects) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// next returns those to ask about now, and how long nobody is to be asked
// about; 0 is until somebody is added.
func (s *suspects) next() (due []*suspect, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, one := range s.byID {
		switch d := one.due.Sub(now); {
		case d > 0 && (wait == 0 || d < wait):
			wait = d
		case d <= 0 && len(due) < confirmers:
			due = append(due, one)
		}
	}
	return due, wait
}

// later has one asked about again. What was added instead of it stays.
func (s *suspects) later(one *suspect, refused bool) (final bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if refused {
		one.refusals++
	}
	one.delay = min(2*one.delay, maxConfirm)
	one.due = time.Now().Add(one.delay)
	if !refused || one.refusals < confirmations {
		return false // what is no answer says nothing about the token
	}
	held, _ := s.storm()
	return !held || time.Since(one.since) >= heldFor
}

// drop forgets one. Where Telegram accepts the token its bots may call again,
// and the others are asked about now: what refused them may be over, and their
// refusals until now may have been part of it.
func (s *suspects) drop(one *suspect, accepted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := one.first.ID()
	if s.byID[id] == one {
		delete(s.byID, id)
	}
	if !accepted {
		return
	}
	delete(s.recent, id)
	one.acquit()
	for _, other := range s.byID {
		other.due, other.delay, other.refusals = time.Now(), firstConfirm, 0
	}
}

// acquit lets its bots call again. The lock is held.
func (one *suspect) acquit() {
	for _, t := range one.instances {
		t.revoked.Store(false)
		t.reported.Store(false)
	}
}

// dropAll has the next 401 of each judged anew.
func (s *suspects) dropAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.byID {
		one.acquit()
	}
	clear(s.byID)
}

// refused is told of a 401, once for each instance. Where the manager was not
// started there is nobody to ask again, and it quarantines at once.
func (m *Manager) refused(ctx context.Context, t *Tenant, cause error) error {
	held := m.suspects.note(ctx, t.ID())
	if m.watcher.suspect(func() { m.suspects.add(t, cause) }) {
		return nil
	}
	if held {
		t.reported.Store(false) // the next 401 tries again
		return nil
	}
	doubted := false
	r, made, err := m.quarantine(ctx, t, &doubted)
	if err != nil {
		return err
	}
	t.revoked.Store(true)
	if made {
		m.notices.call(ctx, notice{t.ID(), "OnQuarantine", func(ctx context.Context) { m.quarantined(ctx, r, cause) }})
	}
	return nil
}

// confirm asks Telegram about suspects until ctx ends.
func (m *Manager) confirm(ctx context.Context) {
	for ctx.Err() == nil {
		due, wait := m.suspects.next()
		if len(due) > 0 {
			var work sync.WaitGroup
			for _, one := range due {
				work.Go(func() { m.examine(ctx, one) })
			}
			work.Wait()
			continue
		}
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-timer:
		case <-m.suspects.wake:
		case <-ctx.Done():
		}
	}
}

// confirmTimeout bounds one question, so that a call that hangs holds up the
// others for no longer.
const confirmTimeout = 10 * time.Second

// examine asks about one.
func (m *Manager) examine(ctx context.Context, one *suspect) {
	limited, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	t := one.first
	id := t.ID()
	stored, err := m.store.Get(limited, id)
	if err == nil && one.doubted && isQuarantined(t.Record, stored) {
		m.suspects.later(one, false)
		m.convict(limited, one)
		return
	}
	if errors.Is(err, errors.NotFound) || err == nil && !sameBot(t.Record, stored) {
		// It is to be used no more. The change may be another process's and not
		// have been heard of here.
		if err = m.recheckSome(limited, []string{id}); err == nil {
			err = limited.Err()
		}
		if err == nil {
			m.suspects.drop(one, false)
			return
		}
	} else if err == nil {
		_, err = m.identify(limited, id, t.Record.Token)
	}
	switch {
	case ctx.Err() != nil:
	case err == nil:
		m.log.InfoContext(ctx, "token is accepted by Telegram again", slog.String("tenant", id))
		m.suspects.drop(one, true)
		m.accepted(stored)
	case m.suspects.later(one, errors.Is(err, errors.Unauthorized)):
		m.convict(limited, one)
	}
}

// convict quarantines one.
func (m *Manager) convict(ctx context.Context, one *suspect) {
	id := one.first.ID()
	r, made, err := m.quarantine(ctx, one.first, &one.doubted)
	if err != nil {
		m.log.ErrorContext(ctx, "quarantine failed", slog.String("tenant", id), slog.String("error", session.Redact(err.Error())))
		return // it is tried again
	}
	m.suspects.drop(one, false)
	if made && m.cfg.OnQuarantine != nil {
		m.notices.add(id, "OnQuarantine", func(ctx context.Context) { m.quarantined(ctx, r, one.cause) })
	}
}

// accepted has OnAccepted called.
func (m *Manager) accepted(r Record) {
	if m.cfg.OnAccepted != nil {
		m.notices.add(r.ID, "OnAccepted", func(ctx context.Context) { m.cfg.OnAccepted(ctx, r) })
	}
}
