package health_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/health"
	"pgregory.net/rapid"
)

// exact returns the smallest value that at least the share q does not exceed.
func exact(values []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(int(math.Ceil(q*float64(len(sorted)))), 1)-1]
}

func sketchOf(values []time.Duration) (s health.Sketch) {
	for _, v := range values {
		s.Add(v)
	}
	return s
}

func TestPercentilesAreWithinTwoPerCent(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for name, next := range map[string]func() time.Duration{
		"all alike":          func() time.Duration { return 123 * time.Millisecond },
		"exponential":        func() time.Duration { return time.Duration(r.ExpFloat64()*8e7) + time.Millisecond },
		"log-uniform":        func() time.Duration { return time.Duration(1e5 * math.Pow(6e6, r.Float64())) },
		"two far apart":      func() time.Duration { return []time.Duration{time.Millisecond, 5 * time.Minute}[r.IntN(2)] },
		"a rare slow upload": func() time.Duration { return []time.Duration{80e6, 81e6, 82e6, 300e9}[min(r.IntN(300)/2, 3)] },
	} {
		t.Run(name, func(t *testing.T) {
			var values []time.Duration
			for range 5000 {
				values = append(values, next())
			}
			s := sketchOf(values)
			require.EqualValues(t, len(values), s.Count())
			for _, q := range []float64{0, 0.01, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 1} {
				assert.InEpsilon(t, exact(values, q), s.Quantile(q), 0.02, "quantile %v", q)
			}
		})
	}
}

func TestASketchOfPartsIsTheSketchOfAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Map(rapid.Int64Range(0, int64(20*time.Minute)), func(n int64) time.Duration { return time.Duration(n) }), 0, 200).Draw(t, "values")
		at := rapid.IntRange(0, len(values)).Draw(t, "at")
		all, left, right := sketchOf(values), sketchOf(values[:at]), sketchOf(values[at:])
		left.Merge(&right)
		if !slices.Equal(mustMarshal(t, all), mustMarshal(t, left)) {
			t.Fatalf("parts differ from the whole")
		}
		var read health.Sketch
		if err := read.UnmarshalBinary(mustMarshal(t, all)); err != nil {
			t.Fatal(err)
		}
		if read.Count() != uint64(len(values)) || read.Quantile(0.5) != all.Quantile(0.5) {
			t.Fatalf("stored form reads back as another one")
		}
	})
}

func mustMarshal(t require.TestingT, s health.Sketch) []byte {
	data, err := s.MarshalBinary()
	require.NoError(t, err)
	return data
}

func TestASketchIsSmallAndReadsBackFromJSON(t *testing.T) {
	var s health.Sketch
	text, err := json.Marshal(s)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &s))
	assert.True(t, s.IsZero())
	assert.Zero(t, s.Quantile(0.5))

	s.Add(-time.Second) // a clock that steps back
	s.Add(time.Hour)
	assert.Equal(t, uint64(2), s.Count())
	assert.LessOrEqual(t, s.Quantile(0), 100*time.Microsecond)
	assert.Less(t, s.Quantile(1), 11*time.Minute)
	data := mustMarshal(t, s)
	assert.Less(t, len(data), 12, "zeros take no room")

	s.Merge(&s)
	s.Merge(nil)
	assert.Equal(t, uint64(4), s.Count())
	clone := s.Clone()
	clone.Add(time.Second)
	assert.Equal(t, uint64(4), s.Count())
	s.Clear()
	assert.True(t, s.IsZero())
}

// What a store returns may be cut or not be ours at all.
func FuzzSketch(f *testing.F) {
	s := sketchOf([]time.Duration{time.Millisecond, time.Second, 5 * time.Minute})
	f.Add(mustMarshal(f, s))
	f.Add([]byte{})
	f.Add([]byte{1, 9, 0, 1})
	f.Add([]byte{1, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		var s health.Sketch
		if s.UnmarshalBinary(data) != nil {
			require.True(t, s.IsZero(), "an error changes nothing")
			return
		}
		n := s.Count()
		s.Add(time.Second)
		require.Equal(t, n+1, s.Count())
		var again health.Sketch
		require.NoError(t, again.UnmarshalBinary(mustMarshal(t, s)))
		require.Equal(t, s.Quantile(0.9), again.Quantile(0.9))
	})
}
