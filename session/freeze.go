package session

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/ratelimit"
)

// wideFreeze is the freeze of all tenants by 429s. It binds suspects only: each
// of them is frozen when it calls, so that innocent tenants pass and the first
// success among them ends the freeze for all.
type wideFreeze struct {
	on atomic.Bool // until is in the future, or was when somebody looked last

	mu    sync.Mutex // guards what follows; the scheduler is called under it
	until time.Time
	// frozen are the tenants that were frozen, and the ends of the freezes that
	// they had before.
	frozen map[string]time.Time
}

// begin freezes the suspects until a time.
func (w *wideFreeze) begin(l *limiter, until time.Time, tenant string) {
	w.mu.Lock()
	if until.After(w.until) {
		w.until = until
	}
	w.on.Store(true)
	w.mu.Unlock()
	w.hold(l, tenant)
}

// hold freezes a tenant that is about to call, if it is a suspect.
func (w *wideFreeze) hold(l *limiter, tenant string) {
	if !w.on.Load() {
		return
	}
	now := l.facts.clock()
	suspect := !l.facts.innocent(tenant, now)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case !now.Before(w.until):
		w.on.Store(false)
		clear(w.frozen)
	case suspect:
		if _, done := w.frozen[tenant]; !done {
			if w.frozen == nil {
				w.frozen = make(map[string]time.Time)
			}
			w.frozen[tenant] = now.Add(l.scheduler.TenantStats(tenant).Frozen)
		}
		l.scheduler.Freeze(ratelimit.Scope[place]{Level: ratelimit.LevelTenant, Tenant: tenant}, w.until)
	}
}

// end thaws all, but for the freezes of their own that tenants have.
func (w *wideFreeze) end(l *limiter) {
	if !w.on.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := l.facts.clock()
	for tenant, before := range w.frozen {
		if now.Add(l.scheduler.TenantStats(tenant).Frozen).After(w.until.Add(time.Millisecond)) {
			continue // it was frozen for longer meanwhile
		}
		scope := ratelimit.Scope[place]{Level: ratelimit.LevelTenant, Tenant: tenant}
		l.scheduler.Thaw(scope)
		if before.After(now) {
			l.scheduler.Freeze(scope, before)
		}
	}
	clear(w.frozen)
	w.until = time.Time{}
	w.on.Store(false)
}

// left returns for how much longer the freeze lasts; 0 without one.
func (w *wideFreeze) left(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(w.until.Sub(now), 0)
}
