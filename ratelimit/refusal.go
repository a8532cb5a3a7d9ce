package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Why a request was refused; the errors of [Scheduler.Admit] match one of
// these or the context's error.
var (
	// ErrQueueFull is for as many waiting as may, in all or of the tenant, and
	// for more tenants or keys than are remembered.
	ErrQueueFull = errors.New("too many are waiting")
	// ErrTooLate is for a wait that would not end before the deadline or
	// within MaxWait. It matches [context.DeadlineExceeded] too.
	ErrTooLate = fmt.Errorf("the wait would be too long: %w", context.DeadlineExceeded)
	// ErrTooLarge is for a cost above a level's burst.
	ErrTooLarge = errors.New("cost is above the burst")
	// ErrClosed is for a scheduler that was closed.
	ErrClosed = errors.New("scheduler is closed")
)

// Level is one of the levels at which a request is admitted.
type Level uint8

// The levels. A request must pass all of them at once.
const (
	// LevelAll is what all tenants share.
	LevelAll Level = iota
	// LevelStarts is the pace at which tenants begin.
	LevelStarts
	// LevelTenant is one tenant's.
	LevelTenant
	// LevelKey is one key's of one tenant.
	LevelKey
)

// String returns "all", "starts", "tenant" or "key".
func (l Level) String() string {
	switch l {
	case LevelAll:
		return "all"
	case LevelStarts:
		return "starts"
	case LevelTenant:
		return "tenant"
	case LevelKey:
		return "key"
	}
	return fmt.Sprintf("Level(%d)", uint8(l))
}

// Refusal is the error of a request that was not admitted. It has taken
// nothing.
type Refusal struct {
	// Err is one of the errors above, or the context's.
	Err error
	// Level is the level that would have let it in last.
	Level Level
	// Wait is how long it would have to wait at least, from the refusal on; 0
	// where that is not known, [Forever] for ever.
	Wait time.Duration
}

func (r *Refusal) Error() string {
	switch {
	case r.Wait == Forever:
		return fmt.Sprintf("not admitted: %v (%v level, for ever)", r.Err, r.Level)
	case r.Wait > 0:
		return fmt.Sprintf("not admitted: %v (%v level, %v or more)", r.Err, r.Level, r.Wait.Round(time.Millisecond))
	}
	return fmt.Sprintf("not admitted: %v", r.Err)
}

// Unwrap returns Err.
func (r *Refusal) Unwrap() error { return r.Err }

// ended is the error of a context that is done. It matches both ctx.Err and
// the cause.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
