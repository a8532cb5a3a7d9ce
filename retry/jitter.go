package retry

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Jitter is how a delay d is made random.
type Jitter uint8

const (
	// Full draws from 0 to d: those who failed together are spread as widely as
	// can be, and the next attempt may be at once.
	Full Jitter = iota
	// Equal draws from d/2 to d, so that there is always some delay.
	Equal
	// None waits d.
	None
)

// String returns "full", "equal" or "none".
func (j Jitter) String() string {
	switch j {
	case Full:
		return "full"
	case Equal:
		return "equal"
	case None:
		return "none"
	}
	return fmt.Sprintf("Jitter(%d)", uint8(j))
}

// split parts a delay into what is waited in any case and what is drawn.
//
// go-retry's own jitter is not used. It lies on both sides of the delay, so it
// exceeds the cap or, capped afterwards, piles up there; WithJitterPercent has
// only two steps for each percent; and none lets a floor be put below the part
// that is drawn.
func (j Jitter) split(d time.Duration) (fixed, random time.Duration) {
	switch j {
	case Full:
		return 0, d
	case Equal:
		return d - d/2, d / 2
	default:
		return d, 0
	}
}

// draw returns a time from 0 to below limit; 0 where limit is.
func draw(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0 // rand.N panics
	}
	return rand.N(limit)
}
