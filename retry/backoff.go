package retry

import (
	"math"
	"time"

	goretry "github.com/sethvargo/go-retry"
)

// backoff returns the delays of one operation, before jitter. It is made when
// the first of them is needed: a Backoff counts its calls, so two operations
// can't share one, and an operation that succeeds needs none.
//
// Of go-retry's wrappers only the cap is used. WithMaxRetries would count
// failures and rate limits together. WithMaxDuration measures from when it is
// made, which is after the first attempt here, and cuts the last delay to what
// is left, so that the last attempt has no time.
func (c *core) backoff() goretry.Backoff {
	var b goretry.Backoff
	if c.Backoff != nil {
		b = c.Backoff()
	}
	switch {
	case b != nil:
	case c.Factor == 2:
		b = goretry.NewExponential(c.Initial)
	default:
		b = geometric(c.Initial, c.Factor)
	}
	return goretry.WithCappedDuration(c.Max, b)
}

// geometric returns initial, initial×factor, initial×factor², and so on. It is
// what NewExponential is for factors other than 2.
func geometric(initial time.Duration, factor float64) goretry.BackoffFunc {
	next := float64(initial)
	return func() (time.Duration, bool) {
		d := next
		next *= factor // infinity at the end, which stays there
		if d >= math.MaxInt64 {
			return math.MaxInt64, false
		}
		return time.Duration(d), false
	}
}

// sum adds two delays that are not negative.
func sum(a, b time.Duration) time.Duration {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
