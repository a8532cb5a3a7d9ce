package breaker

import (
	"math"
	"math/rand/v2"
	"time"
)

// The functions in this file are the state machine. The lock is held.

// result is how a call ended.
type result struct {
	verdict Verdict
	wait    time.Duration // for which a failure asks
	made    bool          // false for a call that was not made
}

// admit lets a call in or refuses it.
func (b *Breaker) admit() (Permit, *OpenError) {
	switch b.mode {
	case Disabled:
		return Permit{}, nil
	case ForcedOpen:
		b.refused++
		return Permit{}, &OpenError{State: ForcedOpen}
	}
	// Reading the clock takes as long as all the rest, so it is not read where
	// nobody asks.
	var now int64
	if b.state != Closed || b.cfg.SlowAfter > 0 {
		now = b.cfg.now()
	}
	if b.state == Closed && b.cfg.SlowAfter > 0 {
		b.roll(now)
		if b.slow.count > 0 {
			b.judge(now, 0)
		}
	}
	if b.state == Open && now >= b.openUntil {
		b.move(HalfOpen, ReasonTimeOver)
	}
	switch b.state {
	case Closed:
		var epoch int64
		if b.cfg.SlowAfter > 0 {
			epoch = b.slow.begin()
		}
		return b.take(now, epoch, -1, 0), nil
	case HalfOpen:
		if slot := b.free(now); slot >= 0 {
			until := now + int64(b.cfg.ProbeTimeout)
			b.probes[slot] = until
			return b.take(now, 0, slot, until), nil
		}
	}
	b.refused++
	if b.mode == WatchOnly {
		// What would have been refused would have had no result.
		return Permit{}, nil
	}
	refusal := &OpenError{State: b.state}
	if b.state == Open {
		refusal.RetryAfter = time.Duration(b.openUntil - now)
	}
	return Permit{}, refusal
}

// free returns a place for a probe, or -1.
func (b *Breaker) free(now int64) int {
	for i, until := range b.probes {
		if until <= now {
			return i
		}
	}
	if len(b.probes) < b.cfg.Probes {
		b.probes = append(b.probes, 0)
		return len(b.probes) - 1
	}
	return -1
}

// record takes a result of this generation.
func (b *Breaker) record(t *ticket, r result) {
	b.inFlight--
	var now int64
	if b.cfg.rates || r.verdict == Failure {
		now = b.cfg.now()
	}
	slow := r.made && t.start > 0 && b.cfg.SlowAfter > 0 && now-t.start >= int64(b.cfg.SlowAfter)
	if t.slot >= 0 && b.probes[t.slot] == t.until { // or it has expired and is another's
		b.probes[t.slot] = 0
	}
	if b.state == HalfOpen {
		b.recordProbe(now, r, slow)
		return
	}

	if b.cfg.rates {
		b.roll(now)
		if b.cfg.SlowAfter > 0 && t.start > 0 {
			b.slow.end(t.epoch)
		}
	}
	failed := r.verdict == Failure
	switch {
	case failed:
		b.streak++
		b.retryAt = max(b.retryAt, now+int64(r.wait))
	case r.verdict == Success:
		b.streak, b.retryAt = 0, 0
	case !slow:
		return
	}
	if failed || slow {
		b.lastBad = now
	}
	if b.cfg.rates {
		if b.recent == nil {
			b.recent = b.cfg.newWindow()
			b.recent.roll(now)
		}
		b.recent.add(failed, slow)
	}
	b.judge(now, r.wait)
}

// recordProbe takes a probe's result.
func (b *Breaker) recordProbe(now int64, r result, slow bool) {
	switch {
	case r.verdict == Failure || slow:
		b.open(now, r.wait, ReasonProbeFailed)
	case r.verdict == Success:
		if b.successes++; b.successes >= b.cfg.Successes {
			b.openings = 0
			b.move(Closed, ReasonRecovered)
		}
	}
}

// judge opens a closed breaker if there is reason to.
func (b *Breaker) judge(now int64, wait time.Duration) {
	if n := b.cfg.ConsecutiveFailures; n > 0 && b.streak >= n {
		b.open(now, wait, ReasonConsecutiveFailures)
		return
	}
	if !b.cfg.rates {
		return
	}
	var sum tally
	if b.recent != nil {
		sum = b.recent.sum()
	}
	// By division, so that 7 of 100 are what 0.07 is, which 0.07*100 is not.
	above := func(n, of uint32, rate float64) bool {
		return n > 0 && rate > 0 && int64(of) >= int64(b.cfg.MinCalls) && float64(n)/float64(of) >= rate
	}
	switch late := b.slow.count; {
	case above(sum.failures, sum.calls, b.cfg.FailureRate):
		b.open(now, wait, ReasonFailureRate)
	case above(sum.slow+late, sum.calls+late, b.cfg.SlowRate):
		b.open(now, wait, ReasonSlowRate)
	}
}

// open opens the breaker: for as long as the last failure asks, else for its
// own time, and not for less than an earlier failure asked.
func (b *Breaker) open(now int64, wait time.Duration, why Reason) {
	b.openings = min(b.openings, math.MaxInt32-1) + 1
	length := wait
	if length <= 0 {
		length = b.openTime()
	}
	b.openFor(now, b.jittered(max(length, time.Duration(b.retryAt-now))), why)
}

// jittered adds to an open time. It never takes away: who asks for a time has
// a reason.
func (b *Breaker) jittered(length time.Duration) time.Duration {
	return length + time.Duration(rand.Int64N(int64(float64(length)*b.cfg.Jitter)+1))
}

// openTime is how long this opening lasts by configuration, without jitter.
func (b *Breaker) openTime() time.Duration {
	grown := float64(b.cfg.OpenTime) * math.Pow(b.cfg.OpenGrowth, float64(max(b.openings, 1)-1))
	if !(grown < float64(b.cfg.MaxOpenTime)) { // infinite, too
		return b.cfg.MaxOpenTime
	}
	return time.Duration(grown)
}

func (b *Breaker) openFor(now int64, length time.Duration, why Reason) {
	b.openUntil = now + int64(length)
	b.change(Change{From: b.state, To: Open, Reason: why, OpenFor: length})
}

func (b *Breaker) move(to State, why Reason) { b.change(Change{From: b.state, To: to, Reason: why}) }

// change moves to a state, in which nothing has been counted yet.
func (b *Breaker) change(c Change) {
	c.Watched = b.mode == WatchOnly
	b.state = c.To
	b.renew()
	b.note(c)
}

// renew begins a generation.
func (b *Breaker) renew() {
	b.gen++
	b.inFlight, b.streak, b.successes = 0, 0, 0
	b.lastBad, b.retryAt = 0, 0
	b.probes = nil
	b.slow.clear()
	if b.recent != nil {
		b.recent.clear()
	}
}

// roll moves what is counted over time on.
func (b *Breaker) roll(now int64) {
	if b.recent != nil {
		b.recent.roll(now)
	}
	if b.cfg.SlowAfter > 0 {
		b.slow.roll(now, b.cfg.step)
	}
}

// reclock starts or stops the clock of a call of this generation.
func (b *Breaker) reclock(t *ticket, run bool) {
	now := b.cfg.now()
	if b.state == Closed {
		b.roll(now)
		if t.start > 0 {
			b.slow.end(t.epoch)
		}
		if run {
			t.epoch = b.slow.begin()
		}
	}
	t.start = 0
	if run {
		t.start = now
	}
}
