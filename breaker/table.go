package breaker

import (
	"math"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// table is a map of bounded size whose values are dropped only when nothing is
// lost by it. Whoever uses a table locks it; get needs a lock for reading only.
//
// Every new key looks at some of the oldest ones, so that the table shrinks to
// what is in use faster than it grows. There is no sweeper, which would look
// now and drop later: what was looked at is dropped at once or not at all.
type table[K comparable, V any] struct {
	lru *simplelru.LRU[K, V]
	max int
	// idle reports whether nothing is lost with a value. While there is room,
	// one that was used lately is kept all the same: it will be used again.
	idle func(v V, room bool) bool
}

const (
	// lookAt is how many of the oldest a new key looks at, and searchFor how
	// many when the table is full.
	lookAt    = 4
	searchFor = 64
)

func newTable[K comparable, V any](most int, idle func(v V, room bool) bool) table[K, V] {
	// The list never drops by itself; its error is for a size below 1.
	lru, _ := simplelru.NewLRU[K, V](math.MaxInt, nil)
	return table[K, V]{lru: lru, max: most, idle: idle}
}

func (t *table[K, V]) get(key K) (V, bool) { return t.lru.Peek(key) }

// add puts in a new key, or reports that there is no room: the table is full
// of what can't be dropped.
func (t *table[K, V]) add(key K, v V) bool {
	if t.lru.Len() < t.max {
		t.shrink(lookAt, true)
	} else if t.shrink(searchFor, false); t.lru.Len() >= t.max {
		return false
	}
	t.lru.Add(key, v)
	return true
}

// force puts in a key for which there may be no room.
func (t *table[K, V]) force(key K, v V) {
	if !t.add(key, v) {
		t.lru.Add(key, v)
	}
}

// shrink looks at the n oldest. Those that stay become the youngest, so that a
// few that stay long do not hide the rest.
func (t *table[K, V]) shrink(n int, room bool) {
	for range min(n, t.lru.Len()) {
		key, v, _ := t.lru.GetOldest()
		if !t.idle(v, room) {
			t.lru.Get(key)
			continue
		}
		t.lru.Remove(key)
		if !room && t.lru.Len() < t.max {
			return // there is room
		}
	}
}

func (t *table[K, V]) len() int { return t.lru.Len() }
