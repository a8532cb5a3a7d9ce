package inbox

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// Pauses of a tenant that can't be had.
const (
	pauseShort = time.Second
	pauseMost  = time.Minute
	// One that is suspended mostly stays so for long. It is asked for ever more
	// rarely, since who resumes it says so; see [Workers.Resume].
	pauseSuspended     = 30 * time.Second
	pauseSuspendedMost = 5 * time.Minute
	// pauseTrial is how long a trial may not come about before the pause is
	// forgotten: there may be nothing left to try.
	pauseTrial = 10 * time.Minute
)

// pauses are the tenants that could not be had. Each is left alone for a time.
// Then it is on trial: one update of it is tried, and when the tenant can be
// had it is as any other again. Of a thousand chats that wait one finds out.
type pauses struct {
	of   map[string]*pause
	heap pauseHeap // by until
}

type pause struct {
	tenant string
	since  time.Time     // when it could not be had
	until  time.Time     // of the pause, and then of the trial
	length time.Duration // of the longest pause yet, for suspension
	trial  bool
	at     int // its place in the heap
}

// next returns when the next pause or trial ends, zero where there is none.
func (p *pauses) next() time.Time {
	if len(p.heap) == 0 {
		return time.Time{}
	}
	return p.heap[0].until
}

// pause takes no more of a job's tenant for a while.
func (l *loop) pause(j *job, now time.Time) {
	tenant, d, grows := j.Lease.Tenant, j.pause, j.suspended
	if grows && j.resumes != l.resumes.Load() { // it may be this one that was resumed since
		d, grows = pauseShort, false
	}
	p := l.pauses.of[tenant]
	if p != nil && !p.trial {
		return // for another update that was tried at the same time
	}
	if p == nil {
		p = &pause{tenant: tenant}
		l.pauses.of[tenant] = p
		heap.Push(&l.pauses.heap, p)
	} else {
		l.bar(p, -1)
	}
	if grows {
		d = min(max(d, 2*p.length), pauseSuspendedMost)
		p.length = d
		d += rand.N(d/8 + 1) // many may have been suspended together
	}
	p.trial, p.since, p.until = false, now, now.Add(d)
	heap.Fix(&l.pauses.heap, p.at)
	l.bar(p, 1)
	if l.holder != nil {
		l.holder.Hold(p.tenant, p.until)
	}
	l.counts.paused.Store(int64(len(l.pauses.of)))
}

// endPauses puts those on trial whose pause is over.
func (l *loop) endPauses(now time.Time) {
	for len(l.pauses.heap) > 0 && !now.Before(l.pauses.heap[0].until) {
		p := l.pauses.heap[0]
		if p.trial {
			l.unpause(p)
			continue
		}
		l.bar(p, -1)
		p.trial, p.until = true, now.Add(pauseTrial)
		heap.Fix(&l.pauses.heap, p.at)
		l.bar(p, 1)
		l.hungry = true
	}
}

// unpause makes a tenant as any other.
func (l *loop) unpause(p *pause) {
	l.bar(p, -1)
	heap.Remove(&l.pauses.heap, p.at)
	delete(l.pauses.of, p.tenant)
	l.counts.paused.Store(int64(len(l.pauses.of)))
	l.hungry = true
	if l.holder != nil {
		l.holder.Hold(p.tenant, time.Time{})
	}
}

func (l *loop) unpauseAll() {
	for len(l.pauses.heap) > 0 {
		l.unpause(l.pauses.heap[len(l.pauses.heap)-1])
	}
}

// had notes that a job has had its tenant, which ends a pause that began before
// the job did.
func (l *loop) had(j *job) {
	if p := l.pauses.of[j.Lease.Tenant]; p != nil && !j.asked.Before(p.since) {
		l.unpause(p)
	}
}

// bar adds what a pause counts for, as if the tenant had so many jobs, or takes
// it away: none is left to lease in a pause, and one in a trial.
func (l *loop) bar(p *pause, sign int) {
	if p.trial {
		add(l.held, p.tenant, sign*(l.cfg.PerTenant-1))
		return
	}
	add(l.held, p.tenant, sign*l.cfg.PerTenant)
	add(l.heldPressed, p.tenant, sign)
}

// add adds to a count, and keeps none that is zero.
func add(counts map[string]int, key string, n int) {
	if n += counts[key]; n == 0 {
		delete(counts, key)
	} else {
		counts[key] = n
	}
}

// pauseHeap is for container/heap.
type pauseHeap []*pause

func (h pauseHeap) Len() int           { return len(h) }
func (h pauseHeap) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h pauseHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = i, j }

func (h *pauseHeap) Push(x any) {
	p := x.(*pause)
	p.at = len(*h)
	*h = append(*h, p)
}

func (h *pauseHeap) Pop() any {
	last := len(*h) - 1
	p := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return p
}
