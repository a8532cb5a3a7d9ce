package polling

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// Supervisor polls many tenants' bots. Each tenant that this process has the
// lease of has a loop, which is a goroutine; all the others are an entry in a
// map. A Supervisor is safe for concurrent use.
type Supervisor struct {
	session *session.Session
	records Records
	inbox   Inbox
	cfg     Config
	log     *slog.Logger

	kick   chan struct{} // gets one when there is something for the keeper
	sync   chan struct{} // gets one when the list may be another before it is read
	missed chan struct{} // gets one when changes may have been missed
	read   chan struct{} // gets one when there are records to read
	guard  chan struct{} // gets one when a lease ends sooner than those that are watched

	// hard ends what is being finished when Stop can't wait for it.
	hard    context.Context
	hardEnd context.CancelFunc
	done    chan struct{} // closed when all goroutines have ended

	// mu guards what follows and every entry. It is held for a few dozen
	// instructions, or a few for each tenant; nothing is called, sent or
	// waited for under it.
	mu       sync.Mutex
	phase    phase
	cancel   context.CancelFunc // ends the loops
	entries  map[string]*entry
	queue    queue    // entries that want a lease, the soonest first
	releases []*entry // entries whose lease is to be given back
	loops    int      // goroutines that poll
	starting int      // entries that are in their first call
	allowed  int      // how many may be: fewer while they are held back
	renewNow bool     // a lease may be lost
	share    int      // how many of the tenants are this process's to poll; -1 is no bound
	sharers  int      // how many processes there are
	counted  int      // how many entries there were when the share was known
	distrust distrust
	watched  time.Time // no lease that is watched ends before
	stats    Stats

	holds      map[string]floor // of tenants
	sweepHolds int              // how many there may be before those that are over go

	unread  map[string]bool   // tenants that may have changed and are not polled here
	syncs   int               // how many are reading records
	touches uint64            // how often something was added or removed
	touched map[string]uint64 // which of these a tenant's last was, since the first of them began
}

// phase is where a supervisor is in its life.
type phase uint8

const (
	fresh phase = iota
	running
	stopping
)

// New returns a Supervisor that polls nobody yet. Calls go through s, tokens
// come from records, and updates go into in. The error names every bad field.
// No goroutine is started before [Supervisor.Start].
func New(s *session.Session, records Records, in Inbox, cfg Config) (*Supervisor, error) {
	cfg, err := cfg.withDefaults()
	bad := []error{err}
	if s == nil {
		bad = append(bad, errors.New("session is nil"))
	}
	if records == nil {
		bad = append(bad, errors.New("records are nil"))
	}
	if in == nil {
		bad = append(bad, errors.New("inbox is nil"))
	}
	if err := errors.Join(bad...); err != nil {
		return nil, &errors.Error{Kind: errors.Internal, Op: "configure polling", Err: err}
	}
	p := &Supervisor{
		session: s, records: records, inbox: in, cfg: cfg, log: cfg.Logger,
		kick: make(chan struct{}, 1), guard: make(chan struct{}, 1), sync: make(chan struct{}, 1),
		missed: make(chan struct{}, 1), read: make(chan struct{}, 1), done: make(chan struct{}),
		entries: make(map[string]*entry), unread: make(map[string]bool), holds: make(map[string]floor), allowed: cfg.Starting, share: -1,
	}
	p.hard, p.hardEnd = context.WithCancel(context.Background())
	return p, nil
}

// Start begins to poll, and returns at once. When ctx ends, so does the
// polling, as by Stop; Stop is to be called all the same. A supervisor starts
// once: a second Start, or one after Stop, is [errors.Closed].
func (s *Supervisor) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != fresh {
		return fail("start polling", "", errors.Closed, errors.New("supervisor was started or stopped before"))
	}
	s.phase = running
	ctx, s.cancel = context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() { s.keep(ctx) })
	all.Go(func() { s.watch() })
	if s.cfg.Tenants != nil {
		all.Go(func() { s.follow(ctx) })
	}
	if s.cfg.Watch != nil {
		all.Go(func() { s.hear(ctx) })
		all.Go(func() { s.look(ctx) })
	}
	go func() {
		all.Wait()
		s.hardEnd()
		close(s.done)
	}()
	return nil
}

// Stop ends the polling, and waits until it has ended. Calls of getUpdates are
// broken off. Updates that have come are put into the inbox; they are then
// confirmed, or left for whoever polls next. Leases are given back.
//
// When ctx ends first, what is not finished is broken off, and its updates are
// left unconfirmed: they come again. Stop then returns ctx's error. It may be
// called more than once, each call waits, and without Start.
func (s *Supervisor) Stop(ctx context.Context) error {
	s.mu.Lock()
	if s.phase == fresh {
		s.phase = stopping
		s.hardEnd()
		close(s.done)
	}
	if s.phase == running {
		s.phase = stopping
		s.cancel()
	}
	s.mu.Unlock()
	s.wake()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	s.hardEnd()
	e := &errors.Error{Kind: errors.KindOf(ctx.Err()), Op: "stop polling", Err: context.Cause(ctx)}
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-s.done:
	case <-grace.C:
		e.Err = fmt.Errorf("an inbox, store or hook ignores its context and is still running: %w", e.Err)
	}
	return e
}

