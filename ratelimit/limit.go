package ratelimit

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Limit says how many units may pass: at most Burst at once, and Rate a second
// in the long run. In any stretch of t seconds at most Burst + Rate×t pass,
// wherever the stretch begins.
//
// The zero Limit is no limit. So is every Limit with a negative Rate, which is
// how to say "none" where zero means a default; see [Unlimited].
type Limit struct {
	// Rate is in units per second. 0 with a Burst above 0 lets Burst units
	// pass and then none; negative or infinite is no limit. Between two units
	// the time is rounded up to whole nanoseconds, so a rate is never
	// exceeded, and one of more than some millions is coarse.
	Rate float64 `json:"rate"`
	// Burst is how many units may pass at once. 0 means Rate rounded up, at
	// least 1; negative lets nothing pass.
	Burst int `json:"burst,omitempty"`
}

// Unlimited lets everything pass.
var Unlimited = Limit{Rate: -1}

// Per returns the limit of n units in every d, all of which may come at once.
// Set Burst to less if they may not.
func Per(n int, d time.Duration) Limit {
	if d <= 0 {
		return Limit{Rate: math.Inf(1), Burst: n}
	}
	if n <= 0 {
		return Limit{Burst: -1}
	}
	return Limit{Rate: float64(n) / d.Seconds(), Burst: n}
}

// IsUnlimited reports whether everything passes.
func (l Limit) IsUnlimited() bool {
	return l == Limit{} || l.Rate < 0 || math.IsInf(l.Rate, 1)
}

// IsZero reports whether nothing was set.
func (l Limit) IsZero() bool { return l == Limit{} }

// Check reports a limit that means nothing: a rate that is not a number.
func (l Limit) Check() error {
	if math.IsNaN(l.Rate) {
		return errors.New("rate is not a number")
	}
	return nil
}

// String returns such as "30/s, burst 20", "20/min, burst 10" or "unlimited".
func (l Limit) String() string {
	if l.IsUnlimited() {
		return "unlimited"
	}
	burst := l.burst()
	if perMinute := l.Rate * 60; l.Rate < 1 && perMinute >= 1 && math.Abs(perMinute-math.Round(perMinute)) < 1e-9 {
		return fmt.Sprintf("%.0f/min, burst %d", perMinute, burst)
	}
	return strconv.FormatFloat(l.Rate, 'g', 6, 64) + "/s, burst " + strconv.Itoa(burst)
}

func (l Limit) burst() int {
	switch {
	case l.Burst < 0:
		return 0
	case l.Burst > 0:
		return l.Burst
	case l.Rate >= math.MaxInt32:
		return math.MaxInt32
	case math.IsNaN(l.Rate):
		return 1
	}
	return max(1, int(math.Ceil(l.Rate)))
}

// Units is how many units may pass at once, and Window the time in which as
// many come: what a client is told of its quota. Both are 0 without a limit,
// and Window is where no units come.
func (l Limit) Units() int {
	if l.IsUnlimited() {
		return 0
	}
	return l.burst()
}

// Window is described at [Limit.Units].
func (l Limit) Window() time.Duration {
	if l.IsUnlimited() || l.Rate == 0 {
		return 0
	}
	window := float64(l.burst()) / l.Rate * float64(time.Second)
	if !(window < math.MaxInt64) {
		return 0
	}
	return time.Duration(math.Round(window))
}
