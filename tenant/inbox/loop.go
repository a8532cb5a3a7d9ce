package inbox

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// loop is the one goroutine that talks to the inbox: it settles what handlers
// have finished, keeps the leases of those that run, takes new updates for
// those that are free, and waits. What it does in batches grows with the load.
type loop struct {
	*Workers
	ctx   context.Context // the handlers'
	waker Waker           // nil where the inbox is none

	jobs   map[int64]*job // by the lease's token: run, or are finished and not settled
	done   []*job         // finished, not settled
	held   map[string]int // jobs by tenant
	paused map[string]time.Time

	hungry   bool // there may be something to take
	wake     <-chan struct{}
	pollAt   time.Time
	tries    []time.Time // when updates that were settled here may be tried again, ascending
	extendAt time.Time
	failures int       // of the inbox, in a row
	retryAt  time.Time // not before, after a failure
}

// ioTimeout bounds each call of the inbox, so that one that hangs does not
// cost the leases.
const ioTimeout = 10 * time.Second

func newLoop(w *Workers, ctx context.Context) *loop {
	l := &loop{
		Workers: w, ctx: ctx, jobs: make(map[int64]*job), held: make(map[string]int), paused: make(map[string]time.Time),
		hungry: true,
	}
	l.waker, _ = w.inbox.(Waker)
	return l
}

func (l *loop) run() {
	defer close(l.ended)
	defer l.halt(nil)
	now := time.Now()
	l.pollAt, l.extendAt = now.Add(l.cfg.PollEvery), now.Add(l.cfg.LeaseTTL/3)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	drain, halted := l.drain, l.ctx.Done()
	draining, giveUp := false, time.Time{}
	for {
		select { // which of the events below is not told by what it left
		case <-drain:
			draining, drain = true, nil
		default:
		}
		if halted != nil && l.ctx.Err() != nil {
			draining, halted, giveUp = true, nil, time.Now().Add(give)
		}
		l.collect()
		if now = time.Now(); !now.Before(l.retryAt) {
			l.settle()
			l.extend(time.Now())
			if !draining {
				l.lease()
			}
		}
		if draining && len(l.jobs) == 0 || !giveUp.IsZero() && !time.Now().Before(giveUp) {
			return
		}
		timer.Reset(time.Until(l.next(draining, giveUp)))
		select {
		case <-l.notify:
		case <-timer.C:
		case <-l.wake:
			l.hungry, l.wake = true, nil
		case <-drain:
		case <-halted:
		}
	}
}

