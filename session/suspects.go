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

	mu      sync.Mutex // guards what follows; nothing is called under it
	bots    map[string]time.Time
	failure lastTwo
	success lastTwo
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
	// maxFailing bounds the memory; above it the old ones are dropped, and if
	// there are none, that many bots fail and it is the platform.
	maxFailing = 10_000
)

// clock returns the time for a call that begins. While nothing fails it is
// zero, before all failures to come, so that the clock need not be read.
func (s *suspects) clock() time.Time {
	if s.count.Load() == 0 {
		return time.Time{}
	}
	return time.Now()
}

// failed notes a failure of a call that lasted from start to now.
func (s *suspects) failed(key string, start, now time.Time) blamed {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, found := s.bots[key]
	found = found && now.Sub(before) <= suspectFor
	again := s.failure.key == key && found
	othersFailed := s.failure.but(key).After(before)
	othersSucceeded := s.success.but(key).After(before)
	s.failure.note(key, now)
	if s.bots == nil {
		s.bots = make(map[string]time.Time)
	}
	if _, known := s.bots[key]; known || s.room(now) {
		s.bots[key] = now
		s.count.Store(int64(len(s.bots)))
	}
	switch {
	case found && !start.Before(before) && (othersSucceeded || !othersFailed):
		return blameTenant
	case again:
		return blameNobody // calls that were under way together, or one bot in a row
	}
	return blamePlatform
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
	if now.Sub(s.failure.at) > suspectFor {
		clear(s.bots) // none of them failed since
	}
	if s.count.Store(int64(len(s.bots))); len(s.bots) == 0 {
		s.failure, s.success = lastTwo{}, lastTwo{}
	}
}
