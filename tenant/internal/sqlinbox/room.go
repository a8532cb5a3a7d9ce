package sqlinbox

import (
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// How old a count may be that is trusted. What this process puts is added to
// it, so it is only what others put that it does not know.
const (
	tenantFresh = 5 * time.Second
	allFresh    = time.Minute
	fullFresh   = time.Second // of one that says that the inbox is full
	// Counting a million takes a second or so, in which nobody puts. So many are
	// counted as often as that helps, and for each of more the next count waits.
	countFew  = 1000
	countRest = 10 * time.Microsecond
)

// Room knows how many updates there are, as nearly as the bounds need it: an
// estimate that is too high is counted anew before an update is refused for it,
// or was a moment before where there are many.
// Counting all for every Put would cost more than the Put.
type Room struct {
	cfg Config

	mu      sync.Mutex // guards what follows
	all     count
	tenants map[string]count
	swept   time.Time
}

type count struct {
	n  int
	at time.Time // zero: not known
}

// rested reports that it may be counted anew.
func (c count) rested(now time.Time) bool {
	return c.n < countFew || now.Sub(c.at) >= time.Duration(c.n)*countRest
}

// NewRoom returns a Room that knows nothing yet.
func NewRoom(cfg Config) *Room { return &Room{cfg: cfg, tenants: make(map[string]count)} }

// Unknown returns what is to be counted before the updates of p are put.
func (r *Room) Unknown(p *Plan, now time.Time) (tenants []string, all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	total := 0
	for _, t := range p.Tenants {
		n := p.perTenant[t]
		total += n
		c := r.tenants[t]
		if c.at.IsZero() || now.Sub(c.at) >= tenantFresh || c.n+n > r.cfg.MaxPerTenant && c.rested(now) {
			tenants = append(tenants, t)
		}
	}
	all = r.all.at.IsZero() || now.Sub(r.all.at) >= allFresh ||
		r.all.n+total > r.cfg.MaxUpdates && r.all.rested(now) && (r.all.n < r.cfg.MaxUpdates || now.Sub(r.all.at) >= fullFresh)
	return tenants, all && total > 0
}

// Counted notes a tenant's count, and that of all with "".
func (r *Room) Counted(tenant string, n int, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if tenant == "" {
		r.all = count{n, now}
		return
	}
	if now.Sub(r.swept) > tenantFresh {
		r.swept = now
		for t, c := range r.tenants {
			if now.Sub(c.at) >= tenantFresh {
				delete(r.tenants, t)
			}
		}
	}
	r.tenants[tenant] = count{n, now}
}

// take takes room for an update, or says why there is none.
func (r *Room) take(tenant string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.tenants[tenant]
	switch {
	case c.n >= r.cfg.MaxPerTenant:
		return inbox.Full(tenant, errors.ScopeTenant, r.cfg.RetryAfter)
	case r.all.n >= r.cfg.MaxUpdates:
		return inbox.Full(tenant, errors.ScopeAll, r.cfg.RetryAfter)
	}
	c.n++
	r.all.n++
	r.tenants[tenant] = c
	return nil
}

// Left notes that an update has left.
func (r *Room) Left(tenant string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.tenants[tenant]; ok && c.n > 0 {
		c.n--
		r.tenants[tenant] = c
	}
	r.all.n = max(0, r.all.n-1)
}

// Forget makes the counts of tenants, and that of all, unknown.
func (r *Room) Forget(tenants ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range tenants {
		delete(r.tenants, t)
	}
	r.all = count{}
}
