package retry

import "fmt"

// Reason is why an operation is not repeated.
type Reason uint8

const (
	// NotStopped: it is, or it has not failed yet.
	NotStopped Reason = iota
	// Judged: the error is not one to repeat.
	Judged
	// Exhausted: it was repeated as often as it may.
	Exhausted
	// OutOfTime: the delay does not fit the context's deadline or MaxElapsed.
	OutOfTime
	// OverBudget: too much was repeated already, by all or for its key.
	OverBudget
	// Ended: the context is done, or the wait failed.
	Ended
)

// String returns "not stopped", "judged", "exhausted", "out of time", "over
// budget" or "ended".
func (r Reason) String() string {
	switch r {
	case NotStopped:
		return "not stopped"
	case Judged:
		return "judged"
	case Exhausted:
		return "exhausted"
	case OutOfTime:
		return "out of time"
	case OverBudget:
		return "over budget"
	case Ended:
		return "ended"
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}
