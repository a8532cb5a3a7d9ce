package session

import (
	"context"
	"sync"

	"github.com/tgfleet/tgfleet/errors"
)

// flight is a call in progress and its context: the caller's, also canceled when
// the session closes.
//
// It makes a cancelable context only when something waits on it. Most calls wait
// only for their attempt, whose context is a child of the caller's.
type flight struct {
	context.Context // the caller's
	session         *Session

	mu      sync.Mutex // guards the rest; nothing of others is called under it
	own     context.Context
	cancel  context.CancelCauseFunc // of own
	attempt context.CancelCauseFunc // of the attempt under way
}

// waited returns the flight's own context.
func (f *flight) waited() context.Context {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.own == nil {
		f.own, f.cancel = context.WithCancelCause(f.Context)
	}
	return f.own
}

// made returns the flight's own context if there is one, else the caller's.
func (f *flight) made() context.Context {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.own != nil {
		return f.own
	}
	return f.Context
}

// Done implements [context.Context].
func (f *flight) Done() <-chan struct{} { return f.waited().Done() }

// Err implements [context.Context].
func (f *flight) Err() error { return f.made().Err() }

// Value implements [context.Context]. context.WithCancel calls Done before Value,
// so the flight's own context is there by then.
func (f *flight) Value(key any) any { return f.made().Value(key) }

// abort ends the flight because the session closes.
func (f *flight) abort() {
	f.waited()
	f.mu.Lock()
	cancel := f.cancel
	f.mu.Unlock()
	cancel(errClosing) // before attempt is read: a new attempt looks at it
	f.mu.Lock()
	attempt := f.attempt
	f.mu.Unlock()
	if attempt != nil {
		attempt(errClosing)
	}
}

// begin admits a call. The flight must be ended.
func (s *Session) begin(ctx context.Context, op, key string) (*flight, error) {
	f := &flight{Context: ctx, session: s}
	s.mu.Lock()
	closing := s.closing
	if !closing {
		s.flights[f] = struct{}{}
	}
	s.mu.Unlock()
	if closing {
		return nil, &errors.Error{Kind: errors.Closed, Op: op, Key: key, Delivery: errors.NotDelivered, Err: errClosing}
	}
	return f, nil
}

// end takes the flight out of its session. It may be called twice.
func (f *flight) end() {
	f.mu.Lock()
	cancel := f.cancel
	f.mu.Unlock()
	if cancel != nil {
		cancel(nil)
	}
	s := f.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, found := s.flights[f]; !found {
		return
	}
	delete(s.flights, f)
	if s.closing && len(s.flights) == 0 {
		close(s.empty)
	}
}

// attemptContext is the context of one attempt of a call.
type attemptContext struct {
	context.Context
	cancel context.CancelCauseFunc
	flight *flight // that cancels it directly; nil if it is a child of the flight
}

// newAttemptContext returns a context for one attempt of a call. The attempt of
// a flight hangs on the caller's context, and is canceled with the flight. A
// second one beside it is a child of the flight. It must be ended.
func newAttemptContext(ctx context.Context) attemptContext {
	f, ok := ctx.(*flight)
	if !ok {
		actx, cancel := context.WithCancelCause(ctx)
		return attemptContext{actx, cancel, nil}
	}
	actx, cancel := context.WithCancelCause(f.Context)
	f.mu.Lock()
	alone, own := f.attempt == nil, f.own
	if alone {
		f.attempt = cancel
	}
	f.mu.Unlock()
	switch {
	case !alone:
		cancel(nil)
		actx, cancel = context.WithCancelCause(ctx)
		return attemptContext{actx, cancel, nil}
	case own != nil && own.Err() != nil:
		cancel(context.Cause(own)) // the flight was aborted meanwhile
	}
	return attemptContext{actx, cancel, f}
}

func (a attemptContext) end() {
	a.cancel(nil)
	if f := a.flight; f != nil {
		f.mu.Lock()
		f.attempt = nil
		f.mu.Unlock()
	}
}
