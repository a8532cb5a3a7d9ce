// Package pool keeps values of one kind open by key: each is opened when it is
// first asked for, once for all who ask, lent out, and closed when nobody has
// needed it for a while or its place is wanted. It knows nothing of what the
// values are.
package pool

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Errors of the pool's own. The callers of this package give them a kind.
var (
	ErrClosed = errors.New("pool closed")
	ErrFull   = errors.New("every place is in use")
	// ErrEnded is the cause of an instance's context once it was aborted.
	ErrEnded = errors.New("instance ended")
)

// Config says what a pool keeps and how much of it. All funcs are called
// without the pool's lock, and may call the pool.
type Config[V any] struct {
	// Open makes the value of a key. Its context ends with OpenTimeout, when
	// everybody who waits has given up, and when the pool closes.
	Open func(ctx context.Context, key string) (V, error)
	// Close ends a value that Open returned. It is called once for each.
	Close func(ctx context.Context, key string, value V)
	// Cooldown says how long an open's error is answered again instead of
	// opening, after that many failures in a row; 0 is not at all.
	Cooldown func(err error, failures int) time.Duration
	// Lost hears of a lease that the garbage collector found. site is where
	// it was taken, 0 when that was not recorded.
	Lost func(key string, site uintptr)

	MaxOpen        int
	IdleTTL        time.Duration
	OpenTimeout    time.Duration
	AcquireTimeout time.Duration
	CloseTimeout   time.Duration
	TrackSites     bool
}

// Pool is a pool. Make it with New.
type Pool[V any] struct {
	cfg     Config[V]
	handles sync.Pool // of *handle[V] not lent

	// mu guards everything below and every entry and cell. It is held for a
	// few dozen instructions: nothing is opened, closed, called or waited for
	// under it.
	mu      sync.Mutex
	entries map[string]*entry[V]              // of every state
	order   *simplelru.LRU[string, *entry[V]] // those that are open, oldest first
	cooling *simplelru.LRU[string, cooldown]
	room    chan struct{} // closed when a place may be free; nil: nobody waits
	closing bool
	sweeper bool
	done    chan struct{} // closed when closing begins
	empty   chan struct{} // closed when closing and no entry is left
	wg      sync.WaitGroup
	stats   Stats
	track   bool // record every lease's site
	idle    int  // entries that are open and not in use
	ending  int  // entries that are closing
	waiting int  // callers who wait for a place
}

// maxCooling bounds the failures remembered. Forgetting one costs an attempt.
const maxCooling = 10_000

type cooldown struct {
	err      error
	until    time.Time
	failures int
}

// Stats are a pool's figures.
type Stats struct {
	Open, Opening, Closing, Leased   int
	Opens, Failures, Evictions, Lost uint64
}

// New returns a pool. No goroutine is started before the first open.
func New[V any](cfg Config[V]) *Pool[V] {
	p := &Pool[V]{
		cfg:   cfg,
		done:  make(chan struct{}),
		empty: make(chan struct{}),
		track: cfg.TrackSites,
	}
	p.entries = make(map[string]*entry[V])
	// The pool itself decides what is evicted: what is in use must stay.
	p.order, _ = simplelru.NewLRU[string, *entry[V]](math.MaxInt, nil)
	p.cooling, _ = simplelru.NewLRU[string, cooldown](maxCooling, nil)
	p.handles.New = func() any { return newHandle(p) }
	return p
}

// Acquire lends the value of a key, opening it where it is not. While an older
// instance of the key is still in use or closing, it waits for its end.
func (p *Pool[V]) Acquire(ctx context.Context, key string) (Lease[V], error) {
	if ctx.Err() != nil {
		return Lease[V]{}, context.Cause(ctx)
	}
	p.mu.Lock()
	if e, ok := p.entries[key]; ok && e.state == open && !p.closing {
		p.ref(e)
		l := p.lend(e)
		p.mu.Unlock()
		return l, nil
	}
	p.mu.Unlock()
	return p.acquireSlow(ctx, key)
}