// next returns when to look again if nothing happens before.
func (l *loop) next(draining bool, giveUp time.Time) time.Time {
	now := time.Now()
	if now.Before(l.retryAt) {
		if !giveUp.IsZero() && giveUp.Before(l.retryAt) {
			return giveUp
		}
		return l.retryAt
	}
	if len(l.done) > 0 || l.hungry && !draining && l.free() > 0 {
		return now
	}
	at := now.Add(time.Hour)
	soonest := func(t time.Time) {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	soonest(giveUp)
	if len(l.jobs) > 0 {
		soonest(l.extendAt)
	}
	if !draining {
		soonest(l.pollAt)
		if len(l.tries) > 0 {
			soonest(l.tries[0])
		}
		for _, t := range l.paused {
			soonest(t)
		}
	}
	return at
}

func (l *loop) free() int { return l.cfg.Concurrency - len(l.jobs) }

// collect takes over what handlers have finished.
func (l *loop) collect() {
	l.mu.Lock()
	l.done = append(l.done, l.finished...)
	clear(l.finished)
	l.finished = l.finished[:0]
	l.mu.Unlock()
}

// settle stores what became of finished jobs. Those whose lease is lost are
// only forgotten.
func (l *loop) settle() {
	if len(l.done) == 0 {
		return
	}
	batch := make([]Settlement, 0, len(l.done))
	kept := l.done[:0]
	for _, j := range l.done {
		if j.lost {
			l.remove(j)
			l.counts.lost.Add(1)
			continue
		}
		batch = append(batch, j.settlement)
		kept = append(kept, j)
	}
	clear(l.done[len(kept):])
	l.done = kept
	if len(batch) == 0 {
		return
	}
	ctx, cancel := l.io()
	defer cancel()
	held, err := l.inbox.Settle(ctx, batch)
	if l.failed("settle", err) {
		return
	}
	now := time.Now()
	for i, j := range l.done {
		l.remove(j)
		l.count(j.settlement.Verdict, held[i])
		if !held[i] {
			l.log.Warn("lease lost before its update was settled", slog.Any("update", j.lease.Update))
		}
		if after := j.settlement.After; after > 0 && held[i] {
			t := now.Add(after)
			at, _ := slices.BinarySearchFunc(l.tries, t, time.Time.Compare)
			l.tries = slices.Insert(l.tries, at, t)
		}
		if j.pause > 0 {
			l.paused[j.lease.Tenant] = now.Add(j.pause)
		}
	}
	clear(l.done)
	l.done = l.done[:0]
	l.hungry = true
}

func (l *loop) count(v Verdict, held bool) {
	c := &l.counts
	switch {
	case !held:
		c.lost.Add(1)
	case v == Done:
		c.handled.Add(1)
	case v == Retry:
		c.retried.Add(1)
	case v == Return:
		c.returned.Add(1)
	case v == Bury:
		c.buried.Add(1)
	}
}

func (l *loop) remove(j *job) {
	delete(l.jobs, j.lease.Token)
	tenant := j.lease.Tenant
	if l.held[tenant]--; l.held[tenant] == 0 {
		delete(l.held, tenant)
	}
}

// extend keeps the leases of all jobs, when it is time, and gives those up
// that it could not keep.
func (l *loop) extend(now time.Time) {
	if now.Before(l.extendAt) || len(l.jobs) == 0 {
		if len(l.jobs) == 0 {
			l.extendAt = now.Add(l.cfg.LeaseTTL / 3)
		}
		return
	}
	l.extendAt = now.Add(l.cfg.LeaseTTL / 3)
	jobs := make([]*job, 0, len(l.jobs))
	leases := make([]Lease, 0, len(l.jobs))
	for _, j := range l.jobs {
		if !j.lost {
			jobs = append(jobs, j)
			leases = append(leases, j.lease)
		}
	}
	if len(jobs) == 0 {
		return
	}
	ctx, cancel := l.io()
	defer cancel()
	held, err := l.inbox.Extend(ctx, leases, l.cfg.LeaseTTL)
	failed := l.failed("extend leases", err)
	for i, j := range jobs {
		switch {
		case !failed && held[i]:
			j.until = now.Add(l.cfg.LeaseTTL)
		case !failed || !time.Now().Before(j.until):
			// Another worker may be at it already.
			if !j.lost {
				j.lost = true
				l.log.Warn("lease lost while its update was handled", slog.Any("update", j.lease.Update))
				j.cancel(errLost)
			}
		}
	}
}

// lease takes updates for the handlers that are free, and starts those.
func (l *loop) lease() {
	now := time.Now()
	if !now.Before(l.pollAt) {
		l.hungry = true
		l.pollAt = now.Add(l.cfg.PollEvery)
	}
	for len(l.tries) > 0 && !now.Before(l.tries[0]) {
		l.tries = slices.Delete(l.tries, 0, 1)
		l.hungry = true
	}
	for tenant, until := range l.paused {
		if !now.Before(until) {
			delete(l.paused, tenant)
			l.hungry = true
		}
	}
	for l.hungry && l.free() > 0 && l.ctx.Err() == nil {
		if l.waker != nil && l.wake == nil {
			l.wake = l.waker.Wake() // before looking, so that nothing is missed
		}
		want := Want{Limit: l.free(), TTL: l.cfg.LeaseTTL, PerTenant: l.cfg.PerTenant, Held: l.held}
		if len(l.paused) > 0 {
			want.Held = maps.Clone(l.held)
			for tenant := range l.paused {
				want.Held[tenant] = l.cfg.PerTenant
			}
		}
		asked := time.Now()
		ctx, cancel := l.io()
		leases, err := l.inbox.Lease(ctx, want)
		cancel()
		if l.failed("lease", err) {
			return
		}
		l.hungry = len(leases) == want.Limit
		for i := range leases {
			l.begin(leases[i], asked.Add(l.cfg.LeaseTTL))
		}
	}
}

func (l *loop) begin(lease Lease, until time.Time) {
	ctx, cancel := context.WithCancelCause(l.ctx)
	j := &job{lease: lease, until: until, cancel: cancel}
	l.jobs[lease.Token] = j
	l.held[lease.Tenant]++
	l.counts.running.Add(1)
	go l.Workers.run(ctx, j)
}

// io is the context of a call of the inbox. It outlives the handlers', whose
// results are still to be stored.
func (l *loop) io() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(l.ctx), ioTimeout)
}

// failed notes how a call of the inbox went, and slows down after failures.
func (l *loop) failed(what string, err error) bool {
	if err == nil {
		if l.failures > 0 {
			l.log.Info("inbox works again", slog.Int("failures", l.failures))
		}
		l.failures, l.retryAt = 0, time.Time{}
		return false
	}
	if l.failures++; l.failures == 1 {
		l.log.Error("inbox failed", slog.String("doing", what), slog.String("error", errors.KindOf(err).String()))
	}
	d := min(50*time.Millisecond<<min(l.failures-1, 7), 5*time.Second)
	l.retryAt = time.Now().Add(d + rand.N(d/2+1))
	return true
}
