package ratelimit

import (
	"math"
	"math/bits"
	"sync"
	"time"
)

// Forever is the wait for what never comes.
const Forever = time.Duration(math.MaxInt64)

// Bucket is a token bucket: it holds up to a limit's burst of tokens and gets
// new ones at its rate. It is a [Limiter], safe for concurrent use. Make it
// with [NewBucket]; for one bucket per key see [Keyed], and for callers that
// wait, and wait fairly, [Scheduler].
//
// Times that go back a little are taken for the latest one, as those of callers
// that read the clock before another and came after it. When they go back by a
// second or more the clock was set back: the bucket goes on from there, with
// the tokens that it had.
type Bucket struct {
	mu    sync.Mutex // guards what follows; nothing is called under it
	clock clock
	b     bucket
}

var _ Limiter = (*Bucket)(nil)

// NewBucket returns a full bucket.
func NewBucket(limit Limit) *Bucket {
	return &Bucket{clock: clock{base: time.Now()}, b: newBucket(limit)}
}

// Allow takes n tokens if there are that many, and reports whether it did.
func (b *Bucket) Allow(n int) bool { return b.Take(time.Now(), n, n) == 0 }

// Take implements [Limiter].
func (b *Bucket) Take(now time.Time, n, need int) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.clock.at(now)
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
func (b *Bucket) Give(now time.Time, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clock.at(now)
	b.b.give(n, 0)
}

// Tokens returns how many tokens there are at that time: less than zero after
// a debt, [math.MaxInt] without a limit.
func (b *Bucket) Tokens(now time.Time) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.tokens(b.clock.at(now))
}

// SetLimit changes the limit. The tokens that are missing stay missing, parts
// of one too: a bucket that was full is full at its new size.
func (b *Bucket) SetLimit(now time.Time, limit Limit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b.set(b.clock.at(now), limit)
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
	old := *b
	b.configure(l)
	switch {
	case b.interval == 0:
		b.due = 0
	case b.interval == never:
		b.due = old.missing(now)
	case old.interval == never:
		b.due = now + span(old.due, b.interval)
	case old.interval == 0 || old.due <= now:
		b.due = now
	default:
		// In parts of a token, since limits that change often would else keep
		// any from coming.
		b.due = now + scale(old.due-now, b.interval, old.interval)
	}
}

// miss takes as many tokens as another bucket has missing.
func (b *bucket) miss(now int64, o *bucket) {
	switch {
	case b.interval == 0 || o.interval == 0 || o.full(now):
	case b.interval == never || o.interval == never:
		b.take(now, int(o.missing(now)))
	default:
		b.due = min(max(b.due, now), now+maxSpan) + scale(o.due-now, b.interval, o.interval)
	}
}

// scale returns x×by/of, rounded up, at most maxSpan.
func scale(x, by, of int64) int64 {
	high, low := bits.Mul64(uint64(x), uint64(by))
	if high >= uint64(of) {
		return maxSpan
	}
	quotient, rest := bits.Div64(high, low, uint64(of))
	if rest > 0 {
		quotient++
	}
	return int64(min(quotient, uint64(maxSpan)))
}

// span is the time in which n tokens come, at most maxSpan.
func span(n, interval int64) int64 { return min(n, maxSpan/interval) * interval }

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
	switch {
	case b.interval == 0 || n <= 0:
	case b.interval == never:
		b.due += int64(n)
	default:
		// A debt upon a debt may be more than a century.
		b.due = min(max(b.due, now), now+maxSpan) + span(int64(n), b.interval)
	}
}

// give takes back what was taken a while ago. What would have come since then
// if the bucket had been full is lost: others who took may have had it from the
// time, and would have it twice.
func (b *bucket) give(n int, ago int64) {
	switch {
	case b.interval == 0 || n <= 0:
	case b.interval == never:
		b.due = max(0, b.due-int64(n))
	default:
		b.due -= max(0, span(int64(n), b.interval)-ago)
	}
}

// full reports whether the bucket knows nothing that a new one would not.
func (b *bucket) full(now int64) bool { return b.missing(now) == 0 }

// tooLarge reports whether n tokens never fit in.
func (b *bucket) tooLarge(n int) bool { return b.interval != 0 && int64(n) > b.burst }
