package breaker

import "time"

// window remembers how the last calls turned out.
type window interface {
	// roll drops what is too old at a time. Times never go back.
	roll(now int64)
	// add puts in a call; roll was called for the same time.
	add(failed, slow bool)
	// sum returns what is in it.
	sum() tally
	// clear drops all.
	clear()
}

// tally counts calls.
type tally struct{ calls, failures, slow uint32 }

func (t *tally) add(u tally) {
	t.calls += u.calls
	t.failures += u.failures
	t.slow += u.slow
}

func (t *tally) sub(u tally) {
	t.calls -= u.calls
	t.failures -= u.failures
	t.slow -= u.slow
}

func tallyOf(failed, slow bool) tally {
	t := tally{calls: 1}
	if failed {
		t.failures = 1
	}
	if slow {
		t.slow = 1
	}
	return t
}

// countWindow is of the last so many calls. A call takes two bits, so that a
// hundred fit into half a cache line.
type countWindow struct {
	tally
	size, next uint32
	bits       []byte
}

func newCountWindow(size int) *countWindow {
	return &countWindow{size: uint32(size), bits: make([]byte, (size+3)/4)}
}

func (w *countWindow) roll(int64) {}

func (w *countWindow) add(failed, slow bool) {
	at, shift := &w.bits[w.next/4], w.next%4*2
	if w.calls == w.size {
		old := *at >> shift
		w.sub(tallyOf(old&1 != 0, old&2 != 0))
	}
	*at &^= 3 << shift
	if failed {
		*at |= 1 << shift
	}
	if slow {
		*at |= 2 << shift
	}
	w.tally.add(tallyOf(failed, slow))
	if w.next++; w.next == w.size {
		w.next = 0
	}
}

func (w *countWindow) sum() tally { return w.tally }

func (w *countWindow) clear() { w.tally, w.next = tally{}, 0 }

// slots is in how many steps a timeWindow moves: it holds between nine and ten
// tenths of its time. A window that starts anew at an edge would forget a
// burst that straddles it.
const slots = 10

// timeWindow is of the calls that ended lately.
type timeWindow struct {
	tally
	step, tick int64
	next       int64 // when the next step begins
	slots      [slots]tally
}

func newTimeWindow(length time.Duration) *timeWindow {
	return &timeWindow{step: max(int64(length)/slots, 1)}
}

func (w *timeWindow) roll(now int64) {
	if now < w.next { // a division takes as long as the rest of a call
		return
	}
	tick := now / w.step
	w.next = (tick + 1) * w.step
	if tick-w.tick >= slots {
		w.clear()
		w.tick = tick
		return
	}
	for w.tick < tick {
		w.tick++
		old := &w.slots[w.tick%slots]
		w.sub(*old)
		*old = tally{}
	}
}

func (w *timeWindow) add(failed, slow bool) {
	one := tallyOf(failed, slow)
	w.slots[w.tick%slots].add(one)
	w.tally.add(one)
}

func (w *timeWindow) sum() tally { return w.tally }

func (w *timeWindow) clear() {
	w.tally = tally{}
	clear(w.slots[:])
}
