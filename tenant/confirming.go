package tenant

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// confirming holds the tenants whose token Telegram rejected and that are not
// quarantined yet. Their calls fail here, and [Manager.confirm] asks Telegram
// about each token, until Telegram accepts it or the quarantine is final.
type confirming struct {
	confirmFor    time.Duration // negative: the first rejection is final
	confirmations int           // rejections by getMe that are needed
	max           int           // tenants in a storm; negative: no bound
	onHold        func(context.Context, int)
	log           *slog.Logger
	wake          chan struct{} // gets one when next may return something new

	mu       sync.Mutex // guards the fields below and every confirmation
	byID     map[string]*confirmation
	queue    confirmationQueue // those that are not being asked about
	asking   int
	released time.Time            // when an accepted token last had all others asked about
	recent   map[string]time.Time // when tokens were rejected: these and others
	pruned   time.Time            // of recent
	held     bool
}

// confirmation is the state of one tenant.
type confirmation struct {
	tenant    *Tenant   // the instance that met the first rejection
	instances []*Tenant // of the same token
	cause     error     // the first rejection
	// blocked is set once the tenant's calls fail here. A 404 may be about the
	// method or a proxy's, so calls go on until a getMe is rejected too.
	blocked bool
	since   time.Time // when it was blocked, or else added

	asked      time.Time // when Telegram last answered, or failed to
	wanted     time.Time // when a call or lease last failed here
	due        time.Time // when to ask next
	pause      time.Duration
	row        time.Time // since when no other token was accepted
	rejections int       // by getMe since then
	place      int       // in the queue; -1 while Telegram is asked

	// maybeStored says that an earlier try may have stored the quarantine. Only
	// the goroutine that asks uses it.
	maybeStored bool
}

const (
	defaultConfirmFor = time.Hour
	// The pauses between two questions are 1, 2, 4, 8 and 16 s, then 30 s, and
	// after 10 min a twentieth of the time that the token is rejected, up to
	// 5 min. Telegram has answered 401 to all bots for some seconds, and 404 to
	// some bots for minutes.
	firstConfirm = time.Second
	longConfirm  = 30 * time.Second
	maxConfirm   = 5 * time.Minute
	confirmShare = 20
	// maxConfirmations is how many rejections a long ConfirmFor needs, and minRow over
	// which time. It matters after an outage, when the time has passed and Telegram
	// was not heard, and when Telegram accepts some tokens again before others.
	maxConfirmations = 4
	minRow           = 15 * time.Second
	// wantedConfirm is the longest pause for a tenant that is in use, and wantedFor is how
	// long one failed call or lease makes it so. Workers try a lease once a minute.
	wantedConfirm = 10 * time.Second
	wantedFor     = 75 * time.Second
	// confirmers is how many tokens are asked about at a time.
	confirmers = 32
	// confirmTimeout bounds one question.
	confirmTimeout = 10 * time.Second

	// stormWindow is how long a rejection counts for a storm.
	stormWindow = time.Minute
	// heldFor is how long a token must be rejected to be quarantined in a storm.
	heldFor = time.Hour
	// defaultMaxQuarantines is far above how often customers revoke tokens.
	defaultMaxQuarantines = 10
)

func newConfirming(cfg ManagerConfig, log *slog.Logger) *confirming {
	c := &confirming{
		confirmFor: cmp.Or(cfg.ConfirmFor, defaultConfirmFor), max: cmp.Or(cfg.MaxQuarantines, defaultMaxQuarantines),
		onHold: cfg.OnHold, log: log, wake: make(chan struct{}, 1),
		byID: make(map[string]*confirmation), recent: make(map[string]time.Time),
	}
	for at := firstConfirm; at <= c.confirmFor && c.confirmations < maxConfirmations; at = 2*at + firstConfirm {
		c.confirmations++
	}
	return c
}

