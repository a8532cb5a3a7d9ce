package ratelimit

import "time"

// clock turns times that callers give into nanoseconds that never go back, by
// the monotonic clock where they carry its reading. It runs for 73 years.
type clock struct {
	base time.Time
	last int64
}

// setBack is by how much a time must be before an earlier one to mean that the
// clock was set back.
const setBack = int64(time.Second)

// leap is the most that a clock may step forward at once, 36 years, by when all
// that can come has come. More would overflow the sums of times.
const leap = maxSpan / 2

func (c *clock) at(now time.Time) int64 {
	at := int64(now.Sub(c.base))
	switch {
	case at > c.last+leap:
		c.last = min(c.last+leap, maxSpan)
		c.base = now.Add(-time.Duration(c.last))
	case at >= c.last:
		c.last = at
	case at <= c.last-setBack:
		c.base = now.Add(-time.Duration(c.last))
	}
	return c.last
}
