package pool

import (
	"context"
	"fmt"
	"time"
)

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
			e.idleSince = time.Since(p.born) // as the sweeper would have it
		}
		p.order.Get(key) // to the young end
	}
}

// Evict closes a key's instance once it is not in use, and makes an open that
// is under way count for nothing. Cool-downs are forgotten. abort also ends
// the instance's context, so that those who use it stop.
func (p *Pool[V]) Evict(key string, abort bool) { p.EvictIf(key, abort, nil) }

// EvictIf is Evict where old says so of the value, or is nil. An open that is
// under way has no value yet, and counts for nothing. old is called with the
// lock held, and only looks at the value.
func (p *Pool[V]) EvictIf(key string, abort bool, old func(V) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cooling.Remove(key)
	e, ok := p.entries[key]
	if !ok || old != nil && (e.state == open || e.state == draining) && !old(e.value) {
		return
	}
	p.retire(e, abort)
}

// retire ends an entry as Evict says. The lock is held.
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
	now := time.Since(p.born)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range keys {
		e, ok := p.entries[key]
		switch {
		case !ok || e.state != open || e.refs > 0:
		case e.used:
			e.used = false
			e.idleSince = now
		case now-e.idleSince >= p.cfg.IdleTTL:
			p.stats.Evictions++
			p.startClose(e)
		}
	}
}

// Close closes the pool: no new leases; those out are waited for; then every
// value is closed. When ctx ends first, the instances' contexts end and they
// are closed although in use. Close then waits CloseTimeout for that, and
// returns ctx's cause. It may be called more than once; each call waits.
func (p *Pool[V]) Close(ctx context.Context) error {
	p.mu.Lock()
	if !p.closing {
		p.closing = true
		p.free = nil
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
