package polling

import "fmt"

// State is what becomes of a tenant's updates, in one word.
type State uint8

const (
	// Waiting: not polled yet. It waits for a lease and for its turn to start.
	// It is the zero State.
	Waiting State = iota
	// Standby: another process polls it.
	Standby
	// Starting: its first getUpdates is under way or waits for its turn.
	Starting
	// Polling: all is well.
	Polling
	// Delayed: the next getUpdates has to wait, since Telegram or a limit of
	// ours said so, or since the inbox is full.
	Delayed
	// Failing: the network, Telegram or the inbox fails; it is tried again.
	Failing
	// Conflicting: somebody else receives the bot's updates, or did a moment
	// ago. It is tried again, and may even receive some.
	Conflicting
	// Rejected: Telegram rejects the token, with 401 or 404. The supervisor calls
	// getUpdates again, after 1 s and in the end every 2 to 3 min, until Telegram accepts the token
	// or the record says that the tenant is not active.
	Rejected
	// Stopped: it is not tried again, because its record says that it is not
	// active, or has no token. A change of its record, [Supervisor.Refresh] and
	// [Supervisor.Add] start it again.
	Stopped

	states // how many there are
)

var stateNames = [states]string{
	"waiting", "standby", "starting", "polling", "delayed", "failing", "conflicting", "rejected", "stopped",
}

// String returns the state's name, such as "polling".
func (s State) String() string {
	if s < states {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// MarshalText returns the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Healthy reports whether updates of the tenant come in, here or elsewhere, or
// soon will. A bot that conflicts is not healthy, however many polls it wins.
func (s State) Healthy() bool { return s <= Delayed }
