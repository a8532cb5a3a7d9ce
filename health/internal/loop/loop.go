// Package loop is what the background work of packages health and usage has in
// common: it is started and stopped once, tries again, and does not run in
// step with that of other replicas.
package loop

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// Life is whether something runs. Its zero value does not yet.
type Life struct {
	mu       sync.Mutex // guards what follows
	started  bool
	stopping bool

	stop chan struct{} // closed by Stop
	done chan struct{} // closed once run has returned
	end  context.CancelCauseFunc
	err  error // of run; read it after done
}

// Start calls run on a goroutine. run is to end in good order once stop is
// closed, and at once when ctx ends. The error, of kind [errors.Closed] or
// [errors.Exists], says that it was stopped or started before.
func (l *Life) Start(ctx context.Context, what string, run func(ctx context.Context, stop <-chan struct{}) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.stopping:
		return &errors.Error{Kind: errors.Closed, Op: "start " + what, Delivery: errors.NotDelivered}
	case l.started:
		return &errors.Error{Kind: errors.Exists, Op: "start " + what, Delivery: errors.NotDelivered}
	}
	l.started = true
	l.stop, l.done = make(chan struct{}), make(chan struct{})
	ctx, l.end = context.WithCancelCause(ctx)
	go func() {
		defer close(l.done)
		defer l.end(nil)
		l.err = run(ctx, l.stop)
	}()
	return nil
}

// Stop lets run end and waits for it; once ctx has ended, it ends run's. It
// returns run's error. It may be called many times, also without Start.
func (l *Life) Stop(ctx context.Context, what string) error {
	l.mu.Lock()
	if l.started && !l.stopping {
		close(l.stop)
	}
	l.stopping = true
	started := l.started
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
			return Ended("stop "+what, ctx)
		}
	}
	return l.err
}

// A failing store is asked again after the one, then twice that, up to the
// other.
const firstPause, longestPause = time.Second, time.Minute

// Retry calls f until it succeeds, with growing pauses, and reports whether it
// did before ctx ended or stop was closed; a nil stop never is.
func Retry(ctx context.Context, stop <-chan struct{}, log *slog.Logger, what string, f func() error) bool {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := f()
		if err == nil {
			return true
		}
		log.Error(what, slog.Any("err", errors.Classify(err)), slog.Duration("again_in", pause))
		select {
		case <-time.After(Jitter(pause)):
		case <-stop:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// Jitter returns the duration, give or take a tenth.
func Jitter(d time.Duration) time.Duration { return d - d/10 + rand.N(d/5+1) }

// Ended is the error of an operation whose context has ended.
func Ended(op string, ctx context.Context) error {
	return &errors.Error{Kind: errors.KindOf(ctx.Err()), Op: op, Err: context.Cause(ctx), Delivery: errors.NotDelivered}
}
