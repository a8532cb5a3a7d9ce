package polling

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
)

// Sync makes the tenants that are polled those of records which are active, and
// which [Config.Wants] selects: it adds what is new, removes what is not there any more, and has the records
// read again that were changed. It does not wait for loops to end.
//
// A record that can't be read is the sequence's end: then nothing is removed,
// since what was not seen may be there, and the error is returned.
//
// Records may have been read a while ago. Tenants that are added or removed
// meanwhile, by [Supervisor.Add], Remove or HandOver, stay as that has left them
// until the next Sync.
func (s *Supervisor) Sync(ctx context.Context, records iter.Seq2[tenant.Record, error]) (added, removed int, err error) {
	since, end := s.begin()
	defer end() // also when records panics
	seen := make(map[string]struct{})
	for r, err := range records {
		if err == nil && ctx.Err() != nil {
			err = ended("list tenants", ctx)
		}
		if err != nil {
			s.wake()
			return added, 0, err
		}
		if !s.wants(r) {
			continue
		}
		seen[r.ID] = struct{}{}
		s.mu.Lock()
		if s.saw(r, since) {
			added++
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	for id, e := range s.entries {
		if _, found := seen[id]; !found && e.wanted && s.touched[id] <= since {
			s.remove(id)
			removed++
		}
	}
	s.mu.Unlock()
	s.wake()
	return added, removed, nil
}

// begin notes that records are being read, which are not to undo what is added
// or removed since. The function it returns says that it is over.
func (s *Supervisor) begin() (since uint64, end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.syncs++
	return s.touches, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.syncs--; s.syncs == 0 {
			s.touched = nil
		}
	}
}

// saw makes sure that the tenant of a record is polled, by this record, which was
// read since [Supervisor.begin]. It reports whether it was not. The lock is held.
func (s *Supervisor) saw(r tenant.Record, since uint64) (added bool) {
	now := time.Now()
	e := s.entries[r.ID]
	if s.touched[r.ID] > since && (e == nil || !e.wanted) {
		return false
	}
	if e == nil || !e.wanted {
		s.add(r.ID, now)
		return true
	}
	// Who was added before it was registered was not found then.
	missed := e.status.State == Stopped && e.status.Kind == errors.NotFound
	if e.version != r.Version && (e.version != 0 || missed) {
		e.version = r.Version
		s.again(e, now)
	}
	return false
}

// follow keeps to [Config.Tenants].
func (s *Supervisor) follow(ctx context.Context) {
	ticker := time.NewTicker(s.cfg.SyncEvery)
	defer ticker.Stop()
	idle := 0 // lists in a row that changes were a reason for and that brought nobody
	for heard := false; ; {
		// What was heard before the list is read is in it.
		drain(s.sync)
		drain(s.missed)
		added, removed, err := s.syncOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.log.WarnContext(ctx, "tenants to poll can't be listed", slog.String("error", session.Redact(err.Error())))
		case added+removed > 0:
			s.log.InfoContext(ctx, "tenants to poll changed", slog.Int("added", added), slog.Int("removed", removed))
		}
		switch {
		case added > 0:
			idle = 0
		case heard && err == nil:
			idle++
		}
		// Many changes are one reason to look.
		pause := s.cfg.SyncEvery / 20
		if sleep(ctx, pause); ctx.Err() != nil {
			return
		}
		var sync <-chan struct{}
		enough := time.NewTimer(min(pause<<min(idle, 5), s.cfg.SyncEvery) - pause)
		heard = false
		for more := true; more; {
			select {
			case <-enough.C:
				sync = s.sync
				continue
			case <-sync:
				heard = true
			case <-ticker.C:
			case <-s.missed:
			case <-ctx.Done():
			}
			more = false
		}
		enough.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// drain takes what [poke] left.
func drain(c chan struct{}) {
	select {
	case <-c:
	default:
	}
}

func (s *Supervisor) syncOnce(ctx context.Context) (added, removed int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked("Tenants", p)
		}
	}()
	return s.Sync(ctx, s.cfg.Tenants(ctx))
}
