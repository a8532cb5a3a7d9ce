package tenant

import (
	"context"
	"slices"
	"sync"

	"github.com/tgfleet/tgfleet/errors"
)

// MemoryStore is a [Store] in this process's memory: for tests, and for
// services that get their tenants from elsewhere at each start. Make it with
// [NewMemoryStore].
type MemoryStore struct {
	mu    sync.RWMutex // guards what follows
	byID  map[string]Record
	byBot map[int64]string
	ids   []string // sorted
}

// NewMemoryStore returns an empty store.
func NewMemoryStore() *MemoryStore {
	return &MemoryStore{byID: make(map[string]Record), byBot: make(map[int64]string)}
}

var _ Store = (*MemoryStore)(nil)

// Get implements [Store].
func (s *MemoryStore) Get(ctx context.Context, id string) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, ended("get tenant", id, ctx)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.byID[id]
	if !ok {
		return Record{}, fail("get tenant", id, errors.NotFound, nil)
	}
	return r.Clone(), nil
}

// ByBot implements [Store].
func (s *MemoryStore) ByBot(ctx context.Context, botID int64) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, ended("get tenant by bot", "", ctx)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	id, ok := s.byBot[botID]
	if !ok {
		return Record{}, fail("get tenant by bot", "", errors.NotFound, nil)
	}
	return s.byID[id].Clone(), nil
}

// Put implements [Store].
func (s *MemoryStore) Put(ctx context.Context, r Record) (Record, error) {
	const op = "put tenant"
	if err := ctx.Err(); err != nil {
		return Record{}, ended(op, r.ID, ctx)
	}
	if err := r.Validate(); err != nil {
		return Record{}, err
	}
	r = r.Clone()
	s.mu.Lock()
	defer s.mu.Unlock()
	old, found := s.byID[r.ID]
	switch {
	case found && r.Version == 0:
		return Record{}, fail(op, r.ID, errors.Exists, nil)
	case !found && r.Version != 0:
		return Record{}, fail(op, r.ID, errors.NotFound, nil)
	case found && old.Version != r.Version:
		return Record{}, fail(op, r.ID, errors.Stale, nil)
	}
	if owner, taken := s.byBot[r.BotID]; taken && owner != r.ID {
		return Record{}, fail(op, r.ID, errors.TokenTaken, nil)
	}
	r.Version++
	if found {
		delete(s.byBot, old.BotID)
	} else {
		at, _ := slices.BinarySearch(s.ids, r.ID)
		s.ids = slices.Insert(s.ids, at, r.ID)
	}
	s.byID[r.ID] = r
	s.byBot[r.BotID] = r.ID
	return r.Clone(), nil
}

// Delete implements [Store].
func (s *MemoryStore) Delete(ctx context.Context, id string, version int64) error {
	const op = "delete tenant"
	if err := ctx.Err(); err != nil {
		return ended(op, id, ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, found := s.byID[id]
	switch {
	case !found:
		return fail(op, id, errors.NotFound, nil)
	case r.Version != version:
		return fail(op, id, errors.Stale, nil)
	}
	delete(s.byID, id)
	delete(s.byBot, r.BotID)
	at, _ := slices.BinarySearch(s.ids, id)
	s.ids = slices.Delete(s.ids, at, at+1)
	return nil
}

// List implements [Store].
func (s *MemoryStore) List(ctx context.Context, f Filter) ([]Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, ended("list tenants", "", ctx)
	}
	if f.Limit <= 0 {
		f.Limit = DefaultLimit
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	at, found := slices.BinarySearch(s.ids, f.After)
	if found {
		at++
	}
	var page []Record
	for _, id := range s.ids[at:] {
		if r := s.byID[id]; len(f.Status) == 0 || slices.Contains(f.Status, r.Status) {
			page = append(page, r.Clone())
		}
		if len(page) == f.Limit {
			break
		}
	}
	return page, nil
}

// ended is the error of an operation whose context had ended.
func ended(op, id string, ctx context.Context) error {
	return fail(op, id, errors.KindOf(ctx.Err()), context.Cause(ctx))
}
