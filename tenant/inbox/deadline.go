package inbox

import (
	"context"
	"sync"
	"time"
)

// deadline is a handler's context: like that of context.WithDeadline, but it
// makes that one only when somebody waits for it. Most handlers are done before
// anybody does, and the timer and its place among the parent's children would
// cost more than all else that is done for them. Of a deadline and an end of the
// parent's that nobody has seen before both were there, the parent's counts.
type deadline struct {
	context.Context // the parent
	at              time.Time

	mu    sync.Mutex // guards what follows
	real  context.Context
	end   context.CancelFunc
	ended bool
}

func newDeadline(parent context.Context, at time.Time) *deadline {
	return &deadline{Context: parent, at: at}
}

// cancel ends the context.
func (d *deadline) cancel() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.passed() {
		d.makeLocked() // that is what has ended it
	}
	d.ended = true
	if d.end != nil {
		d.end()
	}
}

// made returns the context of package context's, which from then on is asked
// for everything.
func (d *deadline) made() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.makeLocked()
}

func (d *deadline) makeLocked() context.Context {
	switch {
	case d.real != nil:
	case d.ended: // and what came since has not
		d.real, d.end = context.WithCancel(context.WithoutCancel(d.Context))
		d.end()
	default:
		d.real, d.end = context.WithDeadline(d.Context, d.at)
	}
	return d.real
}

// passed reports whether the deadline or the parent's end has come. The lock is
// held.
func (d *deadline) passed() bool { return d.Context.Err() != nil || !time.Now().Before(d.at) }

// over returns the context of package context's if there is one or the
// deadline, the parent or cancel has ended this one, and else nil.
func (d *deadline) over() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.real == nil && !d.ended && !d.passed() {
		return nil
	}
	return d.makeLocked()
}

func (d *deadline) Deadline() (time.Time, bool) {
	if at, ok := d.Context.Deadline(); ok && at.Before(d.at) {
		return at, true
	}
	return d.at, true
}

func (d *deadline) Done() <-chan struct{} { return d.made().Done() }

func (d *deadline) Err() error {
	if real := d.over(); real != nil {
		return real.Err()
	}
	return nil
}

// Value answers package context's own keys by the real context too, so that
// one that is derived from this costs no goroutine, and context.Cause tells
// the truth.
func (d *deadline) Value(key any) any {
	if real := d.over(); real != nil {
		return real.Value(key)
	}
	return d.Context.Value(key)
}
