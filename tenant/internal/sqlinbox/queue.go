package sqlinbox

import (
	"context"
	"fmt"
	"sync"
)

// Queue hands what many ask for at the same time to one transaction: while one
// is under way the next batch gathers, so batches grow with the load, and a
// lone one waits for nobody. It has a goroutine while there is something to do
// and none otherwise.
type Queue[T any] struct {
	run    func([]T) error  // of a batch, all or nothing
	spoilt func(error) bool // that one of a batch may have been to blame
	most   int              // in a batch

	mu      sync.Mutex // guards what follows, and is not held during run
	waiting []*job[T]
	idle    chan struct{} // closed when the goroutine ends; nil while there is none
}

type job[T any] struct {
	of   T
	err  error
	done chan struct{}
}

// NewQueue returns a queue for batches of at most so many. After an error for
// which spoilt is true each of the batch is tried alone, so that one that can't
// be done takes no others with it.
func NewQueue[T any](most int, run func([]T) error, spoilt func(error) bool) *Queue[T] {
	return &Queue[T]{run: run, spoilt: spoilt, most: most}
}

// UnderWay reports that [Queue.Do] gave up on what may be done all the same.
func UnderWay(err error) bool {
	_, ok := err.(underWay)
	return ok
}

// underWay is ctx's error once a batch had been taken out of the queue.
type underWay struct{ error }

func (u underWay) Unwrap() error { return u.error }

// Do waits until what is asked for is done, or ctx ends. After ctx's error it
// is not to be touched, and may be done all the same where [UnderWay] says so.
func (q *Queue[T]) Do(ctx context.Context, of T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j := &job[T]{of: of, done: make(chan struct{})}
	q.mu.Lock()
	q.waiting = append(q.waiting, j)
	if q.idle == nil {
		q.idle = make(chan struct{})
		go q.loop()
	}
	q.mu.Unlock()
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, w := range q.waiting {
		if w == j {
			q.waiting = append(q.waiting[:i:i], q.waiting[i+1:]...)
			return ctx.Err()
		}
	}
	return underWay{ctx.Err()}
}

// Wait waits until nothing is left of what was asked for before.
func (q *Queue[T]) Wait() {
	q.mu.Lock()
	idle := q.idle
	q.mu.Unlock()
	if idle != nil {
		<-idle
	}
}

func (q *Queue[T]) loop() {
	for {
		q.mu.Lock()
		n := min(len(q.waiting), q.most)
		if n == 0 {
			close(q.idle)
			q.idle, q.waiting = nil, nil
			q.mu.Unlock()
			return
		}
		jobs := q.waiting[:n:n]
		q.waiting = q.waiting[n:]
		q.mu.Unlock()
		batch := make([]T, n)
		for i, j := range jobs {
			batch[i] = j.of
		}
		err := q.call(batch)
		for i, j := range jobs {
			j.err = err
			if err != nil && n > 1 && q.spoilt(err) {
				j.err = q.call(batch[i : i+1])
			}
			close(j.done)
		}
	}
}

func (q *Queue[T]) call(batch []T) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic of type %T", p) // its value may be a user's text
		}
	}()
	return q.run(batch)
}
