package ratelimit

// heap is a binary heap that knows where its items are, so that one can be
// moved or taken out.
type heap[T item[T]] struct{ items []T }

type item[T any] interface {
	before(T) bool
	// position is where the item keeps its place: from 1, 0 while it is in no
	// heap.
	position() *int
}

func (h *heap[T]) len() int { return len(h.items) }

func (h *heap[T]) push(x T) {
	h.items = append(h.items, x)
	*x.position() = len(h.items)
	h.up(len(h.items) - 1)
}

// fix puts an item right whose order has changed.
func (h *heap[T]) fix(x T) {
	i := *x.position() - 1
	if !h.up(i) {
		h.down(i)
	}
}

func (h *heap[T]) remove(x T) {
	i, last := *x.position()-1, len(h.items)-1
	if i < 0 {
		return
	}
	h.swap(i, last)
	var none T
	h.items[last] = none
	h.items = h.items[:last]
	*x.position() = 0
	if i < last && !h.up(i) {
		h.down(i)
	}
}

func (h *heap[T]) swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	*h.items[i].position() = i + 1
	*h.items[j].position() = j + 1
}

func (h *heap[T]) up(i int) (moved bool) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.items[i].before(h.items[parent]) {
			break
		}
		h.swap(i, parent)
		i, moved = parent, true
	}
	return moved
}

func (h *heap[T]) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h.items); child++ {
			if h.items[child].before(h.items[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}
