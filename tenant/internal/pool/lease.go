package pool

import (
	"context"
	"runtime"
)

// Lease is the use of a value. It is a small value itself; copies are the same
// lease. Release it once done.
type Lease[V any] struct {
	handle *handle[V]
	turn   uint64
	value  V
}

// handle is what a Lease keeps alive and nobody else does: when the garbage
// collector finds a handle whose cell is in use, a lease was lost. Handles are
// used again and again, since attaching a cleanup costs far more than lending.
type handle[V any] struct {
	cell *cell[V]
}

// cell is a handle's state. The pool's lock guards it.
type cell[V any] struct {
	pool  *Pool[V]
	entry *entry[V] // nil: not lent
	turn  uint64    // counts the leases, so that an old one can't end a new one
	site  uintptr
}

func newHandle[V any](p *Pool[V]) *handle[V] {
	h := &handle[V]{cell: &cell[V]{pool: p}}
	runtime.AddCleanup(h, (*cell[V]).lost, h.cell)
	return h
}

// siteEvery: looking up where a lease is taken costs more than all the rest of
// it, so it is done for one lease in so many, until one is lost.
const siteEvery = 64

// maxFree bounds the handles that are kept for use again. A pool that closes
// lets them all go: they, their cells and the pool hold each other.
const maxFree = 1024

// lend makes a lease of a reference that is counted already. The lock is held.
func (p *Pool[V]) lend(e *entry[V]) Lease[V] {
	var h *handle[V]
	if last := len(p.free) - 1; last >= 0 {
		h, p.free = p.free[last], p.free[:last]
	} else {
		h = newHandle(p)
	}
	c := h.cell
	c.entry = e
	c.site = 0
	if p.track || c.turn%siteEvery == 0 {
		c.site = callSite()
	}
	return Lease[V]{handle: h, turn: c.turn, value: e.value}
}

// callSite returns where outside of this package and its only user a lease is
// being taken.
func callSite() uintptr {
	var pcs [8]uintptr
	n := runtime.Callers(3, pcs[:])
	for _, pc := range pcs[:n] {
		if f := runtime.FuncForPC(pc); f != nil && !internal(f.Name()) {
			return pc
		}
	}
	return 0
}

// internal reports whether a function is of this package or of package tenant
// itself, its tests not included.
func internal(name string) bool {
	const module = "github.com/tgfleet/tgfleet/tenant"
	if len(name) < len(module) || name[:len(module)] != module {
		return false
	}
	rest := name[len(module):]
	return len(rest) > 0 && (rest[0] == '.' || len(rest) > 14 && rest[:14] == "/internal/pool" && rest[14] != '_')
}

// lost is called after the collector found a handle.
func (c *cell[V]) lost() {
	p := c.pool
	p.mu.Lock()
	e, site := c.entry, c.site
	if e != nil {
		c.entry = nil
		p.stats.Lost++
		p.track = true
		p.unref(e)
	}
	p.mu.Unlock()
	if e != nil && p.cfg.Lost != nil {
		_, _ = call(func() (struct{}, error) { p.cfg.Lost(e.key, site); return struct{}{}, nil })
	}
}

// Value returns the lent value.
func (l Lease[V]) Value() V { return l.value }

// Context returns the instance's context, which ends when those who use it
// should stop. After Release it is an ended one.
func (l Lease[V]) Context() context.Context {
	if l.handle != nil {
		c := l.handle.cell
		c.pool.mu.Lock()
		defer c.pool.mu.Unlock()
		if c.entry != nil && c.turn == l.turn {
			return c.entry.context()
		}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(ErrEnded)
	return ctx
}

// Release ends the lease. Every further call does nothing.
func (l Lease[V]) Release() {
	if l.handle == nil {
		return
	}
	c := l.handle.cell
	p := c.pool
	p.mu.Lock()
	e := c.entry
	if e == nil || c.turn != l.turn {
		p.mu.Unlock()
		return
	}
	c.entry = nil
	c.turn++
	p.unref(e)
	if len(p.free) < maxFree && !p.closing {
		p.free = append(p.free, l.handle)
	}
	p.mu.Unlock()
}
