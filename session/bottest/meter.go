package bottest

import (
	"sync"
	"time"
)

// rate is a number of events per time, with a burst. The zero value and a
// negative number are no limit.
type rate struct {
	every time.Duration // between two events in the long run
	burst int
}

func perSecond(n int) rate { return per(time.Second, n) }
func perMinute(n int) rate { return per(time.Minute, n) }

// per is n events per span, all of which may come at once.
func per(span time.Duration, n int) rate {
	if n <= 0 {
		return rate{}
	}
	return rate{every: span / time.Duration(n), burst: n}
}

// meter counts events against a rate by the generic cell rate algorithm: due
// is when the events so far would have ended had they come one by one.
type meter struct{ due time.Time }

// wait is how long from now the next event must wait, zero if it need not.
func (m *meter) wait(now time.Time, r rate) time.Duration {
	if r.every == 0 || !m.due.After(now) {
		return 0
	}
	tolerance := r.every * time.Duration(r.burst-1)
	return max(0, m.due.Sub(now)-tolerance)
}

// take counts n events that happen now.
func (m *meter) take(now time.Time, r rate, n int) {
	if r.every == 0 {
		return
	}
	if m.due.Before(now) {
		m.due = now
	}
	m.due = m.due.Add(r.every * time.Duration(n))
}

// coldStart bounds how many bots are loaded, per source and in all.
type coldStart struct {
	mu      sync.Mutex
	sources map[string]*coldMeters
	total   coldMeters
}

type coldMeters struct{ minute, hour meter }

func (c *coldMeters) wait(now time.Time, minute, hour rate) time.Duration {
	return max(c.minute.wait(now, minute), c.hour.wait(now, hour))
}

func (c *coldMeters) take(now time.Time, minute, hour rate) {
	c.minute.take(now, minute, 1)
	c.hour.take(now, hour, 1)
}

// maxSources bounds what a stranger who invents addresses can make us keep.
const maxSources = 10_000

// load counts a bot that source starts, or says how long it must wait.
func (c *coldStart) load(l *Limits, source string) time.Duration {
	minute, hour := perMinute(l.ColdPerMinute), per(time.Hour, l.ColdPerHour)
	allMinute, allHour := perMinute(l.ColdTotalPerMinute), per(time.Hour, l.ColdTotalPerHour)
	if minute.every+hour.every+allMinute.every+allHour.every == 0 {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sources == nil || len(c.sources) >= maxSources {
		c.sources = make(map[string]*coldMeters)
	}
	one := c.sources[source]
	if one == nil {
		one = new(coldMeters)
		c.sources[source] = one
	}
	now := time.Now()
	wait := max(one.wait(now, minute, hour), c.total.wait(now, allMinute, allHour))
	if wait == 0 {
		one.take(now, minute, hour)
		c.total.take(now, allMinute, allHour)
	}
	return wait
}
