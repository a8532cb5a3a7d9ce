package pool

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// maxCooling bounds the failures remembered. Forgetting one costs an attempt.
const maxCooling = 10_000

type cooldown struct {
	err      error
	until    time.Time
	failures int
}

// cooldownOf returns the error that a key's opens fail with for now.
func (p *Pool[V]) cooldownOf(key string) error {
	c, ok := p.cooling.Peek(key)
	if !ok {
		return nil
	}
	if left := time.Until(c.until); left > 0 {
		return &Cooling{Err: c.err, Left: left}
	}
	return nil
}

// Cooling is the error of an Acquire that was not tried, since an open of the
// key failed a moment ago.
type Cooling struct {
	Err  error
	Left time.Duration
}

func (c *Cooling) Error() string {
	return fmt.Sprintf("failed a moment ago, next attempt in %v: %v", c.Left.Round(time.Millisecond), c.Err)
}

func (c *Cooling) Unwrap() error { return c.Err }

// startOpen begins to open a key. The lock is held.
func (p *Pool[V]) startOpen(key string) {
	e := &entry[V]{key: key, state: opening, life: &life{ready: make(chan struct{}), gone: make(chan struct{})}}
	var ctx context.Context
	ctx, e.cancel = context.WithTimeout(context.Background(), p.cfg.OpenTimeout)
	p.entries[key] = e
	p.stats.Opens++
	if !p.sweeper && p.cfg.IdleTTL > 0 {
		p.sweeper = true
		p.wg.Go(p.sweep)
	}
	p.wg.Go(func() { p.open(ctx, e) })
}

func (p *Pool[V]) open(ctx context.Context, e *entry[V]) {
	value, err := call(func() (V, error) { return p.cfg.Open(ctx, e.key) })
	var cool time.Duration
	if err != nil {
		failures := 1
		p.mu.Lock()
		if c, ok := p.cooling.Peek(e.key); ok {
			failures += c.failures
		}
		p.mu.Unlock()
		// An open that was given up says nothing about the next.
		if ctx.Err() != context.Canceled && p.cfg.Cooldown != nil {
			cool, _ = call(func() (time.Duration, error) { return p.cfg.Cooldown(err, failures), nil })
		}
		defer e.cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stats.Failures++
		e.err = err
		if e.abandoned || e.invalid {
			e.err = nil // what it was opened for has changed, or nobody asked
		} else if cool > 0 {
			p.cooling.Add(e.key, cooldown{err, time.Now().Add(cool), failures})
		}
		e.state = closed
		close(e.ready)
		p.remove(e)
		return
	}
	e.cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	e.cancel = nil // with the context, which is as large as all the rest
	e.value = value
	p.cooling.Remove(e.key)
	if e.invalid || p.closing {
		p.startClose(e)
		close(e.ready)
		return
	}
	e.state = open
	p.order.Add(e.key, e)
	e.used = true
	e.refs = e.waiters // so that nobody closes it before they have their leases
	e.reserved = true
	close(e.ready)
	if e.refs == 0 {
		p.idle++
		p.signal()
	}
}

// PanicError is the error of an open that panicked. Its text is for logs of a
// program's own making: it holds what was panicked with.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// ErrGoexit is the error of an open that called runtime.Goexit.
var ErrGoexit = errors.New("runtime.Goexit was called")

// call runs f on a goroutine of its own, so that a Goexit ends that one only,
// and makes errors of panics.
func call[T any](f func() (T, error)) (value T, err error) {
	done := make(chan struct{})
	err = ErrGoexit
	go func() {
		defer close(done)
		defer func() {
			if r := recover(); r != nil {
				err = &PanicError{r, debug.Stack()}
			}
		}()
		value, err = f()
	}()
	<-done
	return value, err
}
