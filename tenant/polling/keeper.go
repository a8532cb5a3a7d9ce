package polling

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// leaseBatch is how many leases are asked for in one call.
const leaseBatch = 500

// leaseRetry is the pause after the leases could not be reached.
var leaseRetry = backoff{time.Second, 15 * time.Second}

// keeper is the goroutine that takes, extends and gives back leases, and
// starts the loops of those it got. It alone calls the leases, one call at a
// time, so that what it knows of them is never older than what they know.
type keeper struct {
	*Supervisor
	ctx      context.Context // of the loops
	loops    sync.WaitGroup
	renewAt  time.Time
	renewed  time.Time
	pause    time.Time // nothing is acquired before
	failures int       // of the leases in a row
	reached  time.Time // when the leases last answered
	alone    int       // how many leases to ask for one by one
	balance
}

// keep runs until the supervisor was stopped and every lease given back.
func (s *Supervisor) keep(ctx context.Context) {
	k := &keeper{Supervisor: s, ctx: ctx, renewAt: time.Now().Add(s.cfg.LeaseTTL / 3), reached: time.Now()}
	// The guard outlives the loops, so that none outlives its lease.
	defer s.hardEnd()
	defer k.loops.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	over := ctx.Done()
	for {
		if over != nil && ctx.Err() != nil {
			over = nil
			s.mu.Lock()
			s.phase = stopping
			s.mu.Unlock()
			k.leave()
		}
		k.release()
		k.renew()
		k.beat()
		if k.acquire() {
			continue
		}
		wait, finished := k.next()
		if finished {
			return
		}
		timer.Reset(wait)
		select {
		case <-s.kick:
		case <-timer.C:
		case <-over:
		}
	}
}

// next says how long there is nothing to do, and whether that is for ever.
func (k *keeper) next() (wait time.Duration, finished bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.phase == stopping && k.Supervisor.loops == 0 && len(k.releases) == 0 {
		return 0, true
	}
	if len(k.releases) > 0 {
		return 0, false
	}
	at := k.renewAt
	if k.phase == running {
		at = earlier(at, k.beatAt)
	}
	if k.phase == running && len(k.queue) > 0 && k.room() > 0 {
		due := k.queue[0].next
		if k.free() <= 0 {
			due = due.Add(k.late())
		}
		at = earlier(at, later(due, k.pause))
	}
	return max(time.Until(at), 0), false
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// room is how many more loops may start. The lock is held.
func (s *Supervisor) room() int {
	n := s.allowed - s.starting
	if s.cfg.MaxTenants > 0 {
		n = min(n, s.cfg.MaxTenants-s.loops)
	}
	return n
}

// call calls the leases. Once they can be reached again, the others are to hear
// of this process, and it of them.
func (k *keeper) call(f func(ctx context.Context) error) error {
	failed := k.failures > 0
	err := k.try(&k.failures, "leases can't be reached", f)
	if err == nil {
		k.reached = time.Now()
		if failed {
			k.beatAt = k.reached
		}
	}
	return err
}

// try makes a call with a bound that leaves time for the next try, and counts
// failures in a row, of which the first is logged. It does not end with the
// supervisor: leases are given back at the end.
func (k *keeper) try(failures *int, text string, f func(ctx context.Context) error) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(k.ctx), min(k.cfg.LeaseTTL/5, stopGrace-time.Second))
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = panicked("Leases", p)
		}
		if err == nil {
			*failures = 0
			return
		}
		if *failures++; *failures == 1 {
			k.log.WarnContext(ctx, text, slog.String("error", session.Redact(err.Error())))
		}
	}()
	return f(ctx)
}

