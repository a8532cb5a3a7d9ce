package breaker

import (
	"context"
	"sync/atomic"
)

// Permit is the leave to make one call. End it with [Permit.Done] when the
// call has ended, or with [Permit.Cancel] if it was not made. The first of
// these counts and all others do nothing, from whatever goroutine and on
// whatever copy. So it is well to defer Cancel, for a panic, and then call
// Done.
//
// A permit that is never ended costs no memory, and a half-open breaker gives
// its place to another call after a while. Until the state changes it counts
// as a call under way, and so as a slow one where [Config].SlowAfter is set.
//
// The zero Permit is no permit, and its methods do nothing. Calls that are not
// recorded get it too.
type Permit struct {
	b *Breaker
	t *ticket
	// turn is the ticket's turn that this permit is for. Tickets are used
	// again, so a permit that was ended must not end the next call's.
	turn uint64
}

// ticket is what is known of a call under way. Tickets come from a pool, so
// that a permit costs no allocation. All but turn is guarded by the breaker's
// lock while the call is under way.
type ticket struct {
	turn  atomic.Uint64
	gen   uint64
	start int64 // by the breaker's clock; 0 while nothing is measured
	epoch int64 // that overdue counts it by, while closed and measured
	// slot and until say which probe this is; slot is -1 if it is none.
	slot  int
	until int64
}

// take makes a permit for the present generation. The lock is held.
func (b *Breaker) take(start, epoch int64, slot int, until int64) Permit {
	t := b.cfg.tickets.Get().(*ticket)
	t.gen, t.start, t.epoch, t.slot, t.until = b.gen, start, epoch, slot, until
	b.inFlight++
	b.admitted++
	return Permit{b: b, t: t, turn: t.turn.Load()}
}

// claim reports whether the permit was not ended before, and ends it. Exactly
// one of all callers with a copy gets true.
func (p Permit) claim() bool { return p.t != nil && p.t.turn.CompareAndSwap(p.turn, p.turn+1) }

// Done ends the permit with the call's result, which [Config].Classify judges.
// ctx is the context that the caller made the call with. A result that comes
// after the state has changed counts for nothing: the call was let in under
// other circumstances.
func (p Permit) Done(ctx context.Context, err error) {
	if !p.claim() {
		return
	}
	r := result{verdict: Ignore, made: true}
	defer func() { p.finish(r) }() // if Classify panics, too
	r.verdict = p.b.cfg.Classify(ctx, err)
	if r.verdict == Failure && p.b.cfg.RetryAfter != nil {
		r.wait = min(max(p.b.cfg.RetryAfter(err), 0), maxSpan)
	}
}

// Cancel ends the permit of a call that was not made. It counts for nothing.
func (p Permit) Cancel() {
	if p.claim() {
		p.finish(result{verdict: Ignore})
	}
}

// Pause stops the clock that [Config].SlowAfter looks at, and [Permit.Resume]
// starts it from zero: while a call waits here, such as for a rate limit, the
// callee is not slow.
func (p Permit) Pause() { p.clock(false) }

// Resume starts the clock from zero; see [Permit.Pause].
func (p Permit) Resume() { p.clock(true) }

func (p Permit) clock(run bool) {
	if p.t == nil || p.b.cfg.SlowAfter == 0 {
		return
	}
	b := p.b
	b.mu.Lock()
	defer b.unlock()
	// While the lock is held and the turn is ours, the ticket is too: who ends
	// it meanwhile waits for the lock before letting go of it.
	if p.t.turn.Load() == p.turn && p.t.gen == b.gen {
		b.reclock(p.t, run)
	}
}

// run makes a call.
func (p Permit) run(ctx context.Context, fn func(context.Context) error) error {
	returned := false
	defer func() {
		// A panic or runtime.Goexit goes on as it came. What broke off has not
		// shown that it works, so it is no success, and a probe's place is free.
		if !returned && p.claim() {
			p.finish(result{verdict: Failure, made: true})
		}
	}()
	err := fn(ctx)
	returned = true
	p.Done(ctx, err)
	return err
}

// finish records a result. The permit was claimed.
func (p Permit) finish(r result) {
	b := p.b
	b.mu.Lock()
	if p.t.gen == b.gen {
		b.record(p.t, r)
	}
	due := b.release()
	b.cfg.tickets.Put(p.t)
	if due {
		b.tell()
	}
}
