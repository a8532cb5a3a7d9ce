package tenant

import (
	"context"
	"slices"
)

// memoryWatch is one who watches a [MemoryStore].
type memoryWatch struct {
	pending []Change      // guarded by the store's lock
	wake    chan struct{} // of one place
}

// maxPending is how many changes are kept for one who watches and is slow.
// After more, he hears that any record may have changed.
const maxPending = 1024

// Watch implements [Store].
func (s *MemoryStore) Watch(ctx context.Context, f func(Change)) error {
	w := &memoryWatch{wake: make(chan struct{}, 1)}
	s.mu.Lock()
	s.watchers[w] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.watchers, w)
		s.mu.Unlock()
	}()
	if ctx.Err() == nil {
		f(Change{})
	}
	for {
		select {
		case <-ctx.Done():
			return ended(ctx, "watch tenants", "")
		case <-w.wake:
		}
		s.mu.Lock()
		changes := slices.Clone(w.pending)
		w.pending = w.pending[:0]
		s.mu.Unlock()
		for _, c := range changes {
			if ctx.Err() != nil {
				break
			}
			f(c)
		}
	}
}

// tell tells all who watch. The lock is held.
func (s *MemoryStore) tell(c Change) {
	for w := range s.watchers {
		if len(w.pending) >= maxPending {
			w.pending = append(w.pending[:0], Change{})
		} else if len(w.pending) != 1 || w.pending[0] != (Change{}) {
			w.pending = append(w.pending, c)
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}
