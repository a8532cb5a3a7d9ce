package breaker

import (
	"context"
	"errors"
)

// Verdict is what a call's result says of the callee.
type Verdict uint8

// The verdicts. Any other value counts as Ignore.
const (
	// Success says that the callee works, whatever it answered.
	Success Verdict = iota
	// Failure says that it does not.
	Failure
	// Ignore says nothing of it. How long the call took is looked at all the
	// same: who gives up on a call that hangs has seen it hang.
	// It neither closes nor opens a half-open breaker, so judge an answer that
	// shows that the callee works, such as "not found", a Success.
	Ignore
)

// String returns "success", "failure" or "ignore".
func (v Verdict) String() string {
	switch v {
	case Success:
		return "success"
	case Failure:
		return "failure"
	}
	return "ignore"
}

// Classify is what judges results where [Config].Classify is nil. No error is
// a success, and an error a failure, unless the caller's context was
// cancelled: then the call was given up, which says nothing of the callee.
//
// It is the caller's context that decides and not the error's text. A callee
// that answers [context.Canceled] on its own account has failed. So has one
// that did not answer within a deadline, its own or the caller's.
func Classify(ctx context.Context, err error) Verdict {
	switch {
	case err == nil:
		return Success
	case ctx != nil && errors.Is(ctx.Err(), context.Canceled):
		return Ignore
	}
	return Failure
}
