package breaker

import "fmt"

// State is what a breaker does with calls.
type State uint8

// The states. A breaker moves between the first three by itself, and into the
// others and out of them by [Breaker.Force] and [Breaker.Reset] only.
const (
	// Closed lets calls pass and watches how they turn out.
	Closed State = iota
	// Open refuses calls until its time is over. It then stays open until a
	// call comes, which is the first probe.
	Open
	// HalfOpen lets some calls pass as probes and refuses the rest.
	HalfOpen
	// ForcedOpen refuses calls for as long as it lasts.
	ForcedOpen
	// Disabled lets calls pass and records nothing.
	Disabled
	// WatchOnly refuses nothing. It does all else as if it did: it records,
	// and reports when it would open, probe and close. Use it to try a
	// configuration out.
	WatchOnly
)

// String returns "closed", "open", "half-open", "forced-open", "disabled" or
// "watch-only".
func (s State) String() string {
	switch s {
	case Closed:
		return "closed"
	case Open:
		return "open"
	case HalfOpen:
		return "half-open"
	case ForcedOpen:
		return "forced-open"
	case Disabled:
		return "disabled"
	case WatchOnly:
		return "watch-only"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// isMode reports whether a state lasts until somebody ends it.
func (s State) isMode() bool { return s == ForcedOpen || s == Disabled || s == WatchOnly }
