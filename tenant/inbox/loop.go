package inbox

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// loop is the one goroutine that talks to the inbox: it settles what handlers
// have finished, keeps the leases of those that run, takes new updates for
// those that are free, and waits. What it does in batches grows with the load.
type loop struct {
	*Workers
	ctx    context.Context // the handlers'
	waker  Waker           // nil where the inbox is none
	holder Holder          // likewise

	jobs   map[int64]*job    // by the lease's token: run, or are finished and not settled
	done   []*job            // finished, not settled
	batch  []Settlement      // room for theirs
	chats  map[chatName]*job // those of jobs
	held   map[string]int    // jobs by tenant, and what pauses count for
	pauses pauses
	// heldPressed is the same for when each tenant may have one at most.
	heldPressed map[string]int

	unwatch func() // ends the pool's telling of resumed tenants

	work chan *job // to the workers that are idle; nil ends one
	idle atomic.Int64

	// ioTimeout bounds each call of the inbox, so that one that hangs does not
	// cost the leases: after the call that keeps them has failed there is time
	// for another.
	ioTimeout time.Duration

	ioBase   context.Context // ends when Stop may wait no longer
	ioEnd    context.CancelFunc
	ioCtx    context.Context
	ioCancel context.CancelFunc
	ioMade   time.Time

	hungry   bool // there may be something to take
	pressed  bool // tenants that hold some were passed over, for few are free
	wake     <-chan struct{}
	pollAt   time.Time
	began    time.Time
	tries    []time.Time // when updates that were settled here may be tried again, ascending
	extendAt time.Time
	failing  string    // what failed last
	failures int       // of it, in a row
	retryAt  time.Time // not before, after a failure
}

// chatName names a chat of a tenant.
type chatName struct{ tenant, chat string }

func newLoop(w *Workers, ctx context.Context) *loop {
	l := &loop{
		Workers: w, ctx: ctx, jobs: make(map[int64]*job), chats: make(map[chatName]*job), held: make(map[string]int),
		heldPressed: make(map[string]int), pauses: pauses{of: make(map[string]*pause)},
		work: make(chan *job, w.cfg.Concurrency), ioCancel: func() {}, hungry: true, began: time.Now(),
	}
	l.ioTimeout = min(10*time.Second, w.cfg.LeaseTTL/4)
	l.waker, _ = w.inbox.(Waker)
	l.holder, _ = w.inbox.(Holder)
	l.ioBase, l.ioEnd = context.WithCancel(context.WithoutCancel(ctx))
	return l
}

func (l *loop) run() {
	defer close(l.ended)
	defer l.halt(nil)
	defer l.deaf()
	defer l.unpauseAll()
	defer l.bound()()
	defer func() { l.ioCancel() }()
	defer close(l.work)
	now := time.Now()
	l.pollAt, l.extendAt = now.Add(l.cfg.PollEvery), now.Add(l.cfg.LeaseTTL/3)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	drain, halted := l.drain, l.ctx.Done()
	draining := false
	for {
		select { // which of the events below is not told by what it left
		case <-drain:
			draining, drain = true, nil
		default:
		}
		if halted != nil && l.ctx.Err() != nil {
			draining, halted = true, nil
			l.retryAt = time.Time{} // what is finished is stored now or not at all
		}
		l.collect()
		l.extend(time.Now())
		if !time.Now().Before(l.retryAt) && l.settle() && !draining {
			l.lease()
		}
		if draining && len(l.jobs) == 0 || l.ioBase.Err() != nil {
			return
		}
		timer.Reset(time.Until(l.next(draining)))
		select {
		case <-l.notify:
		case <-timer.C:
		case <-l.wake:
			l.hungry, l.wake = true, nil
		case <-drain:
		case <-halted:
		case <-l.ioBase.Done():
		}
		runtime.Gosched() // what is about to finish or to come is taken along
	}
}

// bound ends the calls of the inbox once the handlers' context has been over
// for the time that Stop gives, even one that is under way. The function that
// it returns stops that and waits for it.
func (l *loop) bound() func() {
	quit, over := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(l.ctx, func() {
		defer close(over)
		timer := time.NewTimer(give)
		defer timer.Stop()
		select {
		case <-timer.C:
			l.ioEnd()
		case <-quit:
		}
	})
	return func() {
		close(quit)
		if !stop() {
			<-over
		}
		l.ioEnd()
	}
}

