package ratelimit

import "time"

// alarm is a time at which something is to be looked at again. All alarms of a
// scheduler share one timer.
type alarm[K comparable] struct {
	at  int64
	pos int
	of  sleeper[K]
}

type sleeper[K comparable] interface {
	wake(s *Scheduler[K], now int64)
}

func (a *alarm[K]) before(b *alarm[K]) bool { return a.at < b.at }
func (a *alarm[K]) position() *int          { return &a.pos }

// setAlarm sets an alarm, also one that is set already. One that would never
// go off is not set.
func (s *Scheduler[K]) setAlarm(a *alarm[K], at int64) {
	a.at = at
	switch {
	case at == never:
		s.alarms.remove(a)
	case a.pos > 0:
		s.alarms.fix(a)
	default:
		s.alarms.push(a)
	}
}

// wake wakes all whose alarm has gone off. An alarm at 0 goes off before anyone
// else goes.
func (s *Scheduler[K]) wake(now int64) {
	for s.alarms.len() > 0 && s.alarms.items[0].at <= now {
		a := s.alarms.items[0]
		s.alarms.remove(a)
		a.of.wake(s, now)
	}
}

// arm sets the timer for the earliest that is to come, or stops it.
func (s *Scheduler[K]) arm(now int64) {
	next := never
	if s.waiting > 0 {
		next = min(s.retry, s.retryStarts)
		if s.alarms.len() > 0 {
			next = min(next, s.alarms.items[0].at)
		}
	}
	switch {
	case next == never:
		if s.armed != never {
			s.timer.Stop()
		}
		s.armed = never
	case s.timer == nil:
		s.timer = time.AfterFunc(time.Duration(next-now), s.fire)
		s.armed = next
	case next < s.armed:
		s.timer.Reset(time.Duration(next - now))
		s.armed = next
	}
}

// fire is what the timer calls.
func (s *Scheduler[K]) fire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = never
	s.pump(s.now())
}

// later adds to a time.
func later(now, d int64) int64 {
	if d >= never-now {
		return never
	}
	return now + d
}

// duration is the time from now to at.
func duration(at, now int64) time.Duration {
	if at == never {
		return Forever
	}
	return time.Duration(max(at-now, 0))
}
