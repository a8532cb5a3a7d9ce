package inbox

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
)

// job is an update that is being handled.
type job struct {
	// Of which all but the Lease is what the handler's goroutine leaves.
	Settlement

	asked  time.Time // when the lease was asked for
	until  time.Time // when the lease expires, as far as is known here
	ctx    context.Context
	cancel context.CancelFunc

	// The loop's own.
	lost    bool // the lease; nothing is settled
	ended   bool // the handler has, as far as the loop knows
	overdue bool // it was told of as running past its deadline

	// What the handler's goroutine leaves besides.
	result    result
	pause     time.Duration // for which to take nothing more of the tenant
	suspended bool          // it is for being suspended
	resumes   uint64        // how often something was resumed before the tenant was asked for
}

// give is how long after Stop's context has ended handlers may take to notice.
const give = 5 * time.Second

// crashes times MaxAttempts is how often an update may be lent before it is
// taken for what brings the process down. Those that only were at hand when
// another did are not to die with it, so it is more than the attempts of one
// that fails.
const crashes = 2

// worthless is the age at which an update is not returned any more for reasons
// that do not count as attempts.
const worthless = 24 * time.Hour

// run handles a job's update and says what becomes of it. ctx is that of all
// handlers. A handler that ends its goroutine ends run too, and then the job
// is handed back here.
func (w *Workers) run(ctx context.Context, j *job) {
	r := &j.result
	r.err = errNoReturn // runtime.Goexit leaves it so
	returned := false
	defer func() {
		defer func() {
			if !returned {
				w.finish(j)
			}
		}()
		if p := recover(); p != nil {
			returned = true
			r.err = newPanic(p)
		}
		// Canceled, and not timed out, is a lease that was lost.
		r.stopped = ctx.Err() != nil || errors.Is(j.ctx.Err(), context.Canceled)
		j.cancel()
		w.judge(j)
		w.counts.running.Add(-1)
	}()
	if j.Lease.Attempt > crashes*w.cfg.MaxAttempts {
		r.err = Permanent(errors.New("earlier attempts ended without a result"))
		r.called, returned = true, true
		return
	}
	j.resumes = w.resumes.Load()
	r.err = w.pool.Do(j.ctx, j.Lease.Tenant, func(ctx context.Context, t *tenant.Tenant) error {
		r.called, r.had = true, true
		err := w.handler.HandleUpdate(ctx, t, j.Lease.Update)
		r.ended = ctx.Err() != nil && j.ctx.Err() == nil
		return err
	})
	returned = true
}

var errNoReturn = errors.New("the handler ended its goroutine")

// result is how an attempt went.
type result struct {
	err     error
	called  bool // the handler was, or there was no need to
	had     bool // the tenant could be
	ended   bool // the tenant was taken away meanwhile
	stopped bool // the attempt was broken off
}

// judge says what becomes of an update.
func (w *Workers) judge(j *job) {
	r, s := &j.result, &j.Settlement
	s.Verdict = Done
	if r.err == nil {
		return
	}
	// Backoff and the error's methods are others' code. An error that is a nil
	// pointer has the habit.
	defer func() {
		if p := recover(); p != nil {
			w.counts.panics.Add(1)
			w.log.Error("panic while an error was judged", slog.Any("update", j.Lease.Update), slog.String("type", fmt.Sprintf("%T", r.err)))
			s.Verdict, s.After, s.Reason = Retry, backoff(j.Lease.Attempt), "an error that panics when it is read"
			if j.Lease.Attempt >= w.cfg.MaxAttempts {
				s.Verdict = Bury
			}
		}
	}()
	if p, ok := errors.AsType[*PanicError](r.err); ok {
		w.counts.panics.Add(1)
		w.log.Error("panic in a handler", p.attrs(j.Lease.Update)...)
	}
	kind, after := errors.KindOf(r.err), errors.RetryAfter(r.err)
	attr := func(more ...any) []any {
		return append([]any{slog.Any("update", j.Lease.Update), slog.Int("attempt", j.Lease.Attempt), slog.String("error", kind.String())}, more...)
	}
	switch _, final := errors.AsType[permanent](r.err); {
	case r.stopped:
		s.Verdict = Return
	case !r.called && kind == errors.NotFound:
		w.log.Info("update of a tenant that is gone", attr()...)
	case !r.called && kind == errors.Suspended:
		s.Verdict, j.pause, j.suspended = Return, pauseSuspended, true
	case !r.called || r.ended:
		s.Verdict, j.pause = Return, min(max(after, pauseShort), pauseMost)
		w.log.Warn("tenant can't be had", attr()...)
	case final:
		w.bury(s, r.err, attr())
	case kind == errors.RateLimited || kind == errors.Throttled:
		s.Verdict, s.After = Return, max(after, time.Second)
		if time.Since(j.Lease.ReceivedAt) > worthless {
			w.bury(s, r.err, attr())
		}
	case j.Lease.Attempt >= w.cfg.MaxAttempts:
		w.bury(s, r.err, attr())
	default:
		s.Verdict, s.After, s.Reason = Retry, max(after, w.cfg.Backoff(j.Lease.Attempt)), reason(r.err)
		w.log.Warn("update failed", attr(slog.Duration("after", s.After))...)
	}
}

func (w *Workers) bury(s *Settlement, err error, attr []any) {
	s.Verdict, s.Reason = Bury, reason(err)
	w.log.Error("update set aside as a dead letter", attr...)
}

// maxReason bounds what is kept of an error, in bytes.
const maxReason = 300

// reason is what is kept of an error: its kind and the first line of its text,
// without tokens, and as any store can keep it.
func reason(err error) string {
	text, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(session.Redact(text), "?"))
	text = errors.KindOf(err).String() + ": " + strings.TrimSpace(text)
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "..."
	}
	return text
}

// finish hands a job back to the loop.
func (w *Workers) finish(j *job) {
	w.mu.Lock()
	w.finished = append(w.finished, j)
	w.mu.Unlock()
	select {
	case w.notify <- struct{}{}:
	default:
	}
}
