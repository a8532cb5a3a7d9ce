package ratelimit

import (
	"sync"
	"time"
)

// KeyedConfig configures a [Keyed].
type KeyedConfig struct {
	// Limit is every key's. Zero is no limit.
	Limit Limit
	// MaxKeys bounds how many keys are remembered. 0 means 131,072. A key takes
	// at most 256 bytes, itself included if it is no longer than 32.
	MaxKeys int
}

// Keyed is a token bucket for every key. It forgets a key when its bucket is
// full, and only then, since forgetting it sooner would hand out its tokens
// twice. When it remembers as many as it may and none can be forgotten, new
// keys are refused. It is safe for concurrent use. Make it with [NewKeyed].
//
// Times that go back are taken as by [Bucket].
type Keyed[K comparable] struct {
	limit Limit

	mu    sync.Mutex // guards what follows; nothing is called under it
	clock clock
	keys  table[K, *keyed[K]]
}

// keyed is what is known of a key.
type keyed[K comparable] struct {
	bucket bucket
	frozen int64 // until
	at     seat[K, *keyed[K]]
}

func (k *keyed[K]) seat() *seat[K, *keyed[K]] { return &k.at }

// NewKeyed returns a Keyed whose buckets are all full.
func NewKeyed[K comparable](cfg KeyedConfig) *Keyed[K] {
	if cfg.MaxKeys <= 0 {
		cfg.MaxKeys = 1 << 17
	}
	k := &Keyed[K]{limit: cfg.Limit, clock: clock{base: time.Now()}}
	k.keys = newTable[K](cfg.MaxKeys, func(v *keyed[K], _ bool) bool {
		return v.frozen <= k.clock.last && v.bucket.full(k.clock.last)
	}, nil)
	return k
}

// Decision is what became of a request.
type Decision struct {
	// OK says whether it was let in. If not, nothing was taken.
	OK bool
	// Wait is how long to wait until it would be; [Forever] for more than the
	// burst, and for a key that is not equal to itself, such as a float that
	// is not a number. It is 0 when OK.
	Wait time.Duration
	// Remaining is how many units are there now, and Reset how long it takes
	// until the burst is.
	Remaining int
	Reset     time.Duration
	// Full says that it was refused because too many keys are remembered.
	Full bool
}

// Allow takes n units of a key if they are there. n below 1 takes none.
func (k *Keyed[K]) Allow(key K, n int) Decision { return k.AllowAt(time.Now(), key, n) }

// AllowAt is Allow at a time that is given.
func (k *Keyed[K]) AllowAt(now time.Time, key K, n int) Decision {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := k.clock.at(now)
	if !same(key, key) {
		return Decision{Wait: Forever}
	}
	v, found := k.keys.get(key)
	if !found {
		v = &keyed[K]{bucket: newBucket(k.limit)}
	}
	wait := max(v.bucket.delay(at, n), v.frozen-at, 0)
	if v.bucket.tooLarge(n) {
		wait = never
	}
	if wait == 0 {
		if !found && n > 0 && !k.keys.add(key, v) {
			// Within the time that a full bucket takes to refill, one of those
			// that are remembered is likely to be forgotten.
			return Decision{Full: true, Wait: time.Duration(max(v.bucket.interval, int64(time.Second)))}
		}
		v.bucket.take(at, n)
	}
	d := Decision{OK: wait == 0, Wait: time.Duration(wait), Remaining: max(v.bucket.tokens(at), 0)}
	if v.bucket.interval != 0 && v.bucket.interval != never {
		d.Reset = time.Duration(max(v.bucket.due-at, 0))
	}
	return d
}

// Give gives back units of a key that were taken a moment ago and not used, as
// by a request that another bucket has refused. A key that was forgotten
// meanwhile has all of them.
func (k *Keyed[K]) Give(key K, n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if v, found := k.keys.get(key); found {
		v.bucket.give(n, 0)
	}
}

// Freeze refuses a key until a time. It never shortens a freeze. A key that
// there is no room for is frozen all the same.
func (k *Keyed[K]) Freeze(key K, until time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !same(key, key) {
		return
	}
	v, found := k.keys.get(key)
	if !found {
		v = &keyed[K]{bucket: newBucket(k.limit)}
		if !k.keys.add(key, v) {
			k.keys.put(key, v)
		}
	}
	v.frozen = max(v.frozen, int64(until.Sub(k.clock.base)))
}

// Thaw ends a freeze.
func (k *Keyed[K]) Thaw(key K) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if v, found := k.keys.get(key); found {
		v.frozen = 0
	}
}

// Len returns how many keys are remembered.
func (k *Keyed[K]) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys.len()
}

// same reports whether two keys are equal. A key that is not equal to itself
// could never be found again.
func same[K comparable](a, b K) bool { return a == b }