// take asks for the leases of entries.
func (k *keeper) take(batch []*entry) (holders []string, until time.Time, err error) {
	ids := make([]string, len(batch))
	for i, e := range batch {
		ids[i] = e.id
	}
	// The store's ttl begins later than this. What is left out is for a call to
	// be broken off before another process makes its own.
	until = time.Now().Add(k.cfg.LeaseTTL - k.cfg.LeaseTTL/10)
	err = k.call(func(ctx context.Context) (err error) {
		holders, err = k.cfg.Leases.Acquire(ctx, k.cfg.Owner, ids, k.cfg.LeaseTTL)
		if err == nil && len(holders) != len(ids) {
			err = fail("acquire leases", "", errors.Internal, errors.New("the leases returned too few or too many holders"))
		}
		return err
	})
	return holders, until, err
}

// acquire takes one batch of leases and starts their loops. It reports whether
// there may be more to take now.
func (k *keeper) acquire() bool {
	batch := k.candidates()
	if len(batch) == 0 {
		return false
	}
	holders, until, err := k.take(batch)
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.alone > 0 {
		k.alone--
	}
	refused := errors.Is(err, errors.BadRequest)
	if refused && len(batch) > 1 {
		k.alone = len(batch) // one of them is not a name that the leases take
	}
	for i, e := range batch {
		switch {
		case refused && len(batch) == 1:
			e.change(Stopped, now)
			e.status.Kind, e.status.Reason = errors.BadRequest, brief(err)
			k.settle(e, now, now, false)
		case err != nil:
			e.change(Waiting, now)
			e.status.Kind, e.status.Reason = errors.KindOf(err), "the leases can't be reached"
			// It may have been taken; if it is wanted no more, it is given back.
			k.settle(e, now, now, !e.wanted)
		case holders[i] != k.cfg.Owner:
			k.answered(e, holders[i])
			e.change(Standby, now)
			e.status.Holder, e.status.Reason = holders[i], "another process polls it"
			k.settle(e, now, now.Add(spread(k.cfg.LeaseTTL)), false)
		case !e.wanted || k.phase != running || k.room() <= 0 || k.free() <= 0 && !e.beyond:
			e.change(Waiting, now)
			k.settle(e, now, now, true)
		default:
			k.answered(e, holders[i])
			k.start(e, until, now)
		}
	}
	if refused {
		return true
	}
	if err != nil {
		k.pause = now.Add(leaseRetry.after(k.failures))
		return false
	}
	return true
}

// candidates takes from the queue whose leases are to be asked for: as many as
// can start now, and more of those that another process had when last asked,
// since most of them it will still have.
func (k *keeper) candidates() []*entry {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	room := k.room()
	if k.phase != running || room <= 0 || now.Before(k.pause) {
		return nil
	}
	size := leaseBatch
	if k.alone > 0 {
		size, room = 1, min(room, 1)
	}
	var batch []*entry
	add := func(e *entry, beyond bool) {
		k.queue.remove(e)
		e.busy, e.beyond = acquiring, beyond
		batch = append(batch, e)
	}
	for _, e := range k.given {
		if len(batch) < size && e.given && e.place >= 0 && !e.next.After(now) && room > 0 {
			room--
			add(e, true)
		}
	}
	free := k.free()
	// One call for those to be looked at soon, rather than one for each.
	soon := now.Add(k.cfg.LeaseTTL / beatsPerTTL)
	for len(k.queue) > 0 && len(batch) < size {
		e := k.queue[0]
		due := e.next
		if free <= 0 {
			due = due.Add(k.late())
		}
		if due.After(now) && (len(batch) == 0 || e.status.State != Standby || due.After(soon)) {
			break
		}
		if e.status.State != Standby {
			if room == 0 {
				break
			}
			room--
			free--
		}
		add(e, due != e.next)
	}
	return batch
}

// settle is the end of what an entry was busy with: at once, or after its
// lease was given back. The lock is held.
func (s *Supervisor) settle(e *entry, now, next time.Time, release bool) {
	if release {
		e.busy, e.next = releasing, next
		s.releases = append(s.releases, e)
		return
	}
	e.busy = resting
	e.atRest()
	switch {
	case !e.wanted:
		delete(s.entries, e.id)
		return
	case e.reload:
		next = now
		if e.status.State == Stopped {
			e.change(Waiting, now)
		}
	case e.status.State == Stopped:
		return
	}
	e.reload = false
	s.queue.put(e, next)
}