// note counts a tenant whose token was rejected, and reports whether there are
// so many that the tokens can't be the cause.
func (c *confirming) note(ctx context.Context, id string) (held bool) {
	c.mu.Lock()
	c.recent[id] = time.Now()
	before := c.held
	held, n := c.storm()
	c.mu.Unlock()
	if held && !before {
		c.log.ErrorContext(ctx, "Telegram refuses many tokens at once; nobody more is quarantined for now", slog.Int("tenants", n))
		if c.onHold != nil {
			defer func() {
				if p := recover(); p != nil {
					c.log.ErrorContext(ctx, "panic in OnHold", slog.String("panic", session.Redact(fmt.Sprint(p))))
				}
			}()
			c.onHold(ctx, n)
		}
	}
	return held
}

// storm counts the tenants that were rejected lately. The lock is held.
func (c *confirming) storm() (held bool, n int) {
	now := time.Now()
	if now.Sub(c.pruned) >= time.Second {
		c.pruned = now
		for id, at := range c.recent {
			if now.Sub(at) >= stormWindow && c.byID[id] == nil {
				delete(c.recent, id)
			}
		}
	}
	n = len(c.recent)
	c.held = c.max >= 0 && n > c.max
	return c.held, n
}

// add has Telegram asked about a tenant's token. block fails the tenant's calls
// until Telegram accepts it; without, Telegram is asked at once.
func (c *confirming) add(t *Tenant, cause error, block bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	one := c.byID[t.ID()]
	switch {
	case one == nil || !one.of(t):
		if one != nil && one.place >= 0 {
			heap.Remove(&c.queue, one.place)
		}
		one = &confirmation{tenant: t, instances: []*Tenant{t}, cause: cause, since: now, due: now, place: -1}
		c.byID[t.ID()] = one
		if block {
			c.block(one, now)
		}
		heap.Push(&c.queue, one)
	default:
		one.join(t)
		if block && !one.blocked {
			c.block(one, now)
			if one.place >= 0 {
				heap.Fix(&c.queue, one.place)
			}
		}
	}
	c.poke()
}

// adopt fails the calls of an instance that was opened while its token is being
// confirmed.
func (c *confirming) adopt(t *Tenant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.byID[t.ID()]; one != nil && one.of(t) {
		one.join(t)
	}
}

// want has Telegram asked more often about a tenant that is in use. It returns the
// pause between two questions if nobody used it.
func (c *confirming) want(t *Tenant) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.byID[t.ID()]
	if one == nil || !one.of(t) {
		return 0
	}
	one.wanted = time.Now()
	if soon := one.asked.Add(wantedConfirm); one.place >= 0 && soon.Before(one.due) {
		one.due = soon
		heap.Fix(&c.queue, one.place)
		if one.place == 0 {
			c.poke()
		}
	}
	return one.pause
}

// block fails the tenant's calls from now on. The lock is held; the caller mends
// the queue.
func (c *confirming) block(one *confirmation, now time.Time) {
	one.blocked, one.since, one.row, one.pause, one.rejections = true, now, now, 0, 0
	for _, t := range one.instances {
		t.revoked.Store(true)
	}
	c.schedule(one, now)
}

// schedule sets the time of the next question. The lock is held; the caller mends
// the queue.
func (c *confirming) schedule(one *confirmation, now time.Time) {
	one.asked = now
	switch {
	case one.pause == 0:
		one.pause = firstConfirm
	case 2*one.pause < longConfirm:
		one.pause *= 2
	default:
		one.pause = min(max(longConfirm, now.Sub(one.since)/confirmShare), maxConfirm)
		one.pause -= rand.N(one.pause / 4) // many may have been rejected together
	}
	one.due = now.Add(one.pause)
	if now.Sub(one.wanted) < wantedFor {
		one.due = now.Add(min(one.pause, wantedConfirm))
	}
	for _, d := range []time.Duration{c.confirmFor, heldFor} { // a quarantine is not late
		if final := one.since.Add(d); one.blocked && now.Before(final) && final.Before(one.due) {
			one.due = final
		}
	}
}

func (c *confirming) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// next returns the tenant to ask about now, whose question ends with [confirming.done], or how
// long there is none. A wait of 0 is until wake.
func (c *confirming) next() (one *confirmation, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 || c.asking >= confirmers {
		return nil, 0
	}
	if wait = time.Until(c.queue[0].due); wait > 0 {
		return nil, wait
	}
	c.asking++
	return heap.Pop(&c.queue).(*confirmation), 0
}

