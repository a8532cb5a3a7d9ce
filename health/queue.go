package health

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// alertQueue is a handler and the alerts that wait for it.
type alertQueue struct {
	handler AlertHandler
	log     *slog.Logger
	more    chan struct{} // holds one: look again
	done    chan struct{} // closed once it tells no more

	mu     sync.Mutex // guards what follows; nothing is called under it
	queue  []*delivery
	closed bool
}

func newAlertQueue(h AlertHandler, log *slog.Logger) *alertQueue {
	return &alertQueue{handler: h, log: log, more: make(chan struct{}, 1), done: make(chan struct{})}
}

// start runs the queue on a goroutine, and on another one should a handler end
// it, as runtime.Goexit and so t.FailNow do.
func (q *alertQueue) start(ctx context.Context) {
	go func() {
		ended := false
		defer func() {
			if !ended {
				q.log.Error("alert handler ended its goroutine")
				q.start(ctx)
			}
		}()
		q.run(ctx)
		ended = true
		close(q.done)
	}()
}

// wait waits for the queue's end, once ctx has ended only for a little. It
// reports whether it came.
func (q *alertQueue) wait(ctx context.Context) bool {
	select {
	case <-q.done:
		return true
	case <-ctx.Done():
	}
	select {
	case <-q.done:
		return true
	case <-time.After(lastGrace):
		return false
	}
}

// put queues an alert; when the handler is too far behind it is dropped.
func (q *alertQueue) put(a *delivery) {
	q.mu.Lock()
	full := len(q.queue) >= maxQueue
	if !full {
		q.queue = append(q.queue, a)
	}
	q.mu.Unlock()
	if full {
		q.log.Error("alert dropped: its handler is too slow", slog.String("alert", a.ID), slog.String("text", a.Text(3)))
		a.had(true)
	}
	q.ring()
}

func (q *alertQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.ring()
}

func (q *alertQueue) ring() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// run hands over alerts until the queue is closed and empty, or ctx ends.
func (q *alertQueue) run(ctx context.Context) {
	for {
		q.mu.Lock()
		var next *delivery
		if len(q.queue) > 0 {
			next, q.queue = q.queue[0], q.queue[1:]
		}
		closed := q.closed
		q.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			if next != nil {
				q.log.Error("alert not handled: the monitor had to stop", slog.String("alert", next.ID), slog.String("text", next.Text(3)))
				next.had(false)
				continue
			}
			if closed {
				return
			}
		case next != nil:
			q.handle(ctx, next)
			continue
		case closed:
			return
		}
		<-q.more // close rings too, also after ctx has ended
	}
}

// handle calls the handler, whose panics end with the alert.
func (q *alertQueue) handle(ctx context.Context, a *delivery) {
	had := true
	defer func() { a.had(had) }() // also where the handler ends the goroutine
	defer func() {
		if p := recover(); p != nil {
			q.log.Error("alert handler panicked", slog.String("alert", a.ID), slog.String("panic", short(fmt.Sprint(p))))
		}
	}()
	if err := q.handler.Handle(ctx, a.Alert); err != nil {
		had = ctx.Err() == nil
		q.log.Error("alert not handled", slog.String("alert", a.ID), slog.String("text", a.Text(3)), slog.Any("err", errors.Classify(err)))
	}
}

// delivery is an alert on its way to the handlers.
type delivery struct {
	Alert
	told func(Alert)
	left atomic.Int32 // handlers that have not had it
	cut  atomic.Bool  // one was kept from it, since the monitor had to stop
}

// had says that a handler is through with the alert, or was kept from it. Each
// handler has alerts in order, so they come to be told in order too.
func (d *delivery) had(it bool) {
	if !it {
		d.cut.Store(true)
	}
	if d.left.Add(-1) == 0 && !d.cut.Load() {
		d.told(d.Alert)
	}
}
