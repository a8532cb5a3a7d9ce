package ratelimit

// list is a doubly linked list whose elements are parts of what they stand
// for, so that nothing is allocated and anything can leave at any time.
type list[T any] struct {
	first, last *elem[T]
	n           int
}

type elem[T any] struct {
	prev, next *elem[T]
	in         *list[T] // nil while in none
	of         T
}

func (l *list[T]) pushBack(e *elem[T]) { l.insertBefore(e, nil) }

// insertBefore puts e before another element; nil puts it at the end.
func (l *list[T]) insertBefore(e, next *elem[T]) {
	e.in, e.next = l, next
	if next == nil {
		e.prev, l.last = l.last, e
	} else {
		e.prev, next.prev = next.prev, e
	}
	if e.prev == nil {
		l.first = e
	} else {
		e.prev.next = e
	}
	l.n++
}

// rotate moves the first element to the end and returns what it stands for. The
// list must have one.
func (l *list[T]) rotate() T {
	e := l.first
	if e != l.last {
		e.leave()
		l.pushBack(e)
	}
	return e.of
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
	l.n--
}
