package breaker

import (
	"fmt"
	"math"
	"time"
)

// Trip opens the breaker for at least d, jitter not added, after which it
// probes as ever; 0 and less mean its own open time. Call it when something
// else says that the callee is down. One that is open stays open for no less
// than it would have. In ForcedOpen and Disabled it does nothing.
func (b *Breaker) Trip(d time.Duration) {
	b.mu.Lock()
	defer b.unlock()
	b.trip(d)
}

func (b *Breaker) trip(d time.Duration) {
	if b.mode == ForcedOpen || b.mode == Disabled {
		return
	}
	now := b.cfg.now()
	switch {
	case b.state == Open:
		if d <= 0 {
			d = b.openTime()
		}
		b.openUntil = max(b.openUntil, now+int64(min(d, maxSpan)))
	case d <= 0:
		b.open(now, 0, ReasonManual)
	default:
		b.openings = min(b.openings, math.MaxInt32-1) + 1
		b.openFor(now, min(d, maxSpan), ReasonManual)
	}
}

// ProbeNow ends the open time of a breaker that is open, so that the next call
// probes. Call it when something else says that the callee may work again. In
// the other states it does nothing, and what was learned is kept: should the
// probe fail, the next open time is as long as it would have been. It ends also
// what Trip or a failure's own wait have asked for.
func (b *Breaker) ProbeNow() {
	b.mu.Lock()
	defer b.unlock()
	if b.state == Open {
		b.openUntil = min(b.openUntil, b.cfg.now())
	}
}

// Force moves the breaker to a state and forgets all that was counted. It
// stays in ForcedOpen, Disabled and WatchOnly until Force or Reset is called
// again, and in the others as if it had come there by itself: Open lasts for
// its open time, and HalfOpen probes at once. WatchOnly begins as if closed.
// The error is for a value that is no state.
func (b *Breaker) Force(s State) error {
	if s > WatchOnly {
		return fmt.Errorf("force breaker: %v is no state", s)
	}
	b.mu.Lock()
	defer b.unlock()
	b.force(s)
	return nil
}

func (b *Breaker) force(s State) {
	c := Change{From: b.shown(), To: s, Reason: ReasonManual}
	b.mode, b.state, b.openings = Closed, Closed, 0
	switch {
	case s.isMode():
		b.mode = s
	case s == Open:
		b.openings = 1
		c.OpenFor = b.jittered(b.openTime())
		b.openUntil = b.cfg.now() + int64(c.OpenFor)
		b.state = Open
	case s == HalfOpen:
		b.state = HalfOpen
	}
	b.renew()
	b.note(c)
}

// Reset moves the breaker to the state that it began in, [Config].Start, and
// forgets all that was counted. Results of calls that are under way count for
// nothing.
func (b *Breaker) Reset() {
	b.mu.Lock()
	defer b.unlock()
	b.force(b.cfg.Start)
}
