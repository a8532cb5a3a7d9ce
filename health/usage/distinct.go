package usage

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/tgfleet/tgfleet/errors"
)

// Distinct counts how many different chats there were. Up to 128 of them it is
// exact; above it is a HyperLogLog (Flajolet et al., 2007) of 2 KiB, whose
// standard error is 2.3 %. Two of them can be joined, and chats that are in both
// count once. The zero Distinct has none. A copy shares what is counted. It is
// not safe for concurrent use.
type Distinct struct {
	// slots is a hash table of hashes, 0 being a free place: a power of two,
	// at most three quarters full. It is nil once there are registers.
	slots     []uint64
	n         int
	registers []uint8
}

const (
	exactMost = 128
	precision = 11
)

// add counts a chat's hash, exactly up to so many.
func (d *Distinct) add(hash uint64, most int) {
	if hash == 0 {
		hash = 1
	}
	if d.registers != nil {
		d.register(hash)
		return
	}
	if d.n*4 >= len(d.slots)*3 {
		d.grow()
	}
	at := d.find(hash)
	if d.slots[at] == hash {
		return
	}
	if d.n == most {
		d.estimate()
		d.register(hash)
		return
	}
	d.slots[at] = hash
	d.n++
}

// find returns where a hash is or would be. There is a free place.
func (d *Distinct) find(hash uint64) int {
	mask := len(d.slots) - 1
	at := int(hash) & mask
	for d.slots[at] != 0 && d.slots[at] != hash {
		at = (at + 1) & mask
	}
	return at
}

func (d *Distinct) grow() {
	old := d.slots
	d.slots = make([]uint64, max(8, 2*len(old)))
	for _, hash := range old {
		if hash != 0 {
			d.slots[d.find(hash)] = hash
		}
	}
}

// estimate goes over to registers.
func (d *Distinct) estimate() {
	d.registers = make([]uint8, 1<<precision)
	for _, hash := range d.slots {
		if hash != 0 {
			d.register(hash)
		}
	}
	d.slots, d.n = nil, 0
}

func (d *Distinct) register(hash uint64) {
	at := hash >> (64 - precision)
	rank := uint8(bits.LeadingZeros64(hash<<precision|1<<(precision-1))) + 1
	d.registers[at] = max(d.registers[at], rank)
}

// Merge joins another one.
func (d *Distinct) Merge(other *Distinct) { d.merge(other, exactMost) }

func (d *Distinct) merge(other *Distinct, most int) {
	if other.registers != nil {
		if d.registers == nil {
			d.estimate()
		}
		for i, rank := range other.registers {
			d.registers[i] = max(d.registers[i], rank)
		}
		return
	}
	for _, hash := range other.slots {
		if hash != 0 {
			d.add(hash, most)
		}
	}
}

// Count returns how many different chats there were.
func (d *Distinct) Count() uint64 {
	if d.registers == nil {
		return uint64(d.n)
	}
	const m = 1 << precision
	sum, zeros := 0.0, 0
	for _, rank := range d.registers {
		sum += math.Ldexp(1, -int(rank))
		if rank == 0 {
			zeros++
		}
	}
	estimate := 0.7213 / (1 + 1.079/m) * m * m / sum
	if estimate <= 2.5*m && zeros > 0 {
		estimate = m * math.Log(m/float64(zeros)) // linear counting is better for few
	}
	return uint64(math.Round(estimate))
}

// Exact reports whether Count is exact.
func (d *Distinct) Exact() bool { return d.registers == nil }

// IsZero reports whether there were none.
func (d Distinct) IsZero() bool { return d.registers == nil && d.n == 0 }

// Clone returns a copy that shares nothing.
func (d Distinct) Clone() Distinct {
	d.slots, d.registers = slices.Clone(d.slots), slices.Clone(d.registers)
	return d
}

const (
	formExact     = 1
	formRegisters = 2
)

// MarshalBinary returns the stored form.
func (d Distinct) MarshalBinary() ([]byte, error) {
	if d.registers != nil {
		return append([]byte{formRegisters}, d.registers...), nil
	}
	hashes := make([]uint64, 0, d.n)
	for _, hash := range d.slots {
		if hash != 0 {
			hashes = append(hashes, hash)
		}
	}
	slices.Sort(hashes)
	data := []byte{formExact}
	for _, hash := range hashes {
		data = binary.LittleEndian.AppendUint64(data, hash)
	}
	return data, nil
}

var errDistinct = errors.New("read distinct chats: not their stored form")

// UnmarshalBinary reads what MarshalBinary returns.
func (d *Distinct) UnmarshalBinary(data []byte) error {
	var read Distinct
	switch {
	case len(data) == 0:
	case data[0] == formRegisters && len(data) == 1+1<<precision:
		read.registers = slices.Clone(data[1:])
		for _, rank := range read.registers {
			if rank > 64-precision+1 {
				return errDistinct
			}
		}
	case data[0] == formExact && len(data)%8 == 1:
		for data = data[1:]; len(data) > 0; data = data[8:] {
			read.add(binary.LittleEndian.Uint64(data), math.MaxInt)
		}
	default:
		return errDistinct
	}
	*d = read
	return nil
}

// MarshalText returns the stored form in base64, for JSON.
func (d Distinct) MarshalText() ([]byte, error) {
	data, err := d.MarshalBinary()
	return base64.RawStdEncoding.AppendEncode(nil, data), err
}

// UnmarshalText reads what MarshalText returns.
func (d *Distinct) UnmarshalText(text []byte) error {
	data, err := base64.RawStdEncoding.AppendDecode(nil, text)
	if err != nil {
		return errDistinct
	}
	return d.UnmarshalBinary(data)
}