// next returns when to look again if nothing happens before.
func (l *loop) next(draining bool) time.Time {
	now := time.Now()
	at := now.Add(time.Hour)
	soonest := func(t time.Time) {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	if len(l.jobs) > 0 {
		soonest(l.extendAt)
	}
	switch {
	case now.Before(l.retryAt):
		soonest(l.retryAt)
	case len(l.done) > 0 || l.hungry && !draining && l.free() > 0:
		return now
	case !draining:
		soonest(l.pollAt)
		if len(l.tries) > 0 {
			soonest(l.tries[0])
		}
		soonest(l.pauses.next())
	}
	return at
}

func (l *loop) free() int { return l.cfg.Concurrency - len(l.jobs) }

// reserve is how many places are kept for tenants that hold none, so that not
// even many tenants whose handlers hang keep the others out.
func (l *loop) reserve() int { return l.cfg.Concurrency / 4 }

// collect takes over what handlers have finished.
func (l *loop) collect() {
	l.mu.Lock()
	from := len(l.done)
	l.done = append(l.done, l.finished...)
	clear(l.finished)
	l.finished = l.finished[:0]
	resumed, all := l.resumed, l.resumedAll
	l.resumed, l.resumedAll = nil, false
	l.mu.Unlock()
	for _, tenant := range resumed {
		if p := l.pauses.of[tenant]; p != nil {
			l.unpause(p)
		}
	}
	if all {
		l.unpauseAll()
	}
	for _, j := range l.done[from:] {
		j.ended = true
		if j.overdue {
			l.counts.overdue.Add(-1)
		}
	}
}

// watch tells of handlers that run past their deadline, of each once: they keep
// a place that nobody else can have.
func (l *loop) watch() {
	for _, j := range l.jobs {
		if !j.ended && !j.overdue && j.ctx.Err() == context.DeadlineExceeded {
			j.overdue = true
			l.counts.overdue.Add(1)
			l.log.Warn("handler runs past its deadline", slog.Any("update", j.Lease.Update))
		}
	}
}

// settle stores what became of finished jobs. Those whose lease is lost are
// only forgotten. It reports false where the inbox failed.
func (l *loop) settle() bool {
	if len(l.done) == 0 {
		return true
	}
	batch := l.batch[:0]
	defer func() { clear(l.batch) }() // keep no updates alive
	kept := l.done[:0]
	for _, j := range l.done {
		if j.lost {
			l.remove(j)
			l.counts.lost.Add(1)
			continue
		}
		batch = append(batch, j.Settlement)
		kept = append(kept, j)
	}
	clear(l.done[len(kept):])
	l.done, l.batch = kept, batch
	if len(batch) == 0 {
		return true
	}
	held, err := guard("settle updates", len(batch), func() ([]bool, error) { return l.inbox.Settle(l.io(), batch) })
	if l.failed("settle", err) {
		return false
	}
	now := time.Now()
	for i, j := range l.done {
		l.remove(j)
		l.count(j.Settlement.Verdict, held[i])
		if !held[i] {
			l.log.Warn("lease lost before its update was settled", slog.Any("update", j.Lease.Update))
		}
		if after := j.Settlement.After; after > 0 && held[i] {
			l.try(now.Add(after))
		}
		switch {
		case j.pause > 0:
			l.pause(j, now)
		case j.result.had && len(l.pauses.of) > 0:
			l.had(j)
		}
	}
	clear(l.done)
	l.done = l.done[:0]
	if l.waker == nil {
		l.hungry = true // nobody tells that a chat's next is ready
	}
	return true
}

// tryEvery is how close together the times are at which to look for what is
// tried again. Without it there is one for each update that failed.
const tryEvery = 10 * time.Millisecond

// try has the inbox looked into at t, or up to tryEvery later.
func (l *loop) try(t time.Time) {
	d := t.Sub(l.began)
	if over := d % tryEvery; over > 0 {
		d += tryEvery - over
	}
	t = l.began.Add(d)
	if at, found := slices.BinarySearchFunc(l.tries, t, time.Time.Compare); !found {
		l.tries = slices.Insert(l.tries, at, t)
	}
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
	delete(l.jobs, j.Lease.Token)
	if name := (chatName{j.Lease.Tenant, j.Lease.Chat}); l.chats[name] == j {
		delete(l.chats, name)
	}
	tenant := j.Lease.Tenant
	if l.pressed {
		l.hungry = true // there may be more of a tenant that was passed over
	}
	if l.held[tenant] == l.cfg.PerTenant {
		l.hungry = true // there may be more of a tenant that was at its bound
	}
	add(l.held, tenant, -1)
	add(l.heldPressed, tenant, -1)
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
	l.watch()
	jobs := make([]*job, 0, len(l.jobs))
	leases := make([]Lease, 0, len(l.jobs))
	for _, j := range l.jobs {
		if !j.lost {
			jobs = append(jobs, j)
			leases = append(leases, j.Lease)
		}
	}
	if len(jobs) == 0 {
		return
	}
	held, err := guard("extend leases", len(leases), func() ([]bool, error) { return l.inbox.Extend(l.io(), leases, l.cfg.LeaseTTL) })
	failed := err != nil
	if failed {
		l.log.Error("inbox failed", slog.String("doing", "extend leases"), slog.String("error", errors.KindOf(err).String()))
		l.extendAt = time.Now().Add(l.cfg.LeaseTTL / 10)
	}
	for i, j := range jobs {
		switch {
		case !failed && held[i]:
			j.until = now.Add(l.cfg.LeaseTTL)
		case !failed || !time.Now().Before(j.until):
			// Another worker may be at it already.
			if !j.lost {
				j.lost = true
				l.log.Warn("lease lost while its update was handled", slog.Any("update", j.Lease.Update))
				j.cancel()
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
		l.trim()
	}
	due, found := slices.BinarySearchFunc(l.tries, now, time.Time.Compare)
	if found {
		due++
	}
	if due > 0 {
		l.tries = slices.Delete(l.tries, 0, due)
		l.hungry = true
	}
	l.endPauses(now)
	for l.hungry && l.free() > 0 && l.ctx.Err() == nil {
		if l.waker != nil && l.wake == nil {
			l.wake = l.waker.Wake() // before looking, so that nothing is missed
		}
		want := Want{Limit: l.free(), TTL: l.cfg.LeaseTTL, PerTenant: l.cfg.PerTenant, Held: l.held}
		l.pressed = want.Limit <= l.reserve()
		if l.pressed {
			want.PerTenant, want.Held = 1, l.heldPressed
		} else {
			want.Limit -= l.reserve()
		}
		asked := time.Now()
		leases, err := guard("lease updates", -1, func() ([]Lease, error) { return l.inbox.Lease(l.io(), want) })
		if l.failed("lease", err) {
			return
		}
		l.hungry = len(leases) == want.Limit
		for i := range leases {
			l.begin(&leases[i], asked)
		}
	}
}

func (l *loop) begin(lease *Lease, asked time.Time) {
	until := asked.Add(l.cfg.LeaseTTL)
	l.held[lease.Tenant]++
	l.heldPressed[lease.Tenant]++
	name := chatName{lease.Tenant, lease.Chat}
	if running := l.chats[name]; running != nil && !running.ended {
		// The lease of that one has lapsed, and its handler takes no notice.
		j := &job{Settlement: Settlement{Lease: *lease, Verdict: Return, After: pauseShort}, asked: asked, until: until, cancel: func() {}, ended: true}
		l.jobs[lease.Token] = j
		l.done = append(l.done, j)
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, l.cfg.HandlerTimeout)
	j := &job{Settlement: Settlement{Lease: *lease}, asked: asked, until: until, ctx: ctx, cancel: cancel}
	l.jobs[lease.Token] = j
	l.chats[name] = j
	l.counts.running.Add(1)
	if l.idle.Load() > 0 {
		l.idle.Add(-1) // nobody else takes from it
		l.work <- j
		return
	}
	go l.worker(j)
}

// worker runs a job and then others, since a goroutine that has run one has
// the stack for the next.
func (l *loop) worker(j *job) {
	for j != nil {
		l.Workers.run(l.ctx, j)
		l.idle.Add(1) // before the loop can look for a worker
		l.finish(j)
		j = <-l.work
	}
}

// trim ends half of the workers that are idle while nothing is to do.
func (l *loop) trim() {
	if len(l.jobs) > 0 {
		return
	}
	for range (l.idle.Load() + 1) / 2 {
		l.idle.Add(-1)
		l.work <- nil
	}
}

// guard calls the inbox, and makes a panic in it, or an answer of another
// length than n, an error, so that one that is broken stops no process. n of -1
// is any length.
func guard[T any](doing string, n int, f func() ([]T, error)) (answer []T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fail(doing, "", errors.Internal, fmt.Errorf("panic of type %T in the inbox", p))
		}
	}()
	answer, err = f()
	if err == nil && n >= 0 && len(answer) != n {
		err = fail(doing, "", errors.Internal, errors.New("the inbox answered for another number of updates"))
	}
	return answer, err
}

// io is the context of calls of the inbox, which have ioTimeout, or a tenth
// less: making one for each would cost more than many a call. It outlives the
// handlers', whose results are still to be stored.
func (l *loop) io() context.Context {
	if now := time.Now(); l.ioCtx == nil || now.Sub(l.ioMade) > l.ioTimeout/10 {
		l.ioCancel()
		l.ioCtx, l.ioCancel = context.WithTimeout(l.ioBase, l.ioTimeout)
		l.ioMade = now
	}
	return l.ioCtx
}

// failed notes how Settle or Lease went, and slows both down after failures,
// until what failed works again: that the other does says nothing.
func (l *loop) failed(what string, err error) bool {
	if err == nil {
		if l.failures > 0 && l.failing == what {
			l.log.Info("inbox works again", slog.Int("failures", l.failures))
			l.failures, l.retryAt = 0, time.Time{}
		}
		return false
	}
	if l.failures++; l.failures == 1 {
		l.log.Error("inbox failed", slog.String("doing", what), slog.String("error", errors.KindOf(err).String()))
	}
	l.failing = what
	d := min(50*time.Millisecond<<min(l.failures-1, 7), 5*time.Second)
	if l.ctx.Err() != nil {
		d = min(d, 200*time.Millisecond) // little time is left
	}
	l.retryAt = time.Now().Add(d + rand.N(d/2+1))
	return true
}
