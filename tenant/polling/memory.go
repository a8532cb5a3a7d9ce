package polling

import (
	"context"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// MemoryLeases are [Leases] in this process's memory: for a service that is
// one process, and for tests with several supervisors. Make them with
// [NewMemoryLeases].
type MemoryLeases struct {
	mu    sync.Mutex // guards what follows
	held  map[string]hold
	beats map[string]beat // by owner
	sweep time.Time       // when to look for what has ended
}

type hold struct {
	owner string
	until time.Time
}

type beat struct {
	want  int
	until time.Time
}

// NewMemoryLeases returns leases that nobody has.
func NewMemoryLeases() *MemoryLeases {
	return &MemoryLeases{held: make(map[string]hold), beats: make(map[string]beat)}
}

var _ Leases = (*MemoryLeases)(nil)

// Acquire implements [Leases].
func (l *MemoryLeases) Acquire(ctx context.Context, owner string, tenants []string, ttl time.Duration) ([]string, error) {
	if ctx.Err() != nil {
		return nil, ended("acquire leases", ctx)
	}
	holders := make([]string, len(tenants))
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !now.Before(l.sweep) {
		for id, h := range l.held {
			if !now.Before(h.until) {
				delete(l.held, id)
			}
		}
		l.sweep = now.Add(ttl)
	}
	for i, id := range tenants {
		if h, found := l.held[id]; !found || h.owner == owner || !now.Before(h.until) {
			l.held[id] = hold{owner, now.Add(ttl)}
		}
		holders[i] = l.held[id].owner
	}
	return holders, nil
}

// Release implements [Leases].
func (l *MemoryLeases) Release(ctx context.Context, owner string, tenants []string) error {
	if ctx.Err() != nil {
		return ended("release leases", ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range tenants {
		if l.held[id].owner == owner {
			delete(l.held, id)
		}
	}
	return nil
}

// Heartbeat implements [Leases].
func (l *MemoryLeases) Heartbeat(ctx context.Context, owner string, want int, ttl time.Duration) (map[string]int, error) {
	if ctx.Err() != nil {
		return nil, ended("tell of a process that polls", ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.beats[owner] = beat{want, now.Add(ttl)}
	wants := make(map[string]int, len(l.beats))
	for owner, b := range l.beats {
		if !now.Before(b.until) {
			delete(l.beats, owner)
			continue
		}
		wants[owner] = b.want
	}
	return wants, nil
}

// ended is the error of an operation whose context had ended.
func ended(op string, ctx context.Context) error {
	return fail(op, "", errors.KindOf(ctx.Err()), context.Cause(ctx))
}

// fail makes an error of this package. An error that has a kind already is
// returned as it is.
func fail(op, tenant string, kind errors.Kind, err error) error {
	if e, ok := errors.AsType[*errors.Error](err); ok {
		return e
	}
	return &errors.Error{Kind: kind, Op: op, Key: tenant, Delivery: errors.NotDelivered, Err: err}
}
