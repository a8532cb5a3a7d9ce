package health

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// However the run of buckets grew, widened or was merged, no count is lost and
// percentiles are as exact as the width promises.
func TestBoundedBinsLoseNoCountAndKnowTheirError(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b bins[uint16]
		var values []time.Duration
		for range rapid.IntRange(1, 300).Draw(t, "n") {
			d := time.Duration(float64(shortest) * math.Pow(6e6, rapid.Float64Range(0, 1).Draw(t, "log")))
			values = append(values, d)
			if rapid.Bool().Draw(t, "merged") {
				var one bins[uint32]
				one.add(binOf(d), 1, maxBins)
				merge(&b, &one, stateBins)
			} else {
				b.add(binOf(d), 1, stateBins)
			}
			if len(b.counts) > stateBins {
				t.Fatalf("%d buckets", len(b.counts))
			}
		}
		if b.total() != uint64(len(values)) {
			t.Fatalf("counted %d of %d", b.total(), len(values))
		}
		slices.Sort(values)
		width := math.Pow(growth, float64(int(1)<<b.shift))
		bound := (width-1)/(width+1) + 1e-5
		for _, q := range []float64{0, 0.5, 0.95, 0.99, 1} {
			want := values[max(int(math.Ceil(q*float64(len(values)))), 1)-1]
			got := b.quantile(q)
			if off := math.Abs(float64(got-want)) / float64(want); off > bound {
				t.Fatalf("quantile %v is %v and not %v: off by %v, more than %v", q, got, want, off, bound)
			}
		}
	})
}

func TestATenantsSketchIsWithinTwoPerCentForARatioOf140(t *testing.T) {
	var b bins[uint16]
	b.add(binOf(50*time.Millisecond), 1, stateBins)
	b.add(binOf(50*time.Millisecond*140), 1, stateBins)
	assert.Zero(t, b.shift)
	b.add(binOf(time.Millisecond), 1, stateBins)
	b.add(binOf(20*time.Second), 1, stateBins)
	assert.EqualValues(t, 1, b.shift)
}

func TestHalvingMovesNoRankByMoreThanOne(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		var b bins[uint16]
		for range r.IntN(500) + 1 {
			b.add(r.IntN(60), 1, stateBins)
		}
		before := slices.Clone(b.counts)
		b.halve()
		var was, is int
		for i := range before {
			was += int(before[i])
			is += int(b.counts[i])
			require.InDelta(t, float64(was)/2, is, 1)
		}
	}
}

func TestAFullCounterHalvesAll(t *testing.T) {
	var b bins[uint16]
	b.add(100, 60_000, stateBins)
	b.add(50, 30_000, stateBins)
	for range 6000 {
		b.add(100, 1, stateBins)
	}
	b.add(100, 1_000_000, stateBins)
	assert.LessOrEqual(t, b.total(), uint64(2*65535))
	assert.Equal(t, middle(100, 0), b.quantile(0.5))
	assert.Equal(t, middle(50, 0), b.quantile(0.01))
}

func TestAWindowIsWhatHappenedInItsParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type event struct {
			at     int32
			failed bool
		}
		var w window[uint16]
		var all []event
		now := int32(0)
		for range rapid.IntRange(1, 60).Draw(t, "n") {
			now += rapid.Int32Range(0, 5).Draw(t, "step")
			if rapid.IntRange(0, 20).Draw(t, "pause") == 0 {
				now += rapid.Int32Range(0, 100).Draw(t, "long")
			}
			e := event{now - rapid.Int32Range(0, 15).Draw(t, "late"), rapid.Bool().Draw(t, "failed")}
			if e.at <= w.at-windowSlots {
				w.add(e.at, e.failed) // too late to count
			} else {
				w.add(e.at, e.failed)
				all = append(all, e)
			}
			newest := w.at
			var want tally[uint32]
			for _, e := range all {
				if e.at > newest-windowSlots {
					want.calls++
					if e.failed {
						want.failed++
					}
				}
			}
			if got := w.read(newest); got != want {
				t.Fatalf("window has %v and not %v", got, want)
			}
		}
	})
}

func TestAWindowsPartThatIsFullKeepsItsShare(t *testing.T) {
	var w window[uint16]
	for i := range 100_000 {
		w.add(7, i%4 == 0)
	}
	assert.InDelta(t, 0.25, w.read(7).rate(), 0.001)
	assert.Zero(t, w.read(7+windowSlots).calls)
	assert.Zero(t, w.read(math.MaxInt32).calls)
}
