package ratelimit

import (
	"math"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// table is a map of bounded size whose values are dropped only when they know
// nothing: dropping a bucket that is not full would hand out its tokens twice.
// Whoever uses a table locks it.
//
// Every new key looks at the two oldest ones, and at more when the table is
// full, so that it shrinks to what is in use as fast as it grows. There is no sweeper: what was looked at
// is dropped at once or not at all.
type table[K comparable, V any] struct {
	lru *simplelru.LRU[K, V]
	max int
	// idle reports whether a value knows nothing, and dropped is told of it.
	// While there is room, those that were used lately are kept all the same:
	// they will be used again.
	idle    func(v V, room bool) bool
	dropped func(V)
}

const (
	// lookAt is how many of the oldest a new key looks at, and searchFor how
	// many when the table is full.
	lookAt    = 2
	searchFor = 64
	// keep is how long after its last use a value is kept while there is room.
	keep = int64(10 * time.Second)
)

func newTable[K comparable, V any](most int, idle func(v V, room bool) bool, dropped func(V)) table[K, V] {
	// The list never drops by itself; its error is for a size below 1.
	lru, _ := simplelru.NewLRU[K, V](math.MaxInt, nil)
	return table[K, V]{lru: lru, max: most, idle: idle, dropped: dropped}
}

func (t *table[K, V]) get(key K) (V, bool) { return t.lru.Peek(key) }

// add puts in a new key, or reports that there is no room: the table is full
// of what can't be dropped.
func (t *table[K, V]) add(key K, v V) bool {
	if t.lru.Len() < t.max {
		t.shrink(lookAt, lookAt, true)
	} else if t.shrink(searchFor, lookAt, false); t.lru.Len() >= t.max {
		return false
	}
	t.lru.Add(key, v)
	return true
}

// shrink looks at the n oldest, until as many were dropped as it may drop.
// Those that stay become the youngest, so that a few that stay long do not hide
// the rest.
func (t *table[K, V]) shrink(n, most int, room bool) {
	for range min(n, t.lru.Len()) {
		key, v, _ := t.lru.GetOldest()
		if !t.idle(v, room) {
			t.lru.Get(key)
			continue
		}
		t.lru.Remove(key)
		if t.dropped != nil {
			t.dropped(v)
		}
		if most--; most == 0 {
			return
		}
	}
}

func (t *table[K, V]) len() int { return t.lru.Len() }

// force puts in a key for which there may be no room.
func (t *table[K, V]) force(key K, v V) {
	if !t.add(key, v) {
		t.lru.Add(key, v)
	}
}