// done ends a question. What was added instead of the tenant stays.
func (c *confirming) done(one *confirmation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking--
	if c.byID[one.tenant.ID()] == one && one.place < 0 {
		heap.Push(&c.queue, one)
	}
	c.poke()
}

// unanswered says that the answer, if there was any, was none of Telegram's, so it
// says nothing about the token.
func (c *confirming) unanswered(one *confirmation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.schedule(one, time.Now())
}

// rejected says that Telegram rejected a getMe. first is set where that has
// confirmed a 404.
func (c *confirming) rejected(one *confirmation) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if !one.blocked {
		c.block(one, now)
		return true
	}
	one.rejections++
	c.schedule(one, now)
	return false
}

// final reports whether a tenant is to be quarantined after a rejection.
func (c *confirming) final(one *confirmation) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	need := c.confirmFor
	if held, _ := c.storm(); held {
		need = max(need, heldFor)
	}
	return one.rejections >= c.confirmations && time.Since(one.row) >= min(need, minRow) && time.Since(one.since) >= need
}

// drop ends a confirmation. Where Telegram accepted the token, the tenant's calls
// are sent again; accepted reports whether they were not before.
func (c *confirming) drop(one *confirmation, ok bool) (accepted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := one.tenant.ID()
	if c.byID[id] == one {
		delete(c.byID, id)
	}
	if !ok || !one.blocked {
		return false
	}
	delete(c.recent, id)
	one.release()
	c.hurry()
	return true
}

// hurry has all others asked about now, because what rejected them may be over. Their
// rejections until now may have been part of it and no longer count. The lock is
// held.
func (c *confirming) hurry() {
	now := time.Now()
	if now.Sub(c.released) < firstConfirm {
		return // they were asked about a moment ago, or are due
	}
	c.released = now
	for _, other := range c.byID {
		other.due, other.pause = now, 0
		other.row, other.rejections = now, 0
	}
	heap.Init(&c.queue)
	c.poke()
}

// dropAll ends all confirmations. The next 401 of each tenant is judged anew.
func (c *confirming) dropAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.byID {
		one.release()
	}
	clear(c.byID)
	c.queue = nil
}

// of reports whether an instance is of the token that is being confirmed.
func (one *confirmation) of(t *Tenant) bool {
	was, is := one.tenant.Record, t.Record
	return was.Token.Equal(is.Token) && was.CreatedAt.Equal(is.CreatedAt)
}

// join adds an instance. The lock is held.
func (one *confirmation) join(t *Tenant) {
	one.instances = slices.DeleteFunc(one.instances, func(other *Tenant) bool { return other == t || other.closed.Load() })
	one.instances = append(one.instances, t)
	if one.blocked {
		t.revoked.Store(true)
	}
}

// release sends the instances' calls again. The lock is held.
func (one *confirmation) release() {
	for _, t := range one.instances {
		t.revoked.Store(false)
		t.reported.Store(false)
	}
}

// rejectsToken reports whether an error is Telegram's answer that it does not accept
// the token: a 401, or the 404 or 421 of a token that the server does not know.
func rejectsToken(err error) bool {
	return errors.Is(err, errors.Unauthorized) || rejectsForm(err)
}

// rejectsForm reports whether an error is the answer 404 "Not Found" or 421. It
// may be about the method, or a mistake of a proxy.
func rejectsForm(err error) bool {
	e, ok := errors.AsType[*errors.Error](err)
	return ok && e.Kind == errors.InvalidToken && e.Code != 0
}

// confirmationQueue is for container/heap, by due.
type confirmationQueue []*confirmation

func (q confirmationQueue) Len() int           { return len(q) }
func (q confirmationQueue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q confirmationQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push implements [heap.Interface].
func (q *confirmationQueue) Push(x any) {
	one := x.(*confirmation)
	one.place = len(*q)
	*q = append(*q, one)
}

// Pop implements [heap.Interface].
func (q *confirmationQueue) Pop() any {
	last := len(*q) - 1
	one := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	one.place = -1
	return one
}
