package retry

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// BudgetConfig configures a [Budget].
type BudgetConfig struct {
	// Share is how many retries each call earns, from 0 to 1, in steps of a
	// millionth. 0 means 0.1: retries add a tenth to the calls.
	Share float64
	// Burst is how many retries may be saved up, and how many there are at the
	// start. 0 means 100.
	Burst int

	// KeyShare and KeyBurst are the same for each key. 0 means 0.2 and 10; a
	// negative KeyBurst is no bound for a key. A key's share is best above that
	// of all, since all keys seldom fail at once.
	KeyShare float64
	KeyBurst int
	// MaxKeys bounds how many keys are remembered. Only those are whose burst is
	// not whole. 0 means 65,536. A key takes at most 256 bytes, itself included
	// if it is no longer than 32.
	MaxKeys int
}

// Budget bounds retries to a share of the calls, for each key and for all: of
// n calls at most Share×n + Burst are repeated, whatever fails. Both are token
// buckets that calls fill, not time, so that a fleet that calls little can't
// save up for an outage.
//
// A key is remembered only after it has drawn on its burst, and until that is
// whole again; the calls of the others take no lock. A Budget is safe for
// concurrent use, and policies can share it. Make it with [NewBudget].
type Budget struct {
	all      atomic.Int64 // tokens, in units
	share    int64        // units that a call earns
	burst    int64
	keyShare int64
	keyBurst int64 // negative is no bound

	// short counts the keys that are remembered, by their hash, so that the
	// others need no lock: some key is short at any time, and most are not.
	short [1024]atomic.Int32
	seed  maphash.Seed

	mu   sync.Mutex // guards what follows; nothing is called under it
	keys *simplelru.LRU[string, int64]
	max  int
}

// unit is what tokens are counted in: whole millionths, so that no sum drifts.
const unit = 1_000_000

// NewBudget returns a budget with its whole burst. The error names every bad
// field of cfg.
func NewBudget(cfg BudgetConfig) (*Budget, error) {
	orElse(&cfg.Share, 0.1)
	orElse(&cfg.Burst, 100)
	orElse(&cfg.KeyShare, 0.2)
	orElse(&cfg.KeyBurst, 10)
	orElse(&cfg.MaxKeys, 1<<16)
	var bad []error
	for _, f := range []struct {
		name  string
		value float64
	}{{"Share", cfg.Share}, {"KeyShare", cfg.KeyShare}} {
		if !(f.value >= 0 && f.value <= 1) { // NaN is neither
			bad = append(bad, fmt.Errorf("a %s %v that is not from 0 to 1", f.name, f.value))
		}
	}
	if cfg.Burst < 0 {
		bad = append(bad, fmt.Errorf("negative Burst %d", cfg.Burst))
	}
	if cfg.MaxKeys < 0 {
		bad = append(bad, fmt.Errorf("negative MaxKeys %d", cfg.MaxKeys))
	}
	if len(bad) > 0 {
		return nil, fmt.Errorf("configure a retry budget: %w", errors.Join(bad...))
	}
	b := &Budget{
		share:    units(cfg.Share),
		burst:    int64(min(cfg.Burst, math.MaxInt32)) * unit,
		keyShare: units(cfg.KeyShare),
		keyBurst: int64(min(cfg.KeyBurst, math.MaxInt32)) * unit,
		seed:     maphash.MakeSeed(),
		max:      cfg.MaxKeys,
	}
	b.all.Store(b.burst)
	// The list never drops by itself; its error is for a size below 1.
	b.keys, _ = simplelru.NewLRU[string, int64](math.MaxInt, nil)
	return b, nil
}

// units rounds down, but not 0.0157, whose million is a hair below 15,700.
func units(share float64) int64 { return int64(math.Floor(share*unit + 1e-6)) }

// Deposit counts a call, to be made or made, of a key. "" is no key. [Policy]
// does it at the start of every operation.
func (b *Budget) Deposit(key string) {
	for {
		have := b.all.Load()
		if have >= b.burst {
			break // as ever while nothing fails: nothing is written
		}
		if b.all.CompareAndSwap(have, min(have+b.share, b.burst)) {
			break
		}
	}
	if key == "" || b.slot(key).Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	have, found := b.keys.Peek(key)
	if !found {
		return // its burst is whole
	}
	b.set(key, have+b.keyShare)
}

// Withdraw takes what one retry of a key costs, and reports whether it was
// there: from the key's and from all's, or from neither. "" is no key.
func (b *Budget) Withdraw(key string) bool {
	if key == "" || b.keyBurst < 0 {
		return b.take()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	have := b.balance(key)
	ok := have >= unit && b.take()
	if ok {
		have -= unit
	}
	b.set(key, have)
	return ok
}

// Left returns how many retries there are for a key, and for all. For no key,
// and where a key has no bound, the first is [math.MaxInt].
func (b *Budget) Left(key string) (ofKey, ofAll int) {
	ofAll = int(b.all.Load() / unit)
	if key == "" || b.keyBurst < 0 {
		return math.MaxInt, ofAll
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if have, found := b.keys.Peek(key); found {
		return int(have / unit), ofAll
	}
	return int(b.keyBurst / unit), ofAll
}

// Keys returns how many keys are remembered.
func (b *Budget) Keys() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.keys.Len()
}

// take takes a token of all.
func (b *Budget) take() bool {
	for {
		have := b.all.Load()
		if have < unit {
			return false
		}
		if b.all.CompareAndSwap(have, have-unit) {
			return true
		}
	}
}

// balance returns what a key has, and makes room for it. The lock is held.
//
// Where there is none, the key that has not been heard of for longest is
// forgotten. What it had is the new one's: a whole burst for each would make
// tokens of nothing, and refusing new keys would let those that are gone hold
// the room for ever. So however many keys there are, what is handed out to
// them is what calls earned and MaxKeys bursts.
func (b *Budget) balance(key string) int64 {
	if have, found := b.keys.Peek(key); found {
		return have
	}
	if b.keys.Len() < b.max {
		return b.keyBurst
	}
	oldest, have, _ := b.keys.RemoveOldest()
	b.slot(oldest).Add(-1)
	return have
}

// set remembers what a key has, unless it is all it may have. The lock is held.
func (b *Budget) set(key string, have int64) {
	before := b.keys.Len()
	if have >= b.keyBurst {
		b.keys.Remove(key)
	} else {
		b.keys.Add(key, have)
	}
	if n := b.keys.Len() - before; n != 0 {
		b.slot(key).Add(int32(n))
	}
}

// slot returns the counter of a key and those that share its hash.
func (b *Budget) slot(key string) *atomic.Int32 {
	return &b.short[maphash.String(b.seed, key)%uint64(len(b.short))]
}
