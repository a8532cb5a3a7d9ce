package health

import (
	"context"
	"sync"

	"github.com/tgfleet/tgfleet/errors"
)

// life is whether a monitor runs.
type life struct {
	mu       sync.Mutex // guards what follows
	started  bool
	stopping bool

	stop chan struct{} // closed by Stop
	done chan struct{} // closed once nothing runs
	end  context.CancelCauseFunc
	err  error // of the last save; read it after done
}

// Start loads what is stored, and then saves and alerts in the background,
// until [Monitor.Stop] or until ctx ends, which ends it at once. It does not
// wait for the store: see [Monitor.Ready]. The error, of kind [errors.Closed]
// or [errors.Exists], says that it was stopped or started before.
func (m *Monitor) Start(ctx context.Context) error {
	l := &m.life
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.stopping:
		return &errors.Error{Kind: errors.Closed, Op: "start health monitor", Delivery: errors.NotDelivered}
	case l.started:
		return &errors.Error{Kind: errors.Exists, Op: "start health monitor", Delivery: errors.NotDelivered}
	}
	l.started = true
	l.stop, l.done = make(chan struct{}), make(chan struct{})
	ctx, l.end = context.WithCancelCause(ctx)
	var running sync.WaitGroup
	if m.alerts != nil {
		running.Go(func() { m.alerts.run(ctx, l.stop) })
	}
	if m.saver != nil {
		running.Go(func() { l.err = m.saver.run(ctx, m, l.stop) })
	}
	go func() {
		running.Wait()
		l.end(nil)
		close(l.done)
	}()
	return nil
}

// Stop tells the handlers of what has not been told, saves what has not been
// saved, and returns when nothing runs any more. When ctx ends first it gives
// up what is left; the error then says so. It may be called many times, also
// without Start. The monitor goes on to count.
func (m *Monitor) Stop(ctx context.Context) error {
	l := &m.life
	l.mu.Lock()
	first := !l.stopping
	l.stopping = true
	started := l.started
	if first && started {
		close(l.stop)
	}
	l.mu.Unlock()
	if !started {
		return nil
	}
	select {
	case <-l.done:
	case <-ctx.Done():
		l.end(context.Cause(ctx))
		<-l.done
		if l.err == nil {
			return ended("stop health monitor", ctx)
		}
	}
	return l.err
}

// Ready returns nil once what is stored has been loaded, or if nothing is
// stored; until then, an error of kind [errors.Unavailable]. What is asked of
// the monitor before then lacks the past.
func (m *Monitor) Ready() error {
	if m.saver == nil || m.saver.loaded.Load() {
		return nil
	}
	return &errors.Error{Kind: errors.Unavailable, Op: "load health snapshots", Err: errors.New("not loaded yet"), Delivery: errors.NotDelivered}
}
