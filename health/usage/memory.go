package usage

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/internal/loop"
	"github.com/tgfleet/tgfleet/health/internal/once"
)

// MemoryStore is a [Store] in this process's memory, for tests and trials. Make
// it with [NewMemoryStore].
type MemoryStore struct {
	mu      sync.Mutex // guards what follows
	tenants map[string]map[span]*Rollup
	writers once.Log
}

// span is an hour or a day.
type span struct {
	start int64
	daily bool
}

// NewMemoryStore returns an empty store.
func NewMemoryStore() *MemoryStore {
	return &MemoryStore{tenants: make(map[string]map[span]*Rollup)}
}

var _ Store = (*MemoryStore)(nil)

// Add implements [Store].
func (s *MemoryStore) Add(ctx context.Context, flush health.Flush, rollups []Rollup) error {
	const op = "add roll-ups"
	if err := ctx.Err(); err != nil {
		return loop.Ended(op, ctx)
	}
	if err := flush.Check(); err != nil {
		return err
	}
	read := make([]Rollup, len(rollups))
	for i := range rollups {
		if err := rollups[i].Check(); err != nil {
			return err
		}
		if err := reread(&rollups[i], &read[i]); err != nil {
			return &errors.Error{Kind: errors.BadRequest, Op: op, Key: rollups[i].Tenant, Err: err, Delivery: errors.NotDelivered}
		}
	}
	rollups = read
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writers.Begin(flush.Writer, flush.Seq, time.Now(), health.FlushMemory) {
		for i := range rollups {
			s.add(&rollups[i])
		}
	}
	return nil
}

// reread writes a roll-up and reads it again, as a database does, so that what
// can't be read is found in a test and not in production.
func reread(r, to *Rollup) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, to); err != nil {
		return err
	}
	to.Tenant = r.Tenant // the key, which need not be text
	return nil
}

// add is called with the lock held.
func (s *MemoryStore) add(r *Rollup) {
	spans := s.tenants[r.Tenant]
	if spans == nil {
		spans = make(map[span]*Rollup)
		s.tenants[r.Tenant] = spans
	}
	at := span{r.Start.Unix(), r.Daily}
	old := spans[at]
	if old == nil {
		old = &Rollup{Tenant: r.Tenant, Start: r.Start, Daily: r.Daily}
		spans[at] = old
	}
	old.Merge(r)
}

// Range implements [Store].
func (s *MemoryStore) Range(ctx context.Context, tenant string, from, to time.Time) ([]Rollup, error) {
	if err := ctx.Err(); err != nil {
		return nil, loop.Ended("read roll-ups", ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Rollup
	for _, r := range s.tenants[tenant] {
		if !r.Start.Before(from) && r.Start.Before(to) {
			list = append(list, r.Clone())
		}
	}
	slices.SortFunc(list, func(a, b Rollup) int { return a.Start.Compare(b.Start) })
	return list, nil
}

// Compact implements [Store].
func (s *MemoryStore) Compact(ctx context.Context, before time.Time, limit int) (int, error) {
	return s.take(ctx, "compact roll-ups", limit, func(r *Rollup) bool { return !r.Daily && r.Start.Before(before) }, func(r *Rollup) {
		day := *r
		day.Daily, day.Start = true, r.Start.Truncate(Day)
		s.add(&day)
	})
}

// Prune implements [Store].
func (s *MemoryStore) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	return s.take(ctx, "prune roll-ups", limit, func(r *Rollup) bool { return r.Daily && r.Start.Before(before) }, nil)
}

// take removes at most limit of those that match, and hands them to then.
func (s *MemoryStore) take(ctx context.Context, op string, limit int, match func(*Rollup) bool, then func(*Rollup)) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, loop.Ended(op, ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var taken []*Rollup
	for tenant, spans := range s.tenants {
		for at, r := range spans {
			if len(taken) < limit && match(r) {
				taken = append(taken, r)
				delete(spans, at)
			}
		}
		if len(spans) == 0 {
			delete(s.tenants, tenant)
		}
	}
	if then != nil {
		for _, r := range taken {
			then(r)
		}
	}
	return len(taken), nil
}

// Tenants implements [Store].
func (s *MemoryStore) Tenants(ctx context.Context, after string, limit int) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, loop.Ended("list tenants of roll-ups", ctx)
	}
	if limit <= 0 {
		limit = health.DefaultLimit
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Sorted(maps.Keys(s.tenants))
	at, found := slices.BinarySearch(all, after)
	if found {
		at++
	}
	return slices.Clone(all[at:min(at+limit, len(all))]), nil
}

// Delete implements [Store].
func (s *MemoryStore) Delete(ctx context.Context, tenant string, before time.Time) error {
	if err := ctx.Err(); err != nil {
		return loop.Ended("delete roll-ups", ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	spans := s.tenants[tenant]
	for at, r := range spans {
		if before.IsZero() || r.Start.Before(before) {
			delete(spans, at)
		}
	}
	if len(spans) == 0 {
		delete(s.tenants, tenant)
	}
	return nil
}
