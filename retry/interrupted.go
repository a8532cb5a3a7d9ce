package retry

import (
	"context"
	"errors"
	"fmt"
)

// Interrupted is the error of an operation that would have been repeated, had
// its context or its wait not ended first. It matches the errors of both.
type Interrupted struct {
	// Err is the last attempt's.
	Err error
	// Cause is why there was no other attempt: the context's error, or what
	// [Config].Wait returned.
	Cause error
}

func (i *Interrupted) Error() string {
	return fmt.Sprintf("not retried: %v; last error: %v", i.Cause, i.Err)
}

// Unwrap returns both errors, the last attempt's first, so that
// [errors.As] finds what went wrong before what ended it.
func (i *Interrupted) Unwrap() []error { return []error{i.Err, i.Cause} }

// ended is the error of a context that is done. It matches both ctx.Err and
// the cause.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
