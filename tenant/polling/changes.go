package polling

import (
	"context"
	"log/slog"
	"maps"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
)

// rewatchPause is for a watch that has ended.
var rewatchPause = backoff{time.Second, 30 * time.Second}

// hear keeps to [Config.Watch].
func (s *Supervisor) hear(ctx context.Context) {
	for failures := 1; ; failures++ {
		err := s.hearOnce(ctx, func(c tenant.Change) {
			failures = 0
			s.changed(c)
		})
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("the watch ended")
		}
		s.log.WarnContext(ctx, "changes of tenants are not heard for now", slog.String("error", session.Redact(err.Error())))
		sleep(ctx, rewatchPause.after(failures))
		if ctx.Err() != nil {
			return
		}
	}
}

func (s *Supervisor) hearOnce(ctx context.Context, f func(tenant.Change)) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked("Watch", p)
		}
	}()
	return s.cfg.Watch(ctx, f)
}

// changed has a record that has changed read: by the loop that polls by it, or,
// where nobody polls it here, to see whether somebody should.
func (s *Supervisor) changed(c tenant.Change) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[c.ID]
	switch {
	case c == tenant.Change{}: // any may have changed
		for _, e := range s.entries {
			e.reload = e.reload || e.busy == looping
			if s.cfg.Tenants == nil && e.wanted && e.status.State == Stopped {
				s.unread[e.id] = true // nobody else looks at it again
			}
		}
		poke(s.missed)
		poke(s.read)
	case e == nil || !e.wanted:
		if c.Version == 0 || c.Status != tenant.Active {
			return
		}
		if s.cfg.Wants == nil {
			poke(s.sync)
			return
		}
		s.unread[c.ID] = true
		poke(s.read)
	case e.status.State == Standby, c.Version != 0 && c.Version == e.version:
	default:
		s.again(e, now)
		s.wake()
	}
}

// giveUp is after how many failures in a row the store is taken to be away.
const giveUp = 3

// one returns a key, and one that is not always the same: where one is in the
// way of the others, it is so for a while only.
func one(ids map[string]bool) string {
	for id := range ids {
		return id
	}
	return ""
}

// look reads the records of tenants that may have changed and are not polled here.
func (s *Supervisor) look(ctx context.Context) {
	for failures := 0; ; {
		select {
		case <-s.read:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		ids := s.unread
		s.unread = make(map[string]bool)
		s.mu.Unlock()
		var last error
		again := make(map[string]bool)
		for row := 0; len(ids) > 0 && row < giveUp; {
			id := one(ids)
			delete(ids, id)
			err := s.lookAt(ctx, id)
			switch {
			case ctx.Err() != nil:
				return
			case err == nil, errors.Is(err, errors.NotFound):
				row = 0
			case errors.Is(err, errors.Internal):
				// To wait would not mend it. The list may know it.
				s.log.ErrorContext(ctx, "tenant can't be read", slog.String("tenant", id), slog.String("error", brief(err)))
			default:
				last, again[id] = err, true
				row++
			}
		}
		s.mu.Lock()
		maps.Copy(s.unread, ids)
		maps.Copy(s.unread, again)
		s.mu.Unlock()
		if last == nil {
			failures = 0
			continue
		}
		if failures++; failures == 1 {
			s.log.WarnContext(ctx, "tenants that changed can't be read", slog.String("error", brief(last)))
		}
		sleep(ctx, networkPause.after(failures))
		poke(s.read)
	}
}

// lookAt reads a record, and has the tenant polled where it should be.
func (s *Supervisor) lookAt(ctx context.Context, id string) (err error) {
	since, end := s.begin()
	defer end()
	defer func() {
		if p := recover(); p != nil {
			err = panicked("Records or Wants", p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, s.cfg.PutTimeout)
	defer cancel()
	r, err := s.records.Get(ctx, id)
	if err != nil {
		return err
	}
	if !s.wants(r) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Where no Wants says who is polled, who was removed since stays so.
	if e := s.entries[id]; s.cfg.Wants == nil && (e == nil || !e.wanted) {
		return nil
	}
	if s.saw(r, since) {
		s.touch(id) // a list that was begun before does not undo it
	}
	s.wake()
	return nil
}

// wants reports whether the tenant of a record is to be polled.
func (s *Supervisor) wants(r tenant.Record) bool {
	return r.Status == tenant.Active && (s.cfg.Wants == nil || s.cfg.Wants(r))
}
