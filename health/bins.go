package health

import (
	"math"
	"time"
)

// Latencies are counted in buckets of which each is 4 % wider than the one
// before, so that a bucket's middle is at most 2 % off what is in it: the idea
// of DDSketch (Masson et al., VLDB 2019). A bucket that is wider still is two
// of the narrower ones, so that counts of different widths can be added
// (UDDSketch, Epicoco et al., 2020).
const (
	growth = 1.04
	// firstBin holds all that is no longer than this, and lastBin, which begins
	// at 10 min 50 s, all that is longer. Telegram answers nothing sooner than
	// the one, and the longest upload ends before the other.
	shortest = 100 * time.Microsecond
	firstBin = 0
	lastBin  = 400
)

var (
	perLog    = 1 / math.Log(growth)
	logOffset = math.Log(float64(shortest)) * perLog
)

// binOf returns the bucket of a duration at the finest width.
func binOf(d time.Duration) int {
	if d <= shortest {
		return firstBin
	}
	return min(int(math.Ceil(math.Log(float64(d))*perLog-logOffset)), lastBin)
}

// binEnd returns the end of a bucket of the finest width.
func binEnd(bin int) float64 { return float64(shortest) * math.Pow(growth, float64(bin)) }

// bins are the counts of a run of neighbouring buckets. Each is of 1<<shift
// buckets of the finest width, and the first of them is low.
type bins[C uint16 | uint32] struct {
	counts []C
	low    int16
	shift  uint8
}

// add counts n more in a bucket of the finest width. When the run would become
// longer than most, all buckets become twice as wide.
func (b *bins[C]) add(bin int, n uint32, most int) {
	if n == 0 {
		return
	}
	at := bin>>b.shift - int(b.low)
	if uint(at) >= uint(len(b.counts)) {
		at = b.stretch(bin, most)
	}
	if uint32(^C(0)-b.counts[at]) < n {
		b.crowd(at, n)
		return
	}
	b.counts[at] += C(n)
}

// crowd adds what does not fit into a counter: all of them are halved until it
// does. The shape stays.
func (b *bins[C]) crowd(at int, n uint32) {
	for uint32(^C(0)-b.counts[at]) < n {
		b.halve()
		n = (n + 1) / 2
	}
	b.counts[at] += C(n)
}

// stretch makes room for a bucket and returns where its counter is.
func (b *bins[C]) stretch(bin, most int) int {
	if len(b.counts) == 0 {
		// A run begins short; most tenants' latencies are much alike.
		b.low, b.counts = int16(max(bin>>b.shift-4, 0)), make([]C, min(16, most))
		return bin>>b.shift - int(b.low)
	}
	for {
		at := bin >> b.shift
		used, first := b.used()
		low, high := min(first, at), max(first+len(used)-1, at)
		if len(used) == 0 {
			low, high = at, at
		}
		if high-low < most {
			// Grow by a quarter, so that it is not done at every step.
			size := min((high-low+1)*5/4, most)
			if at == low {
				low = max(high-size+1, 0)
			}
			counts := make([]C, (size+7)/8*8)[:size]
			if len(used) > 0 {
				copy(counts[first-low:], used)
			}
			b.counts, b.low = counts, int16(low)
			return at - low
		}
		b.widen()
	}
}

// used returns the run without the zeros at its ends, and where it begins.
func (b *bins[C]) used() (counts []C, low int) {
	counts, low = b.counts, int(b.low)
	for len(counts) > 0 && counts[0] == 0 {
		counts, low = counts[1:], low+1
	}
	for len(counts) > 0 && counts[len(counts)-1] == 0 {
		counts = counts[:len(counts)-1]
	}
	return counts, low
}

// widen makes all buckets twice as wide.
func (b *bins[C]) widen() {
	if len(b.counts) == 0 {
		b.shift++
		return
	}
	low := int(b.low) >> 1
	wide := make([]C, (int(b.low)+len(b.counts)-1)>>1-low+1)
	for i, n := range b.counts {
		at := (int(b.low)+i)>>1 - low
		wide[at] += min(n, ^C(0)-wide[at])
	}
	b.counts, b.low, b.shift = wide, int16(low), b.shift+1
}

// halve makes all counts half as large. What is left over of one goes to the
// next, so that no rank moves by more than one.
func (b *bins[C]) halve() {
	var carry C
	for i, n := range b.counts {
		odd := n&1 + carry
		b.counts[i] = n>>1 + odd>>1
		carry = odd & 1
	}
}

// age halves until there are at most so many.
func (b *bins[C]) age(most uint64) {
	for b.total() > most {
		b.halve()
	}
}

// clear forgets all counts, and keeps the room for those that come, unless the
// buckets have become wide.
func (b *bins[C]) clear() {
	if b.shift > 0 {
		*b = bins[C]{}
		return
	}
	clear(b.counts)
}

// total returns how many were counted.
func (b *bins[C]) total() (sum uint64) {
	for _, n := range b.counts {
		sum += uint64(n)
	}
	return sum
}

// merge adds the counts of others.
func merge[C, D uint16 | uint32](b *bins[C], others *bins[D], most int) {
	if others.total() == 0 {
		return
	}
	for b.shift < others.shift {
		b.widen()
	}
	for i, n := range others.counts {
		if n > 0 {
			b.add((int(others.low)+i)<<others.shift, uint32(n), most)
		}
	}
}

// quantile returns the middle of the bucket that the value of a rank is in: the
// one that the share q of all values does not exceed.
func (b *bins[C]) quantile(q float64) time.Duration {
	total := b.total()
	if total == 0 {
		return 0
	}
	rank := min(max(uint64(math.Ceil(q*float64(total))), 1), total)
	for i, n := range b.counts {
		if uint64(n) >= rank {
			return middle(int(b.low)+i, b.shift)
		}
		rank -= uint64(n)
	}
	return 0
}

// middle returns the value that is as many per cent off a bucket's start as off
// its end.
func middle(bin int, shift uint8) time.Duration {
	start, end := binEnd(bin<<shift-1), binEnd((bin+1)<<shift-1)
	if bin<<shift > lastBin-1 {
		end = binEnd(lastBin)
	}
	return time.Duration(math.Round(2 * start * end / (start + end)))
}
