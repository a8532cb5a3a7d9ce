package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Store is a bucket that several processes draw on, such as one in Redis or in
// PostgreSQL. It is what [Leased] needs of one.
//
// A store goes by a clock of its own, never by its callers', since those
// differ. What it refuses takes nothing.
type Store interface {
	// Lease takes as many units as there are, at least need and at most most,
	// and returns how many. Where there are fewer than need it takes nothing
	// and returns 0, and how long to wait until there will be; [Forever] for
	// never. It obeys ctx.
	Lease(ctx context.Context, need, most int) (units int, wait time.Duration, err error)
}

// LeasedConfig configures a [Leased]. Only Store is needed.
type LeasedConfig struct {
	// Store is what is drawn on.
	Store Store
	// Chunk is how many units are leased at once, at most: it grows to that
	// while leases follow each other within KeepFor. More ask the store less
	// often; fewer leave more to the other processes. 0 means 10.
	Chunk int
	// KeepFor is how long leased units may be used; then they are lost. 0
	// means 200 ms.
	//
	// Units that were saved up for so long may be used together with new ones.
	// For at most Burst + Rate×t units in every t seconds, give the store a
	// burst that is smaller by Rate × KeepFor.
	KeepFor time.Duration
	// Timeout bounds each request to the store. 0 means 1 s.
	Timeout time.Duration
	// RetryAfter is how long a store is left alone after it failed. 0 means
	// 1 s.
	RetryAfter time.Duration
	// Fallback is drawn on from a failure of the store until it answers again,
	// such as a [Bucket] with this process's part of the limit. Nil lets
	// nothing pass meanwhile.
	Fallback Limiter
	// OnError is told of each failure of the store, one at a time, in a
	// goroutine of Leased's. Nil tells nobody.
	OnError func(error)
}

// Leased is a [Limiter] that shares a bucket with other processes: it leases
// units in chunks and hands them out, so that most requests need not ask the
// store. While they are many it asks ahead of time, when half a chunk is left.
// It never hands out what it has not leased, whatever fails; what is leased and
// not used in time is lost to all.
//
// It is safe for concurrent use, and a [Notifier]. Make it with [NewLeased] and
// close it. It runs a goroutine while it asks the store.
type Leased struct {
	cfg  LeasedConfig
	ctx  context.Context
	end  context.CancelFunc
	base time.Time
	asks sync.WaitGroup

	mu       sync.Mutex    // guards what follows; nothing is called under it but Fallback
	chunks   []chunk       // oldest first
	last     time.Duration // until when the unit that was used last was good
	debt     int
	size     int // of the next chunk
	asking   bool
	asked    time.Duration // last
	again    time.Duration // when the store may be asked
	failed   bool          // the last time
	fell     time.Duration // when Fallback was drawn on last
	tooLarge int           // the least need that the store never has; 0 for none
	closed   bool
	notify   []func()
}

// chunk are units that were leased together.
type chunk struct {
	units   int
	expires time.Duration // since base
}

var (
	_ Limiter  = (*Leased)(nil)
	_ Notifier = (*Leased)(nil)
)

// NewLeased returns a Leased that has leased nothing yet. The error names every
// bad field of cfg.
func NewLeased(cfg LeasedConfig) (*Leased, error) {
	var bad []error
	if cfg.Store == nil {
		bad = append(bad, errors.New("field Store is nil"))
	}
	if cfg.Chunk < 0 {
		bad = append(bad, fmt.Errorf("field Chunk is %d", cfg.Chunk))
	}
	if cfg.Chunk == 0 {
		cfg.Chunk = 10
	}
	for _, f := range []struct {
		name  string
		value *time.Duration
		zero  time.Duration
	}{
		{"KeepFor", &cfg.KeepFor, 200 * time.Millisecond},
		{"Timeout", &cfg.Timeout, time.Second},
		{"RetryAfter", &cfg.RetryAfter, time.Second},
	} {
		if *f.value < 0 {
			bad = append(bad, fmt.Errorf("field %s is %v", f.name, *f.value))
		}
		if *f.value == 0 {
			*f.value = f.zero
		}
	}
	if len(bad) > 0 {
		return nil, fmt.Errorf("configure leased limiter: %w", errors.Join(bad...))
	}
	l := &Leased{cfg: cfg, size: 1, base: time.Now(), asked: -cfg.KeepFor, fell: -cfg.KeepFor}
	l.ctx, l.end = context.WithCancel(context.Background())
	return l, nil
}

// Notify implements [Notifier].
func (l *Leased) Notify(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notify = append(l.notify, f)
}

