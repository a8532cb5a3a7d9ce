package polling

import (
	"math/rand/v2"
	"time"
)

// backoff is how long to wait after failures in a row: first, then twice as
// long each time, up to most. Up to half as much is added at random, so that
// bots which failed together do not come back together.
type backoff struct{ first, most time.Duration }

func (b backoff) after(failures int) time.Duration {
	d := b.most
	// 1<<20 times a delay is longer than any bound, and no overflow.
	if n := max(failures, 1) - 1; n < 20 {
		d = min(b.first<<n, b.most)
	}
	return spread(d)
}

// spread adds up to half as much. It never makes a wait shorter: what Telegram
// says is a floor.
func spread(d time.Duration) time.Duration { return d + rand.N(max(d/2, 1)) }
