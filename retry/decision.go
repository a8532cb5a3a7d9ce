package retry

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Action is what an error calls for.
type Action uint8

const (
	// Stop: repeating it would do no good, or might do harm.
	Stop Action = iota
	// Retry: it failed, and may succeed after a while.
	Retry
	// Wait: a rate limit refused it, and says or has not said until when.
	Wait
)

// String returns "stop", "retry" or "wait".
func (a Action) String() string {
	switch a {
	case Stop:
		return "stop"
	case Retry:
		return "retry"
	case Wait:
		return "wait"
	}
	return fmt.Sprintf("Action(%d)", uint8(a))
}

// Decision is what to do about an error. The zero Decision is to stop.
type Decision struct {
	// Action is what to do.
	Action Action
	// After is how long the other side said to wait. The next attempt is never
	// sooner: jitter only adds to it and [Config].Max does not cut it. 0 and
	// less are no word.
	After time.Duration
}

// Classify is the [Config].Classify that errors are judged by when there is no
// other. It looks for the first error in err's tree with each of these methods:
//
//	Retryable() bool            false stops
//	RetryAfter() time.Duration  above 0 is a rate limit's wait, unless Retryable says no
//
// What has neither is repeated as a failure, a time-out too, but not
// [context.Canceled].
func Classify(err error) Decision {
	judge, judged := errors.AsType[interface {
		error
		Retryable() bool
	}](err)
	if judged && !judge.Retryable() {
		return Decision{}
	}
	if e, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err); ok {
		if after := e.RetryAfter(); after > 0 {
			return Decision{Action: Wait, After: after}
		}
	}
	if !judged && errors.Is(err, context.Canceled) {
		return Decision{}
	}
	return Decision{Action: Retry}
}

// Permanent marks an error as one that [Classify] stops at. It has the same
// text and matches the same errors. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

type permanent struct{ error }

func (permanent) Retryable() bool { return false }
func (p permanent) Unwrap() error { return p.error }