// Take implements [Limiter]. Where units are to be leased first, the wait that
// it returns is the longest; [Leased.Notify] tells when it is over.
func (l *Leased) Take(now time.Time, n, need int) time.Duration {
	at := now.Sub(l.base)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return Forever
	}
	have := l.units(at)
	if have >= need {
		l.use(n)
		if l.size > 1 && have-n <= l.size/2 && !l.failed {
			l.ask(at, 1)
		}
		return 0
	}
	l.ask(at, need)
	switch {
	case l.failed && l.cfg.Fallback != nil:
		wait := l.cfg.Fallback.Take(now, n, need)
		if wait == 0 {
			l.fell = at
		}
		return wait
	case l.tooLarge > 0 && need >= l.tooLarge:
		return Forever
	case l.again > at:
		return l.again - at
	}
	return l.cfg.Timeout
}

// Give implements [Limiter]. What is given back is good for no longer than it
// was.
func (l *Leased) Give(now time.Time, n int) {
	at := now.Sub(l.base)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cfg.Fallback != nil && at-l.fell < l.cfg.KeepFor {
		return // it may be Fallback's
	}
	paid := min(n, l.debt)
	l.debt -= paid
	if n > paid && l.last > at {
		l.chunks = slices.Insert(l.chunks, 0, chunk{n - paid, l.last})
	}
}

// units counts those that may be used, and forgets those that may no more. The
// lock is held.
func (l *Leased) units(at time.Duration) int {
	for len(l.chunks) > 0 && (l.chunks[0].units == 0 || l.chunks[0].expires <= at) {
		l.size = max(1, l.size-l.chunks[0].units)
		l.chunks = slices.Delete(l.chunks, 0, 1)
	}
	n := -l.debt
	for _, c := range l.chunks {
		n += c.units
	}
	return n
}

// use hands out units, oldest first; what is not there is a debt.
func (l *Leased) use(n int) {
	for i := range l.chunks {
		part := min(n, l.chunks[i].units)
		if part > 0 {
			l.last = l.chunks[i].expires
		}
		l.chunks[i].units -= part
		n -= part
	}
	l.debt += n
}

// ask leases units in the background unless it does so already or was told to
// wait. The lock is held.
func (l *Leased) ask(at time.Duration, need int) {
	if l.asking || l.again > at {
		return
	}
	if at-l.asked < l.cfg.KeepFor {
		l.size = min(2*l.size, l.cfg.Chunk)
	} else {
		l.size = 1
	}
	l.asking, l.asked = true, at
	most := max(need+l.debt, l.size)
	if l.debt > 0 {
		need = 1 // a debt is paid bit by bit: it may be more than the store holds
	}
	l.asks.Go(func() { l.lease(need, most) })
}

// lease asks the store once.
func (l *Leased) lease(need, most int) {
	ctx, cancel := context.WithTimeout(l.ctx, l.cfg.Timeout)
	defer cancel()
	asked := time.Since(l.base) // the units count from then on, at the latest
	units, wait, err := l.request(ctx, need, most)
	if err != nil && l.ctx.Err() == nil && l.cfg.OnError != nil {
		l.cfg.OnError(err)
	}
	l.mu.Lock()
	now := time.Since(l.base)
	l.asking, l.failed = false, err != nil
	l.again = 0
	switch {
	case err != nil:
		l.again = now + l.cfg.RetryAfter
	case units > 0:
		paid := min(units, l.debt)
		l.debt -= paid
		l.units(now) // forgets those that are no longer good
		l.chunks = append(l.chunks, chunk{units - paid, asked + l.cfg.KeepFor})
		l.tooLarge = 0
	case wait == Forever:
		l.tooLarge = need
	default:
		l.again = now + max(wait, time.Millisecond)
	}
	notify := l.notify
	l.mu.Unlock()
	for _, f := range notify {
		f()
	}
}

// request makes an error of what a store should not do.
func (l *Leased) request(ctx context.Context, need, most int) (units int, wait time.Duration, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("lease: the store panicked: %v", p)
		}
	}()
	units, wait, err = l.cfg.Store.Lease(ctx, need, most)
	switch {
	case err != nil:
		return 0, 0, fmt.Errorf("lease: %w", err)
	case units < 0 || units > most:
		return 0, 0, fmt.Errorf("lease: the store returned %d units of %d", units, most)
	}
	return units, wait, nil
}

// Close stops asking and waits for what is under way. Nothing is handed out
// afterwards.
func (l *Leased) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.end()
	l.asks.Wait()
}
