package ratelimit

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Request says what is to be admitted. Only Tenant is needed.
type Request[K comparable] struct {
	// Tenant is whose request it is. Tenants share what there is by their
	// weights.
	Tenant string
	// Key is what the request is about, such as a chat. Requests of a key are
	// admitted in the order in which they came (within a lane), at the key's
	// own limit. The zero K is no key.
	Key K
	// Cost is how many units it takes from each level. 0 means 1.
	Cost int
	// Free says that it takes no units of Total, Shared and Classes. It waits
	// for freezes, starts and slots, and passes requests that wait for such
	// units. Where its KeyClass has a limit it takes units of its key, in turn
	// with the other requests for the key.
	Free bool
	// Debt lets in a request that costs more than a level's burst: as soon as
	// the level is full, leaving a debt that later ones wait for. Without it
	// such a request is refused with [ErrTooLarge].
	Debt bool
	// Slotless says that it holds no slot while it is under way. It waits
	// apart from those that do.
	Slotless bool
	// Class and KeyClass choose a limit from [Limits].Classes and Keys; what
	// is beyond their ends has no limit. Classes wait apart. The KeyClasses of
	// one key do not, and they draw on one bucket, each with its own limit.
	// They are 0 to 15.
	Class, KeyClass int
	// Lane is its urgency, 0 being the most urgent; it is less than
	// [Config].Lanes.
	Lane int
	// MaxWait bounds the wait, as a deadline of the context does. 0 and less
	// are no bound.
	MaxWait time.Duration
	// Ticket is the [Permit].Ticket of an earlier request that is made again:
	// it waits in the place that it had. 0 is the end of the queue.
	Ticket uint64
}

const maxClass = 15

func (r *Request[K]) check(lanes int) error {
	if r.Cost == 0 {
		r.Cost = 1
	}
	switch {
	case r.Cost < 0 || r.Cost > math.MaxInt32:
		return fmt.Errorf("admit: cost %d", r.Cost)
	case r.Class < 0 || r.Class > maxClass || r.KeyClass < 0 || r.KeyClass > maxClass:
		return fmt.Errorf("admit: class %d, %d", r.Class, r.KeyClass)
	case r.Lane < 0 || r.Lane >= lanes:
		return fmt.Errorf("admit: lane %d of %d", r.Lane, lanes)
	case !same(r.Key, r.Key):
		return errors.New("admit: the key is not equal to itself")
	}
	return nil
}

// need is how many units must be there for a request to go.
func (r *Request[K]) need(b *bucket) int {
	if r.Debt {
		return max(1, min(r.Cost, int(b.burst)))
	}
	return r.Cost
}

// Permit is an admission. Release it exactly once, when what was admitted has
// ended; the zero Permit needs no release.
type Permit[K comparable] struct {
	s      *Scheduler[K]
	tenant *tenant[K]
	ticket uint64
	slot   bool
	began  bool
}

// Began reports whether the tenant was cold and began with this request; see
// [Config].Starts.
func (p Permit[K]) Began() bool { return p.began }

// Ticket is the request's place in its queue, for [Request].Ticket.
func (p Permit[K]) Ticket() uint64 { return p.ticket }

// Release gives the slot back.
func (p Permit[K]) Release() {
	if !p.slot {
		return
	}
	s := p.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vacate(p.tenant)
	if s.waiting > 0 {
		s.pump(s.now())
	}
}
