package breaker

import (
	"errors"
	"fmt"
	"time"
)

// ErrOpen is what the error of every refused call matches.
var ErrOpen = errors.New("circuit breaker is open")

// OpenError is the error of a call that was refused. It was not made. It
// matches [ErrOpen].
type OpenError struct {
	// State is Open, HalfOpen when all probes are under way, or ForcedOpen.
	State State
	// RetryAfter is how long the breaker stays open, from the refusal on. It
	// is 0 where that is not known: half-open, which may end at any moment, and
	// forced open.
	RetryAfter time.Duration
}

func (e *OpenError) Error() string {
	switch {
	case e.State == HalfOpen:
		return "call refused: circuit breaker is half-open and its probes are under way"
	case e.RetryAfter > 0:
		return fmt.Sprintf("call refused: circuit breaker is %v for %v more", e.State, e.RetryAfter.Round(time.Millisecond))
	}
	return fmt.Sprintf("call refused: circuit breaker is %v", e.State)
}

// Is reports whether target is [ErrOpen].
func (e *OpenError) Is(target error) bool { return target == ErrOpen }