func (p *Pool[V]) acquireSlow(ctx context.Context, key string) (Lease[V], error) {
	var full <-chan time.Time
	for {
		p.mu.Lock()
		if p.closing {
			p.mu.Unlock()
			return Lease[V]{}, ErrClosed
		}
		e, found := p.entries[key]
		var wait <-chan struct{}
		switch {
		case found && e.state == open:
			p.ref(e)
			l := p.lend(e)
			p.mu.Unlock()
			return l, nil
		case found && e.state == opening && !e.abandoned && !e.invalid:
			e.waiters++
			p.mu.Unlock()
			if l, err, again := p.join(ctx, e); !again {
				return l, err
			}
			continue
		case found:
			wait = e.gone
		default:
			if err := p.cooldownOf(key); err != nil {
				p.mu.Unlock()
				return Lease[V]{}, err
			}
			if len(p.entries) < p.cfg.MaxOpen {
				p.startOpen(key)
				p.mu.Unlock()
				continue
			}
			// One eviction for each who waits is enough.
			if full == nil {
				p.waiting++
				defer p.doneWaiting()
			}
			if p.ending < p.waiting {
				p.evictOldest()
			}
			if p.room == nil {
				p.room = make(chan struct{})
			}
			wait = p.room
			if full == nil {
				timer := time.NewTimer(p.cfg.AcquireTimeout)
				defer timer.Stop()
				full = timer.C
			}
		}
		p.mu.Unlock()
		select {
		case <-wait:
		case <-full:
			return Lease[V]{}, ErrFull
		case <-ctx.Done():
			return Lease[V]{}, context.Cause(ctx)
		}
	}
}

func (p *Pool[V]) doneWaiting() {
	p.mu.Lock()
	p.waiting--
	p.mu.Unlock()
}

// join waits for an open that is under way. again says that its outcome is
// nobody's and the caller should look anew.
func (p *Pool[V]) join(ctx context.Context, e *entry[V]) (l Lease[V], err error, again bool) {
	select {
	case <-e.ready:
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.state == opening { // ctx ended first
		e.waiters--
		if e.waiters == 0 {
			e.abandoned = true
			e.cancel()
		}
		return l, context.Cause(ctx), false
	}
	if e.err != nil {
		return l, e.err, false
	}
	if !e.reserved {
		return l, nil, true // invalidated while it opened
	}
	if ctx.Err() != nil {
		p.unref(e)
		return l, context.Cause(ctx), false
	}
	if e.state != open { // evicted since: nobody may begin with it now
		p.unref(e)
		return l, nil, true
	}
	return p.lend(e), nil, false
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
	e := &entry[V]{key: key, state: opening, ready: make(chan struct{}), gone: make(chan struct{})}
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

// ref begins one use of an open entry. The lock is held.
func (p *Pool[V]) ref(e *entry[V]) {
	if e.refs == 0 {
		p.idle--
	}
	e.refs++
	e.used = true
}

// unref ends one use of an entry. The lock is held.
func (p *Pool[V]) unref(e *entry[V]) {
	e.refs--
	if e.refs > 0 {
		return
	}
	if e.state == draining {
		p.startClose(e)
		return
	}
	if e.state == open {
		e.used = true // just now: the time to idle begins here
		p.idle++
		p.signal()
	}
}

// signal wakes those who wait for a place. The lock is held.
func (p *Pool[V]) signal() {
	if p.room != nil {
		close(p.room)
		p.room = nil
	}
}

// evictOldest closes the entry that nobody has used for longest. Entries that
// were used since it last looked get a second chance, so that a use need not
// move anything. The lock is held.
func (p *Pool[V]) evictOldest() {
	for p.idle > 0 { // ends: the second time round an idle entry is not used
		key, e, _ := p.order.GetOldest()
		if e.refs == 0 {
			if !e.used {
				p.stats.Evictions++
				p.startClose(e)
				return
			}
			e.used = false
		}
		p.order.Get(key) // to the young end
	}
}

// Evict closes a key's instance once it is not in use, and makes an open that
// is under way count for nothing. Cool-downs are forgotten. abort also ends
// the instance's context, so that those who use it stop.
func (p *Pool[V]) Evict(key string, abort bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cooling.Remove(key)
	if e, ok := p.entries[key]; ok {
		p.retire(e, abort)
	}
}

// EvictValue is Evict without abort, if the key's instance is the one that
// match accepts. match is called under the lock and must only compare.
func (p *Pool[V]) EvictValue(key string, match func(V) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.entries[key]; ok && (e.state == open || e.state == draining) && match(e.value) {
		p.retire(e, false)
	}
}

func (p *Pool[V]) retire(e *entry[V], abort bool) {
	switch e.state {
	case opening:
		e.invalid = true
	case open:
		if e.refs == 0 {
			p.stats.Evictions++
			p.startClose(e)
			return
		}
		p.stats.Evictions++
		p.order.Remove(e.key)
		e.state = draining
	}
	if abort {
		e.abort(ErrEnded)
	}
}

// startClose begins to close an entry. The lock is held.
func (p *Pool[V]) startClose(e *entry[V]) {
	if e.state == open {
		p.order.Remove(e.key)
		if e.refs == 0 {
			p.idle--
		}
	}
	e.state = closing
	p.ending++
	e.abort(ErrEnded)
	value := e.value
	var zero V
	e.value = zero // an entry that others still point to keeps nothing alive
	p.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), p.cfg.CloseTimeout)
		defer cancel()
		_, _ = call(func() (struct{}, error) { p.cfg.Close(ctx, e.key, value); return struct{}{}, nil })
		p.mu.Lock()
		defer p.mu.Unlock()
		e.state = closed
		p.ending--
		p.remove(e)
	})
}

