package health

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// Sketch is how long calls took, as a distribution: it takes durations and
// tells percentiles. Sketches can be added, in any order and grouping, with
// the result that one sketch of all would have.
//
// A percentile is at most 2 % off the true one, between 100 µs and 10 min.
// What is shorter counts as 100 µs, what is longer as 10 min 40 s. Its size
// follows from the ratio of the longest to the shortest: 4 bytes for each 4 %,
// and never more than 1.7 KB.
//
// The zero Sketch is empty. A copy shares what is counted: see
// [Sketch.Clone]. It is not safe for concurrent use.
type Sketch struct{ bins bins[uint32] }

// maxBins bounds a Sketch; there are no more.
const maxBins = lastBin + 1

// Add counts a duration.
func (s *Sketch) Add(d time.Duration) { s.bins.add(binOf(d), 1, maxBins) }

// Merge adds what another sketch has counted. It may be nil.
func (s *Sketch) Merge(other *Sketch) {
	if other == s {
		c := other.Clone()
		other = &c
	}
	if other != nil {
		merge(&s.bins, &other.bins, maxBins)
	}
}

// Count returns how many durations were counted.
func (s *Sketch) Count() uint64 { return s.bins.total() }

// IsZero reports whether nothing was counted.
func (s Sketch) IsZero() bool { return s.bins.total() == 0 }

// Quantile returns the duration that the share q of all durations does not
// exceed: 0.5 is the median, 0.99 the 99th percentile. It is 0 when nothing was
// counted.
func (s *Sketch) Quantile(q float64) time.Duration { return s.bins.quantile(q) }

// Clone returns a copy that shares nothing.
func (s Sketch) Clone() Sketch {
	s.bins.counts = slices.Clone(s.bins.counts)
	return s
}

// Clear forgets all, and keeps the memory for what comes.
func (s *Sketch) Clear() { s.bins.clear() }

const sketchVersion = 1

// AppendBinary appends the sketch's stored form. It has a version of its own
// and takes about 1.5 bytes for each 4 % of its span.
func (s Sketch) AppendBinary(to []byte) ([]byte, error) {
	b := &s.bins
	counts, low := b.used()
	if len(counts) == 0 {
		return append(to, sketchVersion), nil
	}
	to = append(to, sketchVersion, b.shift)
	to = binary.AppendUvarint(to, uint64(low))
	for i := 0; i < len(counts); i++ {
		to = binary.AppendUvarint(to, uint64(counts[i]))
		if counts[i] == 0 { // followed by how many more there are
			more := 0
			for ; counts[i+1] == 0; i++ {
				more++
			}
			to = binary.AppendUvarint(to, uint64(more))
		}
	}
	return to, nil
}

// MarshalBinary returns the sketch's stored form.
func (s Sketch) MarshalBinary() ([]byte, error) { return s.AppendBinary(nil) }

var errSketch = errors.New("read sketch: not a sketch's stored form")

// UnmarshalBinary takes the place of what the sketch has counted. On an error
// the sketch is as before.
func (s *Sketch) UnmarshalBinary(data []byte) error {
	switch {
	case len(data) == 0 || len(data) == 1 && data[0] == sketchVersion:
		*s = Sketch{}
		return nil
	case data[0] != sketchVersion:
		return fmt.Errorf("read sketch: version %d is not known", data[0])
	case data[1] > 9:
		return errSketch
	}
	var read Sketch
	read.bins.shift = data[1]
	data = data[2:]
	bad := false
	next := func() uint64 {
		v, n := binary.Uvarint(data)
		if n <= 0 {
			bad = true
			return 0
		}
		data = data[n:]
		return v
	}
	at := next()
	for !bad && len(data) > 0 {
		n := next()
		switch {
		case bad || at > lastBin || n > math.MaxUint32 || at<<read.bins.shift > lastBin:
			return errSketch
		case n == 0:
			more := next()
			if bad || more > lastBin {
				return errSketch
			}
			at += more + 1
		default:
			read.bins.add(int(at)<<read.bins.shift, uint32(n), maxBins)
			at++
		}
	}
	if bad {
		return errSketch
	}
	*s = read
	return nil
}

// MarshalText returns the stored form in base64, for JSON.
func (s Sketch) MarshalText() ([]byte, error) {
	data, err := s.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return base64.RawStdEncoding.AppendEncode(nil, data), nil
}

// UnmarshalText reads what MarshalText returns.
func (s *Sketch) UnmarshalText(text []byte) error {
	data, err := base64.RawStdEncoding.AppendDecode(nil, text)
	if err != nil {
		return errSketch
	}
	return s.UnmarshalBinary(data)
}
