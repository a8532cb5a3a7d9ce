package polling

import (
	"context"
	"log/slog"
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

// changed has a record that has changed read by the loop that polls by it. What
// is not polled here may have to be, which the list decides.
func (s *Supervisor) changed(c tenant.Change) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[c.ID]
	switch {
	case c == tenant.Change{}: // any may have changed
		for _, e := range s.entries {
			e.reload = e.reload || e.busy == looping
		}
		poke(s.sync)
	case e == nil || !e.wanted:
		if c.Version != 0 && c.Status == tenant.Active {
			poke(s.sync)
		}
	case e.status.State == Standby, c.Version != 0 && c.Version == e.version:
	default:
		s.again(e, now)
		s.wake()
	}
}
