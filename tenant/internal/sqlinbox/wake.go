package sqlinbox

import "sync"

// Waker wakes those who wait. The zero Waker is ready.
type Waker struct {
	mu sync.Mutex
	c  chan struct{} // nil while nobody waits
}

// Wake returns a channel that the next Broadcast closes.
func (w *Waker) Wake() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.c == nil {
		w.c = make(chan struct{})
	}
	return w.c
}

// Broadcast wakes all who wait.
func (w *Waker) Broadcast() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.c != nil {
		close(w.c)
		w.c = nil
	}
}
