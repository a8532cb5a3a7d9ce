package tenant

import (
	"context"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// MemoryStore is a [Store] in this process's memory: for tests, and for
// services that get their tenants from elsewhere at each start. It keeps the
// latest 50,000 entries of the log, or up to twice as many. Make it with
// [NewMemoryStore].
type MemoryStore struct {
	mu       sync.RWMutex // guards what follows
	byID     map[string]Record
	byBot    map[int64]string
	ids      []string // sorted
	log      []Entry
	lastSeq  int64
	retired  int64 // the highest version of a record that was removed
	watchers map[*memoryWatch]struct{}
}

// NewMemoryStore returns an empty store.
func NewMemoryStore() *MemoryStore {
	return &MemoryStore{
		byID:     make(map[string]Record),
		byBot:    make(map[int64]string),
		watchers: make(map[*memoryWatch]struct{}),
	}
}

var _ Store = (*MemoryStore)(nil)

// Get implements [Store].
func (s *MemoryStore) Get(ctx context.Context, id string) (Record, error) {
	if ctx.Err() != nil {
		return Record{}, ended(ctx, "get tenant", id)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.byID[id]
	if !ok {
		return Record{}, fail("get tenant", id, errors.NotFound, nil)
	}
	return r.Clone(), nil
}

// GetMany implements [Store].
func (s *MemoryStore) GetMany(ctx context.Context, ids []string) (map[string]Record, error) {
	if ctx.Err() != nil {
		return nil, ended(ctx, "get tenants", "")
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	found := make(map[string]Record, len(ids))
	for _, id := range ids {
		if r, ok := s.byID[id]; ok {
			found[id] = r.Clone()
		}
	}
	return found, nil
}

// ByBot implements [Store].
func (s *MemoryStore) ByBot(ctx context.Context, botID int64) (Record, error) {
	if ctx.Err() != nil {
		return Record{}, ended(ctx, "get tenant by bot", "")
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	id, ok := s.byBot[botID]
	if !ok {
		return Record{}, fail("get tenant by bot", "", errors.NotFound, nil)
	}
	return s.byID[id].Clone(), nil
}

// List implements [Store].
func (s *MemoryStore) List(ctx context.Context, f Filter) ([]Record, error) {
	if ctx.Err() != nil {
		return nil, ended(ctx, "list tenants", "")
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
		r := s.byID[id]
		if (len(f.Status) == 0 || slices.Contains(f.Status, r.Status)) &&
			(len(f.Health) == 0 || slices.Contains(f.Health, r.Health)) {
			page = append(page, r.Clone())
		}
		if len(page) == f.Limit {
			break
		}
	}
	return page, nil
}

// Put implements [Store].
func (s *MemoryStore) Put(ctx context.Context, r Record, log ...Entry) (Record, error) {
	const op = "put tenant"
	if ctx.Err() != nil {
		return Record{}, ended(ctx, op, r.ID)
	}
	if err := validate(r, log); err != nil {
		return Record{}, err
	}
	r = r.Normal()
	s.mu.Lock()
	defer s.mu.Unlock()
	old, found := s.byID[r.ID]
	if err := versionFits(op, r.ID, found, old.Version, r.Version); err != nil {
		return Record{}, err
	}
	if r.TokenErr != nil {
		r.Token, r.BotID, r.TokenErr = old.Token, old.BotID, nil
	}
	if owner, taken := s.byBot[r.BotID]; taken && owner != r.ID {
		return Record{}, fail(op, r.ID, errors.TokenTaken, nil)
	}
	if !found {
		r.Version = s.retired
	}
	r.Version++
	r.Health = old.Health
	if found {
		delete(s.byBot, old.BotID)
	} else {
		at, _ := slices.BinarySearch(s.ids, r.ID)
		s.ids = slices.Insert(s.ids, at, r.ID)
	}
	s.byID[r.ID] = r
	s.byBot[r.BotID] = r.ID
	s.append(r, log)
	s.tell(Change{ID: r.ID, Version: r.Version, Status: r.Status})
	return r.Clone(), nil
}

// Delete implements [Store].
func (s *MemoryStore) Delete(ctx context.Context, id string, version int64, log ...Entry) error {
	const op = "delete tenant"
	if ctx.Err() != nil {
		return ended(ctx, op, id)
	}
	for _, e := range log {
		if err := e.Validate(); err != nil {
			return err
		}
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
	s.retired = max(s.retired, r.Version)
	delete(s.byID, id)
	delete(s.byBot, r.BotID)
	at, _ := slices.BinarySearch(s.ids, id)
	s.ids = slices.Delete(s.ids, at, at+1)
	s.append(r, log)
	s.tell(Change{ID: id})
	return nil
}

// SetHealth implements [Store].
func (s *MemoryStore) SetHealth(ctx context.Context, health map[string]string) error {
	const op = "set health"
	if ctx.Err() != nil {
		return ended(ctx, op, "")
	}
	for id, h := range health {
		if !storable(h) {
			return fail(op, id, errors.BadRequest, errors.New("health is not UTF-8 or has a NUL"))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, h := range health {
		if r, ok := s.byID[id]; ok {
			r.Health = h
			s.byID[id] = r
		}
	}
	return nil
}

// Log implements [Store].
func (s *MemoryStore) Log(ctx context.Context, f LogFilter) ([]Entry, error) {
	if ctx.Err() != nil {
		return nil, ended(ctx, "read log", "")
	}
	if f.Limit <= 0 {
		f.Limit = DefaultLimit
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	at := sort.Search(len(s.log), func(i int) bool { return s.log[i].Seq > f.After })
	var page []Entry
	for _, e := range s.log[at:] {
		if f.Tenant == "" || e.Tenant == f.Tenant {
			page = append(page, e)
		}
		if len(page) == f.Limit {
			break
		}
	}
	return page, nil
}

// maxLog is how many entries of the log are kept at least.
const maxLog = 50_000

// append adds to the log. The lock is held.
func (s *MemoryStore) append(r Record, log []Entry) {
	for _, e := range log {
		s.lastSeq++
		e.Seq, e.Tenant, e.BotID, e.Version = s.lastSeq, r.ID, r.BotID, r.Version
		e.Time = e.Time.UTC().Truncate(time.Microsecond)
		s.log = append(s.log, e)
	}
	if len(s.log) >= 2*maxLog {
		s.log = slices.Clone(s.log[len(s.log)-maxLog:])
	}
}

// validate checks what is to be put.
func validate(r Record, log []Entry) error {
	if err := r.Validate(); err != nil {
		return err
	}
	for _, e := range log {
		if err := e.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// versionFits reports a Put of a version that is not the stored one's.
func versionFits(op, id string, found bool, stored, given int64) error {
	switch {
	case found && given == 0:
		return fail(op, id, errors.Exists, nil)
	case !found && given != 0:
		return fail(op, id, errors.NotFound, nil)
	case found && stored != given:
		return fail(op, id, errors.Stale, nil)
	}
	return nil
}

// ended is the error of an operation whose context had ended.
func ended(ctx context.Context, op, id string) error {
	return fail(op, id, errors.KindOf(ctx.Err()), context.Cause(ctx))
}
