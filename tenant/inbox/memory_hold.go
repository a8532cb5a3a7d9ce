package inbox

import (
	"container/heap"
	"time"
)

// Hold implements [Holder].
func (m *Memory) Hold(tenant string, until time.Time) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.boxes[tenant]
	switch {
	case b == nil: // there is nothing to hold back
	case until.After(now):
		b.heldUntil = until
		if b.heldAt >= 0 {
			heap.Fix(&m.holds, b.heldAt)
		} else {
			heap.Push(&m.holds, b)
		}
		b.turn.leave()
	case b.heldAt >= 0:
		heap.Remove(&m.holds, b.heldAt)
		m.released(b)
		if b.turn.in != nil {
			m.tell()
		}
	}
}

// release lends again of those that were held until now.
func (m *Memory) release(now time.Time) {
	for len(m.holds) > 0 && !m.holds[0].heldUntil.After(now) {
		m.released(heap.Pop(&m.holds).(*box))
	}
}

func (m *Memory) released(b *box) {
	if b.ready.first != nil && b.turn.in == nil {
		m.ring.pushBack(&b.turn)
	}
}

// holds are the tenants that are held back, the soonest to be released first.
// It is a heap for container/heap.
type holds []*box

func (h holds) Len() int           { return len(h) }
func (h holds) Less(i, j int) bool { return h[i].heldUntil.Before(h[j].heldUntil) }
func (h holds) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].heldAt, h[j].heldAt = i, j }

func (h *holds) Push(x any) {
	b := x.(*box)
	b.heldAt = len(*h)
	*h = append(*h, b)
}

func (h *holds) Pop() any {
	last := len(*h) - 1
	b := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	b.heldAt = -1
	return b
}
