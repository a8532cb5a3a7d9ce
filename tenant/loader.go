package tenant

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// loader reads records for opens. An open that comes alone is read at once.
// Where they come together their ids gather, and one query reads them all: a
// fleet that wakes up asks a few dozen times and not ten thousand. A row that
// can't be read fails the open of its tenant and of nobody else; see [readEach].
//
// What it reads was stored after the open asked for it, so an eviction
// meanwhile finds the open and undoes it. The exception is what [Pool.Warm]
// reads ahead, which every eviction is told to drop.
type loader struct {
	store Store

	mu      sync.Mutex // guards what follows
	ahead   map[string]*readAhead
	queue   []*wanted
	oldest  time.Time // when the first in the queue came
	newest  time.Time // when the last did
	crowded time.Time // when one last came who was not alone
	queries []*query  // under way
	timer   *time.Timer
	at      time.Time     // when the timer is due
	busy    int           // goroutines: queries, and timers that were set
	closed  chan struct{} // closed when busy is 0; nil until somebody waits
}

// wanted is one open that waits for its record.
type wanted struct {
	id     string
	done   chan struct{}
	record Record
	err    error
	query  *query // once it is in one
	gone   bool   // it waits no more
}

// query is one query that is under way. The loader's lock guards it.
type query struct {
	began   time.Time
	waiting int
	cancel  context.CancelFunc
}

const (
	// maxBatch bounds the ids of one query.
	maxBatch = 1000
	// maxQueries bounds the queries at a time. More than one only runs when
	// the others hang, since more queries are smaller ones.
	maxQueries = 4
	// hangs is how long a query may take before the next one does not wait for
	// it. What it was asked for waits as long as its opens do.
	hangs = 100 * time.Millisecond

	// Opens come together, in a crowd, until there was none for calm that did
	// not come alone. In a crowd a query is put off until nobody has come for
	// quiet, but for no longer than patience: both are little beside a
	// handshake with Telegram, and enough for a hundred opens that come one
	// after another.
	calm     = 10 * time.Millisecond
	quiet    = time.Millisecond
	patience = 25 * time.Millisecond
)

// load returns a tenant's record as [Store].Get does.
func (l *loader) load(ctx context.Context, id string) (Record, error) {
	w := &wanted{id: id, done: make(chan struct{})}
	l.mu.Lock()
	if a := l.ahead[id]; a != nil && a.read {
		delete(l.ahead, id)
		l.mu.Unlock()
		return a.record, a.err
	}
	l.enqueue(w)
	l.mu.Unlock()
	select {
	case <-w.done:
		return w.record, w.err
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	w.gone = true
	if q := w.query; q != nil {
		if q.waiting--; q.waiting == 0 {
			q.cancel()
		}
	}
	return Record{}, ended(ctx, "get tenant", id)
}

// enqueue adds to the queue. The lock is held.
func (l *loader) enqueue(w *wanted) {
	now := time.Now()
	if len(l.queue) == 0 {
		l.oldest = now
	}
	if len(l.queue) > 0 || slices.ContainsFunc(l.queries, func(q *query) bool { return now.Sub(q.began) < hangs }) {
		l.crowded = now
	}
	l.newest = now
	l.queue = append(l.queue, w)
	if now.Sub(l.crowded) < calm {
		l.next(now)
		return
	}
	// It seems to be alone. But where the processors are busy others may be
	// about to come, and a store that is quick would answer each before the
	// next one gets to run. They get their turn first; where there is nobody,
	// this takes no time.
	l.busy++
	go func() {
		runtime.Gosched()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.next(time.Now())
		l.left()
	}()
}

// next begins the next query, or has the timer begin it when its time comes.
// It is called whenever that may have changed. The lock is held.
func (l *loader) next(now time.Time) {
	if len(l.queue) == 0 || len(l.queries) == maxQueries {
		l.unset()
		return
	}
	at := now
	if len(l.queue) < maxBatch && now.Sub(l.crowded) < calm {
		if at = l.newest.Add(quiet); at.After(l.oldest.Add(patience)) {
			at = l.oldest.Add(patience)
		}
	}
	for _, q := range l.queries {
		if late := q.began.Add(hangs); late.After(at) {
			at = late
		}
	}
	if at.After(now) {
		l.set(now, at)
		return
	}
	l.unset()
	l.begin(now)
	if len(l.queue) > 0 {
		l.next(now)
	}
}

// set has next called at a time, or before. The lock is held.
func (l *loader) set(now, at time.Time) {
	if l.timer != nil && !l.at.After(at) {
		return // it looks again then
	}
	l.unset()
	var timer *time.Timer
	timer = time.AfterFunc(at.Sub(now), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.timer == timer {
			l.timer = nil
			l.next(time.Now())
		}
		l.left()
	})
	l.timer, l.at = timer, at
	l.busy++
}

// unset stops the timer. The lock is held.
func (l *loader) unset() {
	if l.timer != nil && l.timer.Stop() {
		l.left()
	}
	l.timer = nil
}

// left is called at the end of what busy counts. The lock is held.
func (l *loader) left() {
	if l.busy--; l.busy == 0 && l.closed != nil {
		close(l.closed)
		l.closed = nil
	}
}

// begin reads those who have waited longest. The lock is held.
func (l *loader) begin(now time.Time) {
	ctx, cancel := context.WithCancel(context.Background())
	q := &query{began: now, cancel: cancel}
	n := min(len(l.queue), maxBatch)
	all := make([]*wanted, 0, n)
	for i, w := range l.queue[:n] {
		l.queue[i] = nil
		if !w.gone {
			w.query = q
			all = append(all, w)
		}
	}
	if l.queue = l.queue[n:]; len(l.queue) == 0 {
		l.queue = nil // with the array that those who have left keep
	}
	if q.waiting = len(all); q.waiting == 0 {
		cancel()
		return
	}
	l.queries = append(l.queries, q)
	l.busy++
	go func() {
		defer func() { // also after a Goexit in the store
			cancel()
			l.mu.Lock()
			defer l.mu.Unlock()
			l.queries = slices.DeleteFunc(l.queries, func(other *query) bool { return other == q })
			// Not before: whoever asks for the next one is alone.
			for _, w := range all {
				close(w.done)
			}
			l.next(time.Now())
			l.left()
		}()
		l.read(ctx, all)
	}()
}

// read reads the records of those of a query.
func (l *loader) read(ctx context.Context, all []*wanted) {
	answered := false
	defer func() {
		if answered {
			return
		}
		// Nobody may wait for ever.
		problem := "runtime.Goexit was called in the store"
		if p := recover(); p != nil {
			problem = session.Redact(fmt.Sprintf("panic in the store: %v", p))
		}
		for _, w := range all {
			w.err = fail("get tenant", w.id, errors.Internal, errors.New(problem))
		}
	}()
	ids := make([]string, len(all))
	for i, w := range all {
		ids[i] = w.id
	}
	found, failed, _ := readEach(ctx, l.store, ids, maxReads)
	answered = true
	for _, w := range all {
		r, ok := found[w.id]
		switch {
		case failed[w.id] != nil:
			w.err = failed[w.id]
		case !ok:
			w.err = fail("get tenant", w.id, errors.NotFound, nil)
		default:
			w.record = r
		}
	}
}

// wait waits for what is under way, which ends since nobody waits for it. It
// returns ctx's cause where the store does not obey.
func (l *loader) wait(ctx context.Context) error {
	l.mu.Lock()
	if l.busy == 0 {
		l.mu.Unlock()
		return nil
	}
	if l.closed == nil {
		l.closed = make(chan struct{})
	}
	closed := l.closed
	l.mu.Unlock()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
