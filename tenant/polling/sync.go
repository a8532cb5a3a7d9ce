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

// Sync makes the tenants that are polled those of records which are active:
// it adds what is new, removes what is not there any more, and has the records
// read again that were changed. It does not wait for loops to end.
//
// A record that can't be read is the sequence's end: then nothing is removed,
// since what was not seen may be there, and the error is returned.
//
// Records may have been read a while ago. Tenants that are added or removed
// meanwhile, by [Supervisor.Add], Remove or HandOver, stay as that has left them
// until the next Sync.
func (s *Supervisor) Sync(ctx context.Context, records iter.Seq2[tenant.Record, error]) (added, removed int, err error) {
	s.mu.Lock()
	s.syncs++
	s.mu.Unlock()
	defer func() { // also when records panics
		s.mu.Lock()
		if s.syncs--; s.syncs == 0 {
			s.touched = nil
		}
		s.mu.Unlock()
	}()
	seen := make(map[string]struct{})
	for r, err := range records {
		if err == nil && ctx.Err() != nil {
			err = ended("list tenants", ctx)
		}
		if err != nil {
			s.wake()
			return added, 0, err
		}
		if r.Status != tenant.Active {
			continue
		}
		seen[r.ID] = struct{}{}
		if s.saw(r) {
			added++
		}
	}
	s.mu.Lock()
	for id, e := range s.entries {
		if _, found := seen[id]; !found && e.wanted && !s.touched[id] {
			s.remove(id)
			removed++
		}
	}
	s.mu.Unlock()
	s.wake()
	return added, removed, nil
}

// saw makes sure that the tenant of a record is polled, by this record. It
// reports whether it was not.
func (s *Supervisor) saw(r tenant.Record) (added bool) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[r.ID]
	if s.touched[r.ID] && (e == nil || !e.wanted) {
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
	for {
		added, removed, err := s.syncOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.log.WarnContext(ctx, "tenants to poll can't be listed", slog.String("error", session.Redact(err.Error())))
		case added+removed > 0:
			s.log.InfoContext(ctx, "tenants to poll changed", slog.Int("added", added), slog.Int("removed", removed))
		}
		// Many changes are one reason to look.
		if sleep(ctx, s.cfg.SyncEvery/20); ctx.Err() != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-s.sync:
		case <-ctx.Done():
			return
		}
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
