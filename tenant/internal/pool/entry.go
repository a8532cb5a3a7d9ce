package pool

import (
	"context"
	"time"
)

type state uint8

const (
	opening  state = iota // Open runs; who wants the key waits for ready
	open                  // refs leases are out
	draining              // evicted in use: closes with its last lease
	closing               // Close runs; who wants the key waits for gone
	closed                // out of the pool
)

// entry is one instance of a key. The pool's lock guards it. What an Acquire of
// an open key touches is all here, in one cache line; the rest is in life.
type entry[V any] struct {
	key   string
	value V
	*life
	refs      int           // leases out
	idleSince time.Duration // when the sweeper first saw it unused, by the pool's age
	state     state
	used      bool // since eviction or the sweeper last looked
}

// life is what matters at the ends of an entry's life.
type life struct {
	// While it opens.
	ready     chan struct{} // closed at the open's end
	cancel    context.CancelFunc
	waiters   int
	abandoned bool  // all who waited have given up
	invalid   bool  // evicted while it opened: the value is not to be used
	err       error // the open's, once ready is closed
	reserved  bool  // each waiter was given a reference

	gone chan struct{} // closed when it is out of the pool

	// ctx ends when the instance is aborted; made when first asked for.
	ctx   context.Context
	stop  context.CancelCauseFunc
	ended bool
}

// context returns the instance's context. The lock is held.
func (e *life) context() context.Context {
	if e.ctx == nil {
		e.ctx, e.stop = context.WithCancelCause(context.Background())
		if e.ended {
			e.stop(ErrEnded)
		}
	}
	return e.ctx
}

// abort ends the instance's context. The lock is held; what hangs on the
// context runs on goroutines of its own.
func (e *life) abort(cause error) {
	e.ended = true
	if e.stop != nil {
		e.stop(cause)
	}
}