// start begins the loop of an entry whose lease is ours. The lock is held.
func (k *keeper) start(e *entry, until, now time.Time) {
	// Who removed it while its lease was asked for, and before it was added
	// again, waits for the end of what never began.
	e.atRest()
	ctx, cancel := context.WithCancelCause(k.ctx)
	e.busy, e.until, e.cancel, e.slot = looping, until, cancel, true
	k.Supervisor.loops++
	k.starting++
	if until.Before(k.watched) {
		poke(k.guard)
	}
	e.change(Starting, now)
	e.status.Holder = k.cfg.Owner
	k.loops.Go(func() { k.poll(ctx, e) })
}

// release gives back leases of loops that have ended.
func (k *keeper) release() {
	k.mu.Lock()
	batch := k.releases
	k.releases = nil
	k.mu.Unlock()
	for len(batch) > 0 {
		part := batch[:min(len(batch), leaseBatch)]
		batch = batch[len(part):]
		ids := make([]string, len(part))
		for i, e := range part {
			ids[i] = e.id
		}
		// After an error they end by themselves.
		_ = k.call(func(ctx context.Context) error { return k.cfg.Leases.Release(ctx, k.cfg.Owner, ids) })
		now := time.Now()
		k.mu.Lock()
		for _, e := range part {
			if e.status.Holder == k.cfg.Owner {
				e.status.Holder = ""
			}
			k.settle(e, now, e.next, false)
		}
		k.mu.Unlock()
	}
}

// renew extends the leases of all loops when it is time, and when one of them
// may be lost.
func (k *keeper) renew() {
	now := time.Now()
	k.mu.Lock()
	if k.renewNow {
		k.renewNow = false
		k.renewAt = earlier(k.renewAt, k.renewed.Add(k.cfg.LeaseTTL/10))
	}
	if now.Before(k.renewAt) {
		k.mu.Unlock()
		return
	}
	k.renewed, k.renewAt = now, now.Add(k.cfg.LeaseTTL/3)
	all := make([]*entry, 0, k.Supervisor.loops)
	for _, e := range k.entries {
		if e.busy == looping {
			all = append(all, e)
		}
	}
	k.mu.Unlock()
	for len(all) > 0 {
		part := all[:min(len(all), leaseBatch)]
		all = all[len(part):]
		holders, until, err := k.take(part)
		if err != nil {
			// The guard ends those that are not extended in time.
			k.renewAt = time.Now().Add(k.cfg.LeaseTTL / 10)
			return
		}
		k.mu.Lock()
		for i, e := range part {
			if holders[i] == k.cfg.Owner {
				e.until = until
				continue
			}
			k.lose(e, holders[i])
		}
		k.mu.Unlock()
	}
}

// lose ends the loop of an entry whose lease is not ours any more. The lock is
// held.
func (s *Supervisor) lose(e *entry, holder string) {
	if e.cancel == nil || e.until.IsZero() {
		return // it ends already
	}
	e.until = time.Time{}
	e.status.Holder = holder
	s.stats.Lost++
	e.cancel(errLost)
}

// watch ends the loops whose leases could not be extended, also while the
// keeper hangs in a call. It looks at all of them when the lease that ended
// first might, which mostly was extended since; no lease ends before.
func (s *Supervisor) watch() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait := time.Hour
		s.mu.Lock()
		now := time.Now()
		for _, e := range s.entries {
			if e.busy != looping || e.until.IsZero() {
				continue
			}
			if left := e.until.Sub(now); left > 0 {
				wait = min(wait, left)
			} else {
				s.lose(e, "")
			}
		}
		s.watched = now.Add(wait)
		s.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-s.guard:
		case <-s.hard.Done():
			// After a Stop that could not wait, the loops have little left.
			return
		}
	}
}
