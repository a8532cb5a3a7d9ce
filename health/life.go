package health

import (
	"context"
	"sync"

	"github.com/tgfleet/tgfleet/errors"
)

// Start loads what is stored, and then saves and alerts in the background,
// until [Monitor.Stop] or until ctx ends, which ends it at once, with nothing
// saved: a context that a signal ends is for what calls Stop. It does not wait for the store: see [Monitor.Ready]. The error, of kind [errors.Closed]
// or [errors.Exists], says that it was stopped or started before.
func (m *Monitor) Start(ctx context.Context) error {
	return m.life.Start(ctx, "health monitor", func(ctx context.Context, stop <-chan struct{}) (err error) {
		var running sync.WaitGroup
		var hang error
		if m.alerts != nil {
			running.Go(func() { hang = m.alerts.run(ctx, stop) })
		}
		if m.gone != nil {
			running.Go(func() { m.dropOften(ctx, stop) })
		}
		if m.saver != nil {
			running.Go(func() { err = m.saver.run(ctx, m, stop) })
		}
		running.Wait()
		if err == nil && m.alerts != nil && m.saver != nil && m.saver.hasUrgent() && ctx.Err() == nil {
			err = m.saver.last(ctx, m) // what was told meanwhile
		}
		return errors.Join(err, hang)
	})
}

// Stop tells the handlers of what has not been told, saves what has not been
// saved, and returns when nothing runs any more. When ctx ends first it gives
// up what is left; the error then says so. A store that fails is given up
// after a minute, and so are handlers; one that then does not obey its context
// is left behind, and named by the error. It may be called many times, also without Start. The monitor
// goes on to count.
func (m *Monitor) Stop(ctx context.Context) error { return m.life.Stop(ctx, "health monitor") }

// Ready returns nil once what is stored has been loaded, or if nothing is
// stored; until then, an error of kind [errors.Unavailable]. What is asked of
// the monitor before then lacks the past.
func (m *Monitor) Ready() error {
	if m.saver == nil || m.saver.loaded.Load() {
		return nil
	}
	return &errors.Error{Kind: errors.Unavailable, Op: "load health snapshots", Err: errors.New("not loaded yet"), Delivery: errors.NotDelivered}
}
