package tenant

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// loader reads records for opens. While one query is under way the ids that
// are asked for gather, and the next query reads them all: a fleet that wakes
// up asks a few dozen times and not ten thousand, and a single open waits for
// nothing.
//
// What it reads was stored after the open asked for it, so an eviction
// meanwhile finds the open and undoes it. The exception is what [Pool.Warm]
// reads ahead, which every eviction is told to drop.
type loader struct {
	store Store

	mu      sync.Mutex // guards what follows
	ahead   map[string]*readAhead
	queue   []*wanted
	queries int       // under way
	since   time.Time // when the latest began
	wg      sync.WaitGroup
}

// wanted is one open that waits for its record.
type wanted struct {
	id     string
	done   chan struct{}
	record Record
	err    error
	batch  *batch // once it is in one
	gone   bool   // it waits no more
}

// batch is one query.
type batch struct {
	waiting int // guarded by the loader's lock
	cancel  context.CancelFunc
}

const (
	// maxBatch bounds the ids of one query.
	maxBatch = 1000
	// maxQueries bounds the queries at a time. More than one only runs when
	// the first hangs, since more queries are smaller ones.
	maxQueries = 4
	hangs      = 100 * time.Millisecond
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
	l.queue = append(l.queue, w)
	if l.queries == 0 || l.queries < maxQueries && time.Since(l.since) > hangs {
		l.queries++
		l.since = time.Now()
		l.wg.Go(l.run)
	}
	l.mu.Unlock()
	select {
	case <-w.done:
		return w.record, w.err
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	w.gone = true
	if w.batch != nil {
		if w.batch.waiting--; w.batch.waiting == 0 {
			w.batch.cancel()
		}
	}
	return Record{}, ended(ctx, "get tenant", id)
}

// run reads until nobody waits.
func (l *loader) run() {
	ended := false
	defer func() {
		if ended {
			return
		}
		// A Goexit in the store took this goroutine. Another goes on.
		l.mu.Lock()
		defer l.mu.Unlock()
		l.wg.Go(l.run)
	}()
	for {
		ctx, cancel := context.WithCancel(context.Background())
		batch := &batch{cancel: cancel}
		var all []*wanted
		l.mu.Lock()
		for len(l.queue) > 0 && len(all) < maxBatch {
			w := l.queue[0]
			l.queue[0] = nil
			l.queue = l.queue[1:]
			if !w.gone {
				w.batch = batch
				all = append(all, w)
			}
		}
		batch.waiting = len(all)
		if len(all) == 0 {
			l.queries--
			l.queue = nil // with the array that those who have left keep
			l.mu.Unlock()
			cancel()
			ended = true
			return
		}
		l.since = time.Now()
		l.mu.Unlock()
		l.read(ctx, all)
		cancel()
	}
}

// read answers those of a batch.
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
			close(w.done)
		}
	}()
	var found map[string]Record
	var err error
	if len(all) == 1 {
		var r Record
		if r, err = l.store.Get(ctx, all[0].id); err == nil {
			found = map[string]Record{all[0].id: r}
		}
	} else {
		ids := make([]string, len(all))
		for i, w := range all {
			ids[i] = w.id
		}
		found, err = l.store.GetMany(ctx, ids)
	}
	answered = true
	for _, w := range all {
		r, ok := found[w.id]
		switch {
		case err != nil:
			w.err = err
		case !ok:
			w.err = fail("get tenant", w.id, errors.NotFound, nil)
		default:
			w.record = r
		}
		close(w.done)
	}
}

// readAhead is the record of a tenant that will be opened in a moment.
type readAhead struct {
	record Record
	err    error
	read   bool
}

// prefetch reads the records of tenants that are about to be opened, in one
// query. Whatever is dropped from now on, be it before the answer is here,
// counts for nothing. The caller forgets them once they are open.
func (l *loader) prefetch(ctx context.Context, ids []string) error {
	l.mu.Lock()
	if l.ahead == nil {
		l.ahead = make(map[string]*readAhead)
	}
	mine := make(map[string]*readAhead, len(ids))
	for _, id := range ids {
		mine[id] = &readAhead{}
		l.ahead[id] = mine[id]
	}
	l.mu.Unlock()
	found, err := l.store.GetMany(ctx, ids)
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, a := range mine {
		if l.ahead[id] != a {
			continue // dropped
		}
		if err != nil {
			delete(l.ahead, id)
			continue
		}
		var ok bool
		if a.record, ok = found[id]; !ok {
			a.err = fail("get tenant", id, errors.NotFound, nil)
		}
		a.read = true
	}
	return err
}

// drop forgets what was read ahead of tenants.
func (l *loader) drop(ids ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		delete(l.ahead, id)
	}
}

// dropAll forgets all that was read ahead.
func (l *loader) dropAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.ahead)
}

// wait waits for what is under way, which ends since nobody waits for it.
func (l *loader) wait() { l.wg.Wait() }
