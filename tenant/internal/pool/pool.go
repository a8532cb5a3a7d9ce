// Package pool keeps values of one kind open by key: each is opened when it is
// first asked for, once for all who ask, lent out, and closed when nobody has
// needed it for a while or its place is wanted. It knows nothing of what the
// values are.
package pool

import (
	"context"
	"errors"
	"math"
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
	cfg  Config[V]
	born time.Time

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
	free    []*handle[V] // not lent, to be used again
	stats   Stats
	track   bool // record every lease's site
	idle    int  // entries that are open and not in use
	ending  int  // entries that are closing
	waiting int  // callers who wait for a place
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
		born:  time.Now(),
		done:  make(chan struct{}),
		empty: make(chan struct{}),
		track: cfg.TrackSites,
	}
	p.entries = make(map[string]*entry[V])
	// The pool itself decides what is evicted: what is in use must stay.
	p.order, _ = simplelru.NewLRU[string, *entry[V]](math.MaxInt, nil)
	p.cooling, _ = simplelru.NewLRU[string, cooldown](maxCooling, nil)
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
