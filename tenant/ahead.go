package tenant

import (
	"context"

	"github.com/tgfleet/tgfleet/errors"
)

// readAhead is the record of a tenant that will be opened in a moment.
type readAhead struct {
	record Record
	err    error
	read   bool
}

// prefetch reads the records of tenants that are about to be opened, in one
// query, or few where rows can't be read. Whatever is dropped from now on, be it
// before the answer is here, counts for nothing. The caller forgets them once
// they are open.
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
	found, failed, err := readEach(ctx, l.store, ids, maxReads)
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, a := range mine {
		if l.ahead[id] != a {
			continue // dropped
		}
		r, ok := found[id]
		switch {
		case err != nil:
			delete(l.ahead, id)
			continue
		case failed[id] != nil:
			a.err = failed[id]
		case !ok:
			a.err = fail("get tenant", id, errors.NotFound, nil)
		default:
			a.record = r
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
