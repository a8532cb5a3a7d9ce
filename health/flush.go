package health

import (
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// Flush names a write, so that repeating it does nothing.
type Flush struct {
	// Writer is a random name that a writer gives itself at each start.
	Writer string
	// Seq counts the writer's flushes, from 1.
	Seq uint64
}

// FlushMemory is how long a store remembers a writer's last flush, at least. No
// writer waits so long before it repeats one.
const FlushMemory = 7 * 24 * time.Hour

// CheckFlush returns an error of kind [errors.BadRequest] for a flush that
// names no write. Stores call it first.
func CheckFlush(op string, f Flush) error {
	if f.Writer == "" || f.Seq == 0 {
		return &errors.Error{Kind: errors.BadRequest, Op: op, Err: errors.New("flush has no writer or number"), Delivery: errors.NotDelivered}
	}
	return nil
}

// FlushLog is what a memory store knows of writers. Its zero value knows none.
// It is not safe for concurrent use.
type FlushLog struct {
	writers map[string]flushed
	pruned  time.Time
}

type flushed struct {
	seq uint64
	at  time.Time
}

// Begin reports whether a flush is to be applied, and notes that it was.
func (l *FlushLog) Begin(f Flush, now time.Time) bool {
	if l.writers == nil {
		l.writers = make(map[string]flushed)
	}
	if now.Sub(l.pruned) > FlushMemory {
		l.pruned = now
		for writer, last := range l.writers {
			if now.Sub(last.at) > FlushMemory {
				delete(l.writers, writer)
			}
		}
	}
	if f.Seq <= l.writers[f.Writer].seq {
		return false
	}
	l.writers[f.Writer] = flushed{f.Seq, now}
	return true
}
