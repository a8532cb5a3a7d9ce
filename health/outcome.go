package health

import (
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// Outcome is what became of one attempt of a call.
type Outcome struct {
	// At is when it ended. The zero time is now; a time with a monotonic
	// reading makes the figures immune to steps of the clock.
	At time.Time
	// Latency is how long it took.
	Latency time.Duration
	// Kind is [errors.None] for success.
	Kind errors.Kind
	// RetryAfter is how long Telegram said to wait, where it did.
	RetryAfter time.Duration
	// Poll says that it was a long poll, whose latency says nothing.
	Poll bool
}

// verdict is what an outcome says of the tenant's health.
type verdict uint8

const (
	// good: Telegram did what was asked.
	good verdict = iota
	// rejected: Telegram answered that this one call can't be done, such as a
	// message to a user who blocked the bot. The bot is as well as before.
	rejected
	// failure: the bot, its token, Telegram or the way to it failed.
	failure
	// refused: this program did not send it.
	refused
	// abandoned: the caller gave up. It says nothing and is not counted.
	abandoned
)

var verdicts = func() (v [256]verdict) {
	for i := range v {
		switch errors.Kind(i).Fault() {
		case errors.FaultNone:
			v[i] = good
		case errors.FaultCaller:
			v[i] = rejected
		case errors.FaultTenant, errors.FaultPlatform:
			v[i] = failure
		default:
			v[i] = refused
		}
	}
	// These say whose fault it is, and are said before anything is sent.
	v[errors.BreakerOpen], v[errors.Suspended], v[errors.Unverified] = refused, refused, refused
	v[errors.Canceled] = abandoned
	return v
}()
