package webhook

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// committer puts the updates of requests that come at the same time into the
// inbox together. While one Put is under way the next batch gathers, so batches
// grow with the load and the time that a Put takes, and a lone request waits
// for nobody.
//
// It has no goroutine: of the requests that wait, one puts for all.
type committer struct {
	inbox   Inbox
	timeout time.Duration // of a Put, and of the wait for one
	most    int           // updates in a batch
	room    int           // updates that wait for one

	idle sync.Pool // of *entry

	// Of who leads. The context is shared by the Puts of a while, since making
	// one for each would cost as much as a Put in memory.
	ctx    context.Context
	cancel context.CancelFunc
	made   time.Time
	batch  []*entry // what is put

	mu      sync.Mutex // guards what follows, and is not held during a Put
	waiting []*entry
	leading bool // somebody puts
}

// entry is an update that waits to be put.
type entry struct {
	update  inbox.Update
	outcome inbox.Outcome
	err     error
	lead    bool          // woken to put the next batch
	woken   chan struct{} // of one place, since each is woken once
	timer   *time.Timer
}

// put stores an update. It waits for the Put that is under way and for its
// own, and for others only where more than a batch wait before it. Waiting is
// bounded in number and in time, so that an inbox that hangs, or ignores its
// context, gathers no more requests than that. It does not end with its
// request: of its update it is then at least known to be stored.
func (c *committer) put(u inbox.Update) (inbox.Outcome, error) {
	e, _ := c.idle.Get().(*entry)
	if e == nil {
		e = &entry{woken: make(chan struct{}, 1)}
	}
	e.update = u
	c.mu.Lock()
	switch {
	case !c.leading:
		c.waiting = append(c.waiting, e)
		c.leading, e.lead = true, true
	case len(c.waiting) >= c.room:
		c.mu.Unlock()
		e.err = errBusy
	default:
		c.waiting = append(c.waiting, e)
		c.mu.Unlock()
		c.wait(e)
		if e.lead {
			c.mu.Lock()
		}
	}
	if e.lead { // and it is the first of those that wait, or alone
		c.round() // unlocks
	}
	outcome, err := e.outcome, e.err
	*e = entry{woken: e.woken, timer: e.timer}
	c.idle.Put(e)
	return outcome, err
}

var (
	errBusy    = fail("put updates", "", errors.StoreUnavailable, errors.New("too many wait for the inbox"))
	errTooLong = fail("put updates", "", errors.StoreUnavailable, errors.New("the inbox took too long"))
)

// wait waits until an entry is woken. One that no batch has taken by then
// leaves after the time of a Put: nothing of it was stored.
func (c *committer) wait(e *entry) {
	if e.timer == nil {
		e.timer = time.NewTimer(c.timeout)
	} else {
		e.timer.Reset(c.timeout)
	}
	defer e.timer.Stop()
	select {
	case <-e.woken:
		return
	case <-e.timer.C:
	}
	c.mu.Lock()
	if at := slices.Index(c.waiting, e); at >= 0 && !e.lead {
		c.waiting = slices.Delete(c.waiting, at, at+1)
		e.err = errTooLong
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	<-e.woken
}

// round puts a batch, in which the caller's is the first, and hands the lead
// to the next. It is called with the lock and returns without.
func (c *committer) round() {
	n := min(len(c.waiting), c.most)
	c.batch = append(c.batch[:0], c.waiting[:n]...)
	c.waiting = slices.Delete(c.waiting, 0, n)
	c.mu.Unlock()
	updates := make([]inbox.Update, n) // the inbox may keep it
	for i, e := range c.batch {
		updates[i] = e.update
	}
	var outcomes []inbox.Outcome
	err := errNoReturn // runtime.Goexit leaves it so
	down := false
	defer func() { c.deal(outcomes, err, down) }()
	outcomes, down, err = c.store(updates)
}

var errNoReturn = fail("put updates", "", errors.Internal, errors.New("the inbox ended its goroutine"))

// deal gives a batch its outcomes and hands on the lead. Where the inbox is
// down, those that wait fail too.
func (c *committer) deal(outcomes []inbox.Outcome, err error, down bool) {
	for i, e := range c.batch {
		if err != nil {
			e.err = err
		} else {
			e.outcome = outcomes[i]
		}
		if i > 0 { // the first is who leads
			e.woken <- struct{}{}
		}
	}
	clear(c.batch)
	c.mu.Lock()
	var next *entry
	var failed []*entry
	switch {
	case down: // the next batch would only wait for the same
		failed, c.waiting, c.leading = c.waiting, nil, false
	case len(c.waiting) > 0:
		next = c.waiting[0]
		next.lead = true
	default:
		c.leading = false
	}
	c.mu.Unlock()
	for _, e := range failed {
		e.err = err
		e.woken <- struct{}{}
	}
	if next != nil {
		next.woken <- struct{}{}
	}
}

// store calls the inbox. The context is nobody's in particular: a request that
// goes away takes no other's update with it. down tells the inbox's own errors
// from panics and the like, which may be a batch's alone.
func (c *committer) store(updates []inbox.Update) (outcomes []inbox.Outcome, down bool, err error) {
	if now := time.Now(); c.ctx == nil || now.Sub(c.made) > c.timeout/10 {
		if c.cancel != nil {
			c.cancel()
		}
		c.ctx, c.cancel = context.WithTimeout(context.Background(), c.timeout)
		c.made = now
	}
	defer func() {
		if p := recover(); p != nil {
			err = fail("put updates", "", errors.Internal, fmt.Errorf("panic of type %T in the inbox", p))
		}
	}()
	outcomes, err = c.inbox.Put(c.ctx, updates)
	down = err != nil
	if err == nil && len(outcomes) != len(updates) {
		err = fail("put updates", "", errors.Internal, errors.New("the inbox answered for another number of updates"))
	}
	return outcomes, down, err
}
