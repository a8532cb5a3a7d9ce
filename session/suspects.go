package session

import (
	"sync"
	"sync/atomic"
	"time"
)

// suspects tells the failure of one bot from that of the platform, which look
// alike: no answer, or a server error. The rules are at [Breakers].
//
// It knows nothing while nothing fails: then a success costs one look.
type suspects struct {
	count atomic.Int64 // len(bots)

	mu      sync.Mutex           // guards what follows; nothing is called under it
	bots    map[string]time.Time // when each failed last
	success lastTwo
	// failing are bots that failed since any succeeded, as many as matter, and
	// failedAt is when any failed last.
	failing  map[string]struct{}
	failedAt time.Time
}

// lastTwo is when something happened last, and when last to any other bot.
type lastTwo struct {
	key      string
	at       time.Time
	othersAt time.Time
}

func (l *lastTwo) note(key string, now time.Time) {
	if key != l.key {
		l.key, l.othersAt = key, l.at
	}
	l.at = now
}

// but returns when it happened last to another bot than this.
func (l *lastTwo) but(key string) time.Time {
	if key == l.key {
		return l.othersAt
	}
	return l.at
}

type blamed uint8

const (
	blamePlatform blamed = iota
	blameTenant
	blameNobody
)

const (
	// suspectFor is how long a failure is remembered.
	suspectFor = time.Minute
	// seenBy is how many bots must fail for it to be the platform.
	seenBy = 3
	// maxFailing bounds the memory; above it the old ones are dropped, and if
	// there are none, that many bots fail and it is the platform.
	maxFailing = 10_000
)

// failed notes a failure of a call that lasted from start to now, of one of as
// many bots as are known.
func (s *suspects) failed(key string, start, now time.Time, known int) blamed {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, found := s.bots[key]
	found = found && now.Sub(before) <= suspectFor
	othersSucceeded := found && s.success.but(key).After(before)
	inTurn := found && !start.Before(before) // not one of several under way together
	s.note(key, now)
	switch {
	case inTurn && othersSucceeded:
		return blameTenant
	case len(s.failing) >= min(seenBy, max(known, 1)):
		return blamePlatform
	case inTurn:
		return blameTenant
	}
	return blameNobody // one bot, once
}

// note notes a failure.
func (s *suspects) note(key string, now time.Time) {
	if s.bots == nil {
		s.bots, s.failing = make(map[string]time.Time), make(map[string]struct{})
	}
	if now.Sub(s.failedAt) > suspectFor {
		clear(s.failing)
	}
	s.failedAt = now
	if len(s.failing) < seenBy {
		s.failing[key] = struct{}{}
	}
	if _, known := s.bots[key]; known || s.room(now) {
		s.bots[key] = now
		s.count.Store(int64(len(s.bots)))
	}
}

// room reports whether another bot can be remembered.
func (s *suspects) room(now time.Time) bool {
	if len(s.bots) < maxFailing {
		return true
	}
	for key, at := range s.bots {
		if now.Sub(at) > suspectFor {
			delete(s.bots, key)
		}
	}
	return len(s.bots) < maxFailing
}

// suspected reports whether a bot failed in the last ten minutes, and did not
// succeed since: one that is bad and calls often would be every witness.
func (s *suspects) suspected(key string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, found := s.bots[key]
	return found && now.Sub(at) <= 10*suspectFor
}

// succeeded notes that a bot's call was answered.
func (s *suspects) succeeded(key string) {
	if s.count.Load() == 0 {
		return
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.success.note(key, now)
	delete(s.bots, key)
	clear(s.failing)
	if now.Sub(s.failedAt) > suspectFor {
		clear(s.bots) // none of them failed since
	}
	s.count.Store(int64(len(s.bots)))
}
