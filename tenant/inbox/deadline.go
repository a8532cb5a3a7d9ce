package inbox

import (
	"context"
	"sync"
	"time"
)

// deadline is a handler's context: like that of context.WithDeadline, but it
// makes that one only when somebody waits for it. Most handlers are done before
// anybody does, and the timer and its place among the parent's children would
// cost more than all else that is done for them. Where the parent has ended and
// the deadline has passed before anybody looks, either may be told.
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
	if d.real == nil && !d.due() {
		d.ended = true
		return
	}
	d.make()
	d.end()
}

// due reports whether the deadline or the parent has ended the context.
func (d *deadline) due() bool { return d.Context.Err() != nil || !time.Now().Before(d.at) }

// make returns the context of package context's, which from then on is asked
// for everything. The lock is held.
func (d *deadline) make() context.Context {
	switch {
	case d.real != nil:
	case d.ended: // before anything else could
		d.real, d.end = context.WithCancel(context.WithoutCancel(d.Context))
		d.end()
	default:
		d.real, d.end = context.WithDeadline(d.Context, d.at)
	}
	return d.real
}

// over returns the context of package context's if there is one or this one has
// ended, and else nil.
func (d *deadline) over() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.real == nil && !d.ended && !d.due() {
		return nil
	}
	return d.make()
}

func (d *deadline) Deadline() (time.Time, bool) {
	if at, ok := d.Context.Deadline(); ok && at.Before(d.at) {
		return at, true
	}
	return d.at, true
}

func (d *deadline) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.make().Done()
}

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
