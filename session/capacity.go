package session

import (
	"sync"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/ratelimit"
)

// capacity is how many calls at once the sessions of a guard can carry. Over
// HTTP/1.1 a call has a connection for itself, so a session carries as many
// calls as it may have connections to its host. A call that waits for one should
// wait in the fair scheduler and not in the transport, where one tenant's slow
// calls would hold up everybody.
type capacity struct {
	mu         sync.Mutex // guards what follows; the scheduler is called under it
	total      ratelimit.Limit
	concurrent int // the operator's bound; 0 and less are none
	sessions   map[*Session]int
}

// carries says how many calls a session carries; 0 is no bound.
func (g *Guard) carries(s *Session, calls int) {
	c := &g.capacity
	c.mu.Lock()
	defer c.mu.Unlock()
	if before, known := c.sessions[s]; known && before == calls {
		return
	}
	if c.sessions == nil {
		c.sessions = make(map[*Session]int)
	}
	c.sessions[s] = calls
	_ = g.limits.scheduler.SetTotal(c.total, c.slots(c.concurrent)) // the limit was accepted before
}

// forget takes a session out that was closed.
func (g *Guard) forget(s *Session) {
	c := &g.capacity
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.sessions[s]; !known {
		return
	}
	delete(c.sessions, s)
	_ = g.limits.scheduler.SetTotal(c.total, c.slots(c.concurrent))
}

// slots returns how many calls may be under way, in the bounds of the sessions
// and of the operator. The lock is held.
func (c *capacity) slots(concurrent int) int {
	all := 0
	for _, calls := range c.sessions {
		if calls == 0 {
			return concurrent
		}
		all += calls
	}
	if all == 0 || concurrent > 0 && concurrent < all {
		return concurrent
	}
	return all
}

// SetTotal changes the limits of all tenants together; see [LimitConfig].
func (g *Guard) SetTotal(total ratelimit.Limit, concurrent int) error {
	c := &g.capacity
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := g.limits.scheduler.SetTotal(total, c.slots(concurrent)); err != nil {
		return &errors.Error{Kind: errors.BadRequest, Op: "set limits", Err: err}
	}
	c.total, c.concurrent = total, concurrent
	return nil
}
