package ratelimit

import (
	"math"
	"sync"
	"time"
)

// Forever is the wait for what never comes.
const Forever = time.Duration(math.MaxInt64)

// Bucket is a token bucket: it holds up to a limit's burst of tokens and gets
// new ones at its rate. It is a [Limiter], safe for concurrent use. Make it
// with [NewBucket]; for one bucket per key see [Keyed], and for callers that
// wait, and wait fairly, [Scheduler].
type Bucket struct {
	start time.Time

	mu sync.Mutex // guards what follows; nothing is called under it
	b  bucket
}

var _ Limiter = (*Bucket)(nil)

// NewBucket returns a full bucket.
func NewBucket(limit Limit) *Bucket {
	return &Bucket{start: time.Now(), b: newBucket(limit)}
}

// Allow takes n tokens if there are that many, and reports whether it did.
func (b *Bucket) Allow(n int) bool { return b.Take(time.Now(), n, n) == 0 }

// Take implements [Limiter].
func (b *Bucket) Take(now time.Time, n, need int) time.Duration {
	at := int64(now.Sub(b.start))
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.b.tooLarge(need) {
		return Forever
	}
	if d := b.b.delay(at, need); d > 0 {
		return time.Duration(d)
	}
	b.b.take(at, n)
	return 0
}

// Give implements [Limiter].
func (b *Bucket) Give(_ time.Time, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b.give(n)
}

// Tokens returns how many tokens there are at that time: less than zero after
// a debt, [math.MaxInt] without a limit.
func (b *Bucket) Tokens(now time.Time) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.tokens(int64(now.Sub(b.start)))
}

// SetLimit changes the limit. The tokens that are missing stay missing: a
// bucket that was full is full at its new size.
func (b *Bucket) SetLimit(now time.Time, limit Limit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b.set(int64(now.Sub(b.start)), limit)
}

// never is the wait of a bucket that will not have what is asked for.
const never = int64(math.MaxInt64)

// bucket is a token bucket in three words, without a lock, by the generic cell
// rate algorithm (ITU-T I.371): what is kept is not how many tokens there are
// but when the bucket will be full again, in whole nanoseconds. So nothing
// drifts, giving back is exact, and any number of takes can be ahead of time.
//
// The wait for three of x/time/rate's buckets at once takes longer than all of
// an admission may, and they can't take tokens back.
type bucket struct {
	// interval is the time in which a token comes, in nanoseconds. 0 is no
	// limit, and never is no tokens but those of the burst.
	interval int64
	burst    int64
	// due is when the bucket is full again; where no tokens come it is how
	// many are missing.
	due int64
}

func newBucket(l Limit) bucket {
	var b bucket
	b.configure(l)
	return b
}

func (b *bucket) configure(l Limit) {
	if l.IsUnlimited() {
		b.interval, b.burst = 0, 0
		return
	}
	b.burst = int64(min(l.burst(), math.MaxInt32))
	interval := math.Ceil(1e9/l.Rate - 1e-6) // 1e9/(20/60.0) is a hair above 3e9
	// A bucket that takes longer than a century to fill never does, and the
	// sums below can't overflow. NaN goes the same way.
	if !(interval*float64(max(b.burst, 1)) < 1<<61) {
		b.interval = never
		return
	}
	b.interval = max(int64(interval), 1)
}

// set changes the limit and keeps how many tokens are missing.
func (b *bucket) set(now int64, l Limit) {
	missing := b.missing(now)
	b.configure(l)
	switch b.interval {
	case 0:
		b.due = 0
	case never:
		b.due = missing
	default:
		b.due = now + min(missing, maxSpan/b.interval)*b.interval
	}
}

// maxSpan bounds what is added to a time: 73 years.
const maxSpan = int64(1) << 61

// missing returns how many tokens a full bucket has more, rounded up.
func (b *bucket) missing(now int64) int64 {
	switch {
	case b.interval == 0:
		return 0
	case b.interval == never:
		return b.due
	case b.due <= now:
		return 0
	}
	return (b.due-now-1)/b.interval + 1
}

func (b *bucket) tokens(now int64) int {
	if b.interval == 0 {
		return math.MaxInt
	}
	return int(b.burst - b.missing(now))
}

// delay returns how long after now n tokens will be there, if nobody else
// takes any: 0 if they are. n may be above the burst: it is then the time in
// which as many come.
func (b *bucket) delay(now int64, n int) int64 {
	switch {
	case b.interval == 0 || n <= 0:
		return 0
	case b.interval == never:
		if b.due+int64(n) <= b.burst {
			return 0
		}
		return never
	case b.burst == 0 || int64(n) > maxSpan/b.interval:
		return never
	}
	return max(0, max(b.due-now, 0)+(int64(n)-b.burst)*b.interval)
}

// take takes n tokens, whether they are there or not.
func (b *bucket) take(now int64, n int) {
	switch b.interval {
	case 0:
	case never:
		b.due += int64(n)
	default:
		b.due = max(b.due, now) + min(int64(n), maxSpan/b.interval)*b.interval
	}
}

// give takes back a take.
func (b *bucket) give(n int) {
	switch b.interval {
	case 0:
	case never:
		b.due = max(0, b.due-int64(n))
	default:
		b.due -= min(int64(n), maxSpan/b.interval) * b.interval
	}
}

// full reports whether the bucket knows nothing that a new one would not.
func (b *bucket) full(now int64) bool { return b.missing(now) == 0 }

// tooLarge reports whether n tokens never fit in.
func (b *bucket) tooLarge(n int) bool { return b.interval != 0 && int64(n) > b.burst }