// stopGrace is how long Stop waits for what it has broken off. Only what
// ignores its context needs any.
const stopGrace = 5 * time.Second

// Add polls tenants, if they are not polled already. Those that were stopped
// are started again, and those whose token Telegram rejected are tried now. It does
// not wait for anything, and needs no Start before.
func (s *Supervisor) Add(ids ...string) {
	now := time.Now()
	s.mu.Lock()
	for _, id := range ids {
		s.touch(id)
		s.add(id, now)
	}
	s.mu.Unlock()
	s.wake()
}

// touch notes that who is reading records knows an older state of a tenant. The
// lock is held.
func (s *Supervisor) touch(id string) {
	if s.syncs == 0 {
		return
	}
	if s.touched == nil {
		s.touched = make(map[string]uint64)
	}
	s.touches++
	s.touched[id] = s.touches
}

// add makes sure that a tenant is polled. The lock is held.
func (s *Supervisor) add(id string, now time.Time) *entry {
	e := s.entries[id]
	switch {
	case e == nil:
		e = &entry{id: id, wanted: true, place: -1, rank: rand.Uint32(), order: orderOf(id)}
		e.status = Status{Tenant: id, Since: now}
		s.entries[id] = e
		s.queue.put(e, now)
	case !e.wanted: // its loop is ending
		e.wanted = true
		e.status = Status{Tenant: id, Since: now}
	case e.status.State == Stopped, e.status.State == Rejected:
		s.again(e, now)
	}
	return e
}

// again has a stopped tenant, or one that fails, tried now. The lock is held.
func (s *Supervisor) again(e *entry, now time.Time) {
	switch e.busy {
	case resting:
		if e.status.State == Stopped {
			e.change(Waiting, now)
		}
		s.queue.put(e, now)
	case looping:
		e.reload = true
		if e.poke != nil {
			e.poke()
		}
	default:
		e.reload = true
	}
}

// Remove polls tenants no more. It returns when their calls have ended, what
// they brought is in the inbox, and their leases were given back. When ctx
// ends first, it returns its error, and they end all the same. Tenants that
// are not polled are no error.
func (s *Supervisor) Remove(ctx context.Context, ids ...string) error {
	s.mu.Lock()
	var ends []<-chan struct{}
	for _, id := range ids {
		s.touch(id)
		if end := s.remove(id); end != nil {
			ends = append(ends, end)
		}
	}
	s.mu.Unlock()
	s.wake()
	for _, end := range ends {
		select {
		case <-end:
		case <-ctx.Done():
			return ended("stop polling", ctx)
		}
	}
	return nil
}

// remove begins the end of a tenant. It returns what is closed then; nil where
// that is now. The lock is held.
func (s *Supervisor) remove(id string) <-chan struct{} {
	e := s.entries[id]
	if e == nil {
		return nil
	}
	e.wanted = false
	if e.busy == resting {
		s.queue.remove(e)
		delete(s.entries, id)
		return nil
	}
	if e.cancel != nil {
		e.cancel(errRemoved)
	}
	if e.end == nil {
		e.end = make(chan struct{})
	}
	return e.end
}

// Refresh has tenants' records read again, after a change that is to count at
// once: a new token, a suspension, the end of one. Those that were stopped
// are started again, and those that wait for another try are tried now, but for
// those that Telegram has told how long to wait.
func (s *Supervisor) Refresh(ids ...string) {
	now := time.Now()
	s.mu.Lock()
	for _, id := range ids {
		if e := s.entries[id]; e != nil && e.wanted {
			s.again(e, now)
		}
	}
	s.mu.Unlock()
	s.wake()
}

// HandOver gives a tenant's updates to another source, such as a webhook: it
// stops to poll the tenant, so that no update is on its way here, and then
// calls take, which sets the webhook. Where take fails, the tenant is polled
// again, and the error is take's.
//
// Other processes that have the tenant too must remove it themselves; until
// then they are refused with a 409, which loses nothing. What [Config.Tenants]
// still lists is polled again, so change that first. The way back is to delete
// the webhook, and then Add.
func (s *Supervisor) HandOver(ctx context.Context, id string, take func(context.Context) error) (err error) {
	s.mu.Lock()
	e := s.entries[id]
	polled := e != nil && e.wanted
	s.mu.Unlock()
	taken := false
	defer func() { // also when take panics
		if polled && !taken {
			s.Add(id)
		}
	}()
	if err := s.Remove(ctx, id); err != nil {
		return err
	}
	if err := take(ctx); err != nil {
		return err
	}
	taken = true
	return nil
}

// wake has the keeper look.
func (s *Supervisor) wake() { poke(s.kick) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
