package inbox

// list is a doubly linked list whose elements are parts of what they stand
// for, so that nothing is allocated and anything can leave at any time.
type list[T any] struct {
	first, last *elem[T]
}

type elem[T any] struct {
	prev, next *elem[T]
	in         *list[T] // nil while in none
	of         T
}

func (l *list[T]) pushBack(e *elem[T]) {
	e.in, e.prev, e.next = l, l.last, nil
	if l.last == nil {
		l.first = e
	} else {
		l.last.next = e
	}
	l.last = e
}

func (l *list[T]) pushFront(e *elem[T]) {
	e.in, e.prev, e.next = l, nil, l.first
	if l.first == nil {
		l.last = e
	} else {
		l.first.prev = e
	}
	l.first = e
}

// leave takes the element out of the list that it is in, if it is in one.
func (e *elem[T]) leave() {
	l := e.in
	if l == nil {
		return
	}
	if e.prev == nil {
		l.first = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		l.last = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.prev, e.next, e.in = nil, nil, nil
}
