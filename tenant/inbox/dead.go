package inbox

import "time"

// DeadLetter is an update that failed for good, and was set aside so that
// those after it could be handled.
type DeadLetter struct {
	// Update is what failed. Its Attempt is how often it was tried.
	Update
	// Reason is the last failure, in words for the operator: the kind of the
	// error and the first line of its text, a few hundred bytes at most. It has
	// no token and nothing of a panic's value, but quotes whatever a handler put
	// into its error, which had better be nothing of a user's.
	Reason string
	// DiedAt is when it was set aside.
	DiedAt time.Time
}

// DefaultDeadLimit is how many dead letters [Inbox.Dead] returns where the
// filter does not say.
const DefaultDeadLimit = 100

// DeadFilter selects dead letters. The zero DeadFilter selects all.
type DeadFilter struct {
	// Tenant selects those of one tenant; "" selects all.
	Tenant string
	// After is the letter that the page begins after; zero begins at the
	// start.
	After Ref
	// Limit bounds the page. 0 and less mean [DefaultDeadLimit].
	Limit int
}