// remove forgets an entry that is closed. The lock is held.
func (p *Pool[V]) remove(e *entry[V]) {
	delete(p.entries, e.key)
	close(e.gone)
	p.signal()
	if p.closing && len(p.entries) == 0 {
		close(p.empty)
	}
}

// sweep closes what has been idle for IdleTTL, give or take a quarter.
func (p *Pool[V]) sweep() {
	tick := time.NewTicker(max(p.cfg.IdleTTL/4, 1))
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-tick.C:
		}
		p.mu.Lock()
		keys := p.order.Keys()
		p.mu.Unlock()
		for len(keys) > 0 {
			n := min(len(keys), 256) // others get the lock in between
			p.sweepSome(keys[:n])
			keys = keys[n:]
		}
	}
}

func (p *Pool[V]) sweepSome(keys []string) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range keys {
		e, ok := p.entries[key]
		switch {
		case !ok || e.state != open || e.refs > 0:
		case e.used || e.idleSince.IsZero():
			e.used = false
			e.idleSince = now
		case now.Sub(e.idleSince) >= p.cfg.IdleTTL:
			p.stats.Evictions++
			p.startClose(e)
		}
	}
}

// Stats returns the figures of this moment.
func (p *Pool[V]) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	for _, e := range p.entries {
		switch e.state {
		case opening:
			s.Opening++
		case open:
			s.Open++
			s.Leased += e.refs
		case draining:
			s.Closing++
			s.Leased += e.refs
		case closing:
			s.Closing++
		}
	}
	return s
}

// Close closes the pool: no new leases; those out are waited for; then every
// value is closed. When ctx ends first, the instances' contexts end and they
// are closed although in use. Close then waits CloseTimeout for that, and
// returns ctx's cause. It may be called more than once; each call waits.
func (p *Pool[V]) Close(ctx context.Context) error {
	p.mu.Lock()
	if !p.closing {
		p.closing = true
		close(p.done)
		p.signal()
		for _, e := range p.entries {
			if e.state == opening {
				e.cancel()
			}
			p.retire(e, false)
		}
		if len(p.entries) == 0 {
			close(p.empty)
		}
	}
	p.mu.Unlock()
	select {
	case <-p.empty:
		p.wg.Wait()
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	for _, e := range p.entries {
		if e.state == draining {
			p.startClose(e)
		}
	}
	p.mu.Unlock()
	grace := time.NewTimer(p.cfg.CloseTimeout)
	defer grace.Stop()
	select {
	case <-p.empty:
		p.wg.Wait()
		return context.Cause(ctx)
	case <-grace.C:
		return fmt.Errorf("still closing: %w", context.Cause(ctx))
	}
}
