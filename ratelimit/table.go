package ratelimit

import "time"

// table is a map of bounded size whose values are dropped only when they know
// nothing: dropping a bucket that is not full would hand out its tokens twice.
// Whoever uses a table locks it.
//
// Every new key looks at the two oldest ones, and at more when the table is
// full, so that it shrinks to what is in use as fast as it grows. There is no
// sweeper: what was looked at is dropped at once or not at all.
type table[K comparable, V tabled[K, V]] struct {
	all   map[K]V
	order list[V] // oldest first
	max   int
	// idle reports whether a value knows nothing, and dropped is told of it.
	// While there is room, those that were used lately are kept all the same:
	// they will be used again.
	idle    func(v V, room bool) bool
	dropped func(V)
}

// tabled is what a table holds. Its key and its place in the order are parts of
// it, so that a look at it costs no look at the map.
type tabled[K comparable, V any] interface {
	seat() *seat[K, V]
}

type seat[K comparable, V any] struct {
	key   K
	place elem[V]
}

const (
	// lookAt is how many of the oldest a new key looks at, and searchFor how
	// many when the table is full.
	lookAt    = 2
	searchFor = 64
	// keep is how long after its last use a value is kept while there is room.
	keep = int64(10 * time.Second)
)

func newTable[K comparable, V tabled[K, V]](most int, idle func(v V, room bool) bool, dropped func(V)) table[K, V] {
	return table[K, V]{all: make(map[K]V), max: most, idle: idle, dropped: dropped}
}

func (t *table[K, V]) get(key K) (V, bool) {
	v, found := t.all[key]
	return v, found
}

// add puts in a new key, or reports that there is no room: the table is full
// of what can't be dropped.
func (t *table[K, V]) add(key K, v V) bool {
	if t.len() < t.max {
		t.shrink(lookAt, lookAt, true)
	} else if t.shrink(searchFor, lookAt, false); t.len() >= t.max {
		return false
	}
	t.put(key, v)
	return true
}

// put puts in a new key, room or not.
func (t *table[K, V]) put(key K, v V) {
	t.all[key] = v
	seat := v.seat()
	seat.key, seat.place.of = key, v
	t.order.pushBack(&seat.place)
}

// remove takes out a value, which dropped is not told of.
func (t *table[K, V]) remove(v V) {
	seat := v.seat()
	delete(t.all, seat.key)
	seat.place.leave()
}

// shrink looks at the n oldest, until as many were dropped as it may drop.
// Those that stay become the youngest, so that a few that stay long do not hide
// the rest.
func (t *table[K, V]) shrink(n, most int, room bool) {
	for range min(n, t.len()) {
		v := t.order.first.of
		if !t.idle(v, room) {
			t.order.rotate()
			continue
		}
		t.remove(v)
		if t.dropped != nil {
			t.dropped(v)
		}
		if most--; most == 0 {
			return
		}
	}
}

func (t *table[K, V]) len() int { return t.order.n }

// values returns all values, oldest first.
func (t *table[K, V]) values() (all []V) {
	for e := t.order.first; e != nil; e = e.next {
		all = append(all, e.of)
	}
	return all
}
