package sqlinbox

import (
	"container/list"
	"sync"
	"time"
)

// A look at which tenants have something ready passes by all that have. While
// those are few it comes as often as it is called for; otherwise it is paid for
// with so much rest for each.
const (
	lookFew   = 256
	lookRest  = 100 * time.Microsecond
	lookEvery = time.Second // at the latest, whether or not anything seems to have changed
)

// Ready remembers the tenants that may have something ready, by turn. A worker
// that wants nothing of thousands, since they are suspended, is not to have the
// database pass by their updates for every lease.
//
// It is told of what this process makes ready, and looks into the database for
// the rest. A tenant too many costs a query, once; one too few is found by the
// next look. The zero Ready knows nothing.
type Ready struct {
	mu      sync.Mutex // guards what follows
	tenants map[string]*list.Element
	turns   list.List // of *turn
	now     uint64    // counts looks and leases
	known   bool
	changed bool // there may be some that it has not been told of
	looked  time.Time
	found   int // by that look
}

// turn is a tenant's place.
type turn struct {
	tenant string
	added  uint64 // when it was the last time
}

// Add notes that tenants may have something ready.
func (r *Ready) Add(tenants ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known {
		r.add(tenants)
	}
}

func (r *Ready) add(tenants []string) {
	for _, t := range tenants {
		if e := r.tenants[t]; e != nil {
			e.Value.(*turn).added = r.now
			continue
		}
		r.tenants[t] = r.turns.PushBack(&turn{t, r.now})
	}
}

// Changed notes that others may have made something ready.
func (r *Ready) Changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed = true
}

// Forget makes it know nothing.
func (r *Ready) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known, r.tenants = false, nil
	r.turns.Init()
}

// Begin begins a lease. Where look is set, the database is to be asked for all
// tenants that have something ready, and [Ready.Looked] told. at is for the
// calls that follow.
func (r *Ready) Begin(now time.Time) (at uint64, look bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now++
	if !r.known { // what is added from here on may come too late for the look
		r.known, r.changed, r.looked, r.tenants = true, true, time.Time{}, make(map[string]*list.Element)
	}
	rest := time.Duration(0)
	if r.found >= lookFew {
		rest = time.Duration(r.found) * lookRest
	}
	since := now.Sub(r.looked)
	look = r.looked.IsZero() || since < 0 || r.changed && since >= rest || since >= max(rest, lookEvery)
	if look {
		r.changed = false // what changes from here on asks for another
	}
	return r.now, look
}

// Looked notes the tenants that a look has found.
func (r *Ready) Looked(at uint64, tenants []string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.known {
		return
	}
	found := make(map[string]bool, len(tenants))
	for _, t := range tenants {
		found[t] = true
	}
	for t, e := range r.tenants {
		if !found[t] && e.Value.(*turn).added < at {
			r.turns.Remove(e)
			delete(r.tenants, t)
		}
	}
	r.add(tenants)
	r.looked, r.found = now, len(tenants)
}

// Turn returns up to n tenants of which something is wanted, those first whose
// turn it is.
func (r *Ready) Turn(n int, wanted func(tenant string) bool) (tenants []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := r.turns.Front(); e != nil && len(tenants) < n; e = e.Next() {
		if t := e.Value.(*turn).tenant; wanted(t) {
			tenants = append(tenants, t)
		}
	}
	return tenants
}

// Had notes that a tenant has had its turn.
func (r *Ready) Had(tenant string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.tenants[tenant]; e != nil {
		r.turns.MoveToBack(e)
	}
}

// None notes that the lease that began at a moment found nothing more of a
// tenant.
func (r *Ready) None(at uint64, tenant string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.tenants[tenant]; e != nil && e.Value.(*turn).added < at {
		r.turns.Remove(e)
		delete(r.tenants, tenant)
	}
}
