package breaker

import (
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"
)

// Change is a change of state.
type Change struct {
	// From and To are the states before and after.
	From, To State
	// Reason is why.
	Reason Reason
	// Watched says that the breaker is and stays in WatchOnly: From and To are
	// the states that it would have been in.
	Watched bool
	// OpenFor is how long it stays open, where To is Open.
	OpenFor time.Duration
}

// String returns such as "closed to open: failure-rate".
func (c Change) String() string {
	s := fmt.Sprintf("%v to %v: %v", c.From, c.To, c.Reason)
	if c.Watched {
		s += " (watch-only)"
	}
	return s
}

// Reason is why a state changed.
type Reason uint8

// The reasons.
const (
	// ReasonConsecutiveFailures is for as many failures in a row as open it.
	ReasonConsecutiveFailures Reason = iota + 1
	// ReasonFailureRate is for too large a share of failures.
	ReasonFailureRate
	// ReasonSlowRate is for too large a share of slow calls.
	ReasonSlowRate
	// ReasonProbeFailed is for a probe that failed or was slow.
	ReasonProbeFailed
	// ReasonTimeOver is for the first call after the open time.
	ReasonTimeOver
	// ReasonRecovered is for enough probes that succeeded.
	ReasonRecovered
	// ReasonManual is for Trip, Force and Reset.
	ReasonManual
	// ReasonForgotten is for a key that a [Group] has forgotten; see
	// [GroupConfig].
	ReasonForgotten
)

// String returns such as "failure-rate".
func (r Reason) String() string {
	switch r {
	case ReasonConsecutiveFailures:
		return "consecutive-failures"
	case ReasonFailureRate:
		return "failure-rate"
	case ReasonSlowRate:
		return "slow-rate"
	case ReasonProbeFailed:
		return "probe-failed"
	case ReasonTimeOver:
		return "time-over"
	case ReasonRecovered:
		return "recovered"
	case ReasonManual:
		return "manual"
	case ReasonForgotten:
		return "forgotten"
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// note queues a change to be told. The lock is held.
func (b *Breaker) note(c Change) {
	if b.hear != nil && c.From != c.To {
		b.untold = append(b.untold, c)
	}
}

// unlock ends what was done under the lock, and tells what changed. Whoever
// finds changes that nobody is telling tells them all, one after the other,
// those included that come meanwhile: so they are in order, and no goroutine
// is needed.
func (b *Breaker) unlock() {
	if b.release() {
		b.tell()
	}
}

// release unlocks, and reports whether tell is to be called.
func (b *Breaker) release() bool {
	due := len(b.untold) > 0 && !b.telling
	if due {
		b.telling = true
	}
	b.mu.Unlock()
	return due
}

// tell tells what changed until there is nothing more. A callback may call the
// breaker, since there is no lock, and a change that it makes is queued.
func (b *Breaker) tell() {
	all := false
	defer func() {
		if !all { // runtime.Goexit in the callback must not leave changes untold
			b.tell()
		}
	}()
	for {
		b.mu.Lock()
		if len(b.untold) == 0 {
			b.untold, b.telling = nil, false
			b.mu.Unlock()
			all = true
			return
		}
		c := b.untold[0]
		b.untold = b.untold[1:]
		b.mu.Unlock()
		b.tellOne(c)
	}
}

func (b *Breaker) tellOne(c Change) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		// What was panicked with may hold anything. A runtime error's text
		// holds no data of a caller.
		text := fmt.Sprintf("%T", p)
		if e, ok := p.(runtime.Error); ok {
			text = e.Error()
		}
		b.cfg.Logger.Error("panic in OnStateChange", slog.String("change", c.String()),
			slog.String("panic", text), slog.String("stack", string(debug.Stack())))
	}()
	b.hear(c)
}
