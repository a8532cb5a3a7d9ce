package polling

import (
	"container/heap"
	"context"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// entry is a tenant that is to be polled, or whose polling ends. The
// supervisor's lock guards it.
type entry struct {
	id     string
	wanted bool
	busy   busy
	status Status

	// While it has no lease and wants one.
	next  time.Time // when to try
	rank  uint32    // at random, so that processes that start together don't go for the same
	place int       // in the queue, -1 while in none
	order uint32    // in which tenants are given to other processes
	// beyond says that it may be polled although the share is reached, and
	// given that it was given away and is not known to be taken.
	beyond, given bool

	// While it has a loop.
	cancel context.CancelCauseFunc // ends the loop
	poke   context.CancelFunc      // ends the present call or wait, to read the record again
	until  time.Time               // when the lease is not ours any more
	slot   bool                    // it counts as starting

	reload   bool          // the record is to be read again
	version  int64         // of the record that was read
	failures int           // of the network in a row; outlives the loop
	end      chan struct{} // closed when it rests; nil while nobody waits
}

// busy is what happens to an entry.
type busy uint8

const (
	resting   busy = iota // nothing: it is in the queue, or stopped
	acquiring             // the keeper asks for its lease
	looping               // its loop runs
	releasing             // the keeper gives its lease back
)

// Causes of a loop's end.
var (
	errRemoved = errors.New("the tenant is not to be polled any more")
	errLost    = errors.New("the lease ended or another process has it")
	errGiven   = errors.New("another process is to poll the tenant")
)

// atRest tells those who wait for it that nothing happens to the entry. The
// supervisor's lock is held.
func (e *entry) atRest() {
	if e.end != nil {
		close(e.end)
		e.end = nil
	}
}

// change sets the state. The supervisor's lock is held.
func (e *entry) change(to State, now time.Time) {
	if e.status.State != to {
		e.status.State, e.status.Since = to, now
	}
	e.status.Kind, e.status.Conflict, e.status.Reason, e.status.RetryAt = errors.None, "", "", time.Time{}
}

// queue is a heap of entries by the time of their next try.
type queue []*entry

// put adds an entry, or moves it.
func (q *queue) put(e *entry, next time.Time) {
	e.next = next
	if e.place >= 0 {
		heap.Fix(q, e.place)
		return
	}
	heap.Push(q, e)
}

func (q *queue) remove(e *entry) {
	if e.place >= 0 {
		heap.Remove(q, e.place)
	}
}

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	if !q[i].next.Equal(q[j].next) {
		return q[i].next.Before(q[j].next)
	}
	return q[i].rank < q[j].rank
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push implements [heap.Interface].
func (q *queue) Push(x any) {
	e := x.(*entry)
	e.place = len(*q)
	*q = append(*q, e)
}

// Pop implements [heap.Interface].
func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	e.place = -1
	return e
}
