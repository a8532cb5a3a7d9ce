package health

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health/internal/loop"
	"github.com/tgfleet/tgfleet/health/internal/once"
)

// MemoryStore is a [Store] in this process's memory, for tests. Make it with
// [NewMemoryStore].
type MemoryStore struct {
	mu      sync.Mutex // guards what follows
	byID    map[string]Snapshot
	ids     []string // sorted; nil when it has to be made again
	writers once.Log
}

// NewMemoryStore returns an empty store.
func NewMemoryStore() *MemoryStore { return &MemoryStore{byID: make(map[string]Snapshot)} }

var _ Store = (*MemoryStore)(nil)

// Merge implements [Store].
func (s *MemoryStore) Merge(ctx context.Context, flush Flush, snapshots []Snapshot) error {
	const op = "merge health snapshots"
	if err := ctx.Err(); err != nil {
		return loop.Ended(op, ctx)
	}
	if err := flush.Check(); err != nil {
		return err
	}
	for _, snap := range snapshots {
		if snap.Tenant == "" {
			return &errors.Error{Kind: errors.BadRequest, Op: op, Err: errors.New("tenant is empty"), Delivery: errors.NotDelivered}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.writers.Begin(flush.Writer, flush.Seq, time.Now(), FlushMemory) {
		return nil
	}
	for _, snap := range snapshots {
		old, found := s.byID[snap.Tenant]
		if !found {
			s.ids = nil
		}
		old.Merge(snap)
		s.byID[snap.Tenant] = old
	}
	return nil
}

// Load implements [Store].
func (s *MemoryStore) Load(ctx context.Context, after string, limit int) ([]Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, loop.Ended("load health snapshots", ctx)
	}
	if limit <= 0 {
		limit = DefaultLimit
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids == nil {
		s.ids = slices.Sorted(maps.Keys(s.byID))
	}
	at, found := slices.BinarySearch(s.ids, after)
	if found {
		at++
	}
	var page []Snapshot
	for _, id := range s.ids[at:min(at+limit, len(s.ids))] {
		page = append(page, s.byID[id].Clone())
	}
	return page, nil
}

// Delete implements [Store].
func (s *MemoryStore) Delete(ctx context.Context, tenant string, before time.Time) error {
	if err := ctx.Err(); err != nil {
		return loop.Ended("delete health snapshot", ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if snap, found := s.byID[tenant]; found && (before.IsZero() || snap.Latest().Before(before)) {
		delete(s.byID, tenant)
		s.ids = nil
	}
	return nil
}
