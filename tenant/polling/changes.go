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

// look reads the records of tenants that have changed and are not polled here.
// One that can't be read keeps no other from being read, unless the store is
// away.
func (s *Supervisor) look(ctx context.Context) {
	retry := time.NewTimer(time.Hour)
	retry.Stop()
	defer retry.Stop()
	failed := make(map[string]bool) // what waits for another try
	failures := 0                   // tries in a row with such
	for waits, away := false, false; ; {
		read := s.read
		if away {
			read = nil
		}
		ids := make(map[string]bool)
		select {
		case <-read:
		case <-retry.C:
			ids, failed, waits = failed, make(map[string]bool), false
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		maps.Copy(ids, s.unread)
		clear(s.unread)
		s.mu.Unlock()
		var err error
		if away, err = s.lookAtAll(ctx, ids, failed); ctx.Err() != nil {
			return
		}
		switch {
		case len(failed) == 0:
			failures = 0
		case !waits:
			if failures++; failures == 1 {
				s.log.WarnContext(ctx, "tenants that changed can't be read", slog.String("error", brief(err)))
			}
			retry.Reset(networkPause.after(failures))
			waits = true
		}
	}
}

// lookAtAll reads records, and puts into failed those that are to be tried
// again: all that are left, where the store is away. err is of one of them.
func (s *Supervisor) lookAtAll(ctx context.Context, ids, failed map[string]bool) (away bool, err error) {
	row := 0
	for id := range ids {
		if row == giveUp {
			failed[id] = true
			continue
		}
		bad := s.lookAt(ctx, id)
		switch {
		case bad == nil, errors.Is(bad, errors.NotFound):
			row = 0
		case errors.Is(bad, errors.Internal):
			// To wait would not mend it. The list may know it.
			s.log.ErrorContext(ctx, "tenant can't be read", slog.String("tenant", id), slog.String("error", brief(bad)))
		default:
			row, err = row+1, bad
			failed[id] = true
		}
	}
	return row == giveUp, err
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
