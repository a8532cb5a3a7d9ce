package health

// windowSlots is how many parts a window has. It moves by a part at a time, so
// it holds between 11/12 and all of its length.
const windowSlots = 12

// window counts calls of the last while.
type window[C uint16 | uint32] struct {
	sum   tally[uint32]
	at    int32 // the newest part's number
	parts [windowSlots]tally[C]
}

// tally is how many calls there were, and how many of them failed.
type tally[C uint16 | uint32] struct{ calls, failed C }

// move makes a part the newest, unless a newer one is.
func (w *window[C]) move(to int32) {
	if to <= w.at {
		return
	}
	if int64(to)-int64(w.at) >= windowSlots {
		*w = window[C]{at: to}
		return
	}
	for w.at < to {
		w.at++
		old := &w.parts[slot(w.at)]
		w.sum.calls -= uint32(old.calls)
		w.sum.failed -= uint32(old.failed)
		*old = tally[C]{}
	}
}

// add counts a call in a part. One that is too old is left out, and so is what
// a part has no room for: the share of failures stays about right.
func (w *window[C]) add(at int32, failed bool) {
	w.move(at)
	if int64(w.at)-int64(at) >= windowSlots {
		return
	}
	p := &w.parts[slot(at)]
	if p.calls == ^C(0) {
		return
	}
	p.calls++
	w.sum.calls++
	if failed {
		p.failed++
		w.sum.failed++
	}
}

// read returns the sums as they are once a part is the newest.
func (w *window[C]) read(at int32) tally[uint32] {
	w.move(at)
	return w.sum
}

// slot returns a part's place; numbers of parts may be below zero.
func slot(at int32) int32 { return ((at % windowSlots) + windowSlots) % windowSlots }

// rate returns the share of failures, 0 where there were no calls.
func (t tally[C]) rate() float64 {
	if t.calls == 0 {
		return 0
	}
	return float64(t.failed) / float64(t.calls)
}
