package ownership

import (
	"bytes"
	"context"
	"crypto/subtle"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// MemoryStore is a [Store] in this process's memory: for tests, and for
// services that may ask again after each start. Make it with [NewMemoryStore].
type MemoryStore struct {
	mu         sync.Mutex                     // guards what follows
	challenges map[string]map[int64]Challenge // by tenant and user
	proofs     map[string]Proof
}

// NewMemoryStore returns an empty store.
func NewMemoryStore() *MemoryStore {
	return &MemoryStore{challenges: make(map[string]map[int64]Challenge), proofs: make(map[string]Proof)}
}

var _ Store = (*MemoryStore)(nil)

// Begin implements [Store].
func (s *MemoryStore) Begin(ctx context.Context, c Challenge) error {
	if ctx.Err() != nil {
		return ended("begin challenge", c.Tenant, ctx)
	}
	c.Hash = bytes.Clone(c.Hash)
	c.ExpiresAt = normal(c.ExpiresAt)
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.challenges[c.Tenant]
	if of == nil {
		of = make(map[int64]Challenge)
		s.challenges[c.Tenant] = of
	}
	// Those that were never met have to go some time.
	now := time.Now()
	for user, old := range of {
		if !now.Before(old.ExpiresAt) {
			delete(of, user)
		}
	}
	of[c.User] = c
	return nil
}

// Attempt implements [Store].
func (s *MemoryStore) Attempt(ctx context.Context, tenant string, user int64, max int, now time.Time) (Challenge, error) {
	const op = "attempt challenge"
	if ctx.Err() != nil {
		return Challenge{}, ended(op, tenant, ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, found := s.challenges[tenant][user]
	if !found || !now.Before(c.ExpiresAt) || c.Attempts >= max {
		return Challenge{}, fail(op, tenant, errors.NotFound, nil)
	}
	c.Attempts++
	s.challenges[tenant][user] = c
	c.Hash = bytes.Clone(c.Hash)
	return c, nil
}

// Redeem implements [Store].
func (s *MemoryStore) Redeem(ctx context.Context, c Challenge, p Proof) error {
	const op = "redeem challenge"
	if ctx.Err() != nil {
		return ended(op, c.Tenant, ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	stored, found := s.challenges[c.Tenant][c.User]
	if !found || subtle.ConstantTimeCompare(stored.Hash, c.Hash) != 1 {
		return fail(op, c.Tenant, errors.NotFound, nil)
	}
	delete(s.challenges[c.Tenant], c.User)
	s.prove(p)
	return nil
}

// Prove implements [Store].
func (s *MemoryStore) Prove(ctx context.Context, p Proof) error {
	if ctx.Err() != nil {
		return ended("store proof", p.Tenant, ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prove(p)
	return nil
}

func (s *MemoryStore) prove(p Proof) {
	p.Hash, p.At = bytes.Clone(p.Hash), normal(p.At)
	s.proofs[p.Tenant] = p
}

// Proof implements [Store].
func (s *MemoryStore) Proof(ctx context.Context, tenant string) (Proof, error) {
	const op = "get proof"
	if ctx.Err() != nil {
		return Proof{}, ended(op, tenant, ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, found := s.proofs[tenant]
	if !found {
		return Proof{}, fail(op, tenant, errors.NotFound, nil)
	}
	p.Hash = bytes.Clone(p.Hash)
	return p, nil
}

// Forget implements [Store].
func (s *MemoryStore) Forget(ctx context.Context, tenant string) error {
	if ctx.Err() != nil {
		return ended("forget ownership", tenant, ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.challenges, tenant)
	delete(s.proofs, tenant)
	return nil
}

// normal returns a time as stores keep it.
func normal(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// ended is the error of an operation whose context had ended.
func ended(op, tenant string, ctx context.Context) error {
	return fail(op, tenant, errors.KindOf(ctx.Err()), context.Cause(ctx))
}

// fail makes an error of this package. An error that has a kind already is
// returned as it is.
func fail(op, tenant string, kind errors.Kind, err error) error {
	if e, ok := errors.AsType[*errors.Error](err); ok {
		return e
	}
	return &errors.Error{Kind: kind, Op: op, Key: tenant, Delivery: errors.NotDelivered, Err: err}
}
