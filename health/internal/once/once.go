// Package once is how the memory stores of packages health and usage apply each
// flush once.
package once

import "time"

// Log knows the last flush of each writer. Its zero value knows none. It is not
// safe for concurrent use.
type Log struct {
	writers map[string]last
	pruned  time.Time
}

type last struct {
	seq uint64
	at  time.Time
}

// Begin reports whether a flush is to be applied, and notes that it was. A
// writer is forgotten after a while, of at least keep.
func (l *Log) Begin(writer string, seq uint64, now time.Time, keep time.Duration) bool {
	if l.writers == nil {
		l.writers = make(map[string]last)
	}
	if now.Sub(l.pruned) > keep {
		l.pruned = now
		for writer, last := range l.writers {
			if now.Sub(last.at) > keep {
				delete(l.writers, writer)
			}
		}
	}
	if seq <= l.writers[writer].seq {
		return false
	}
	l.writers[writer] = last{seq, now}
	return true
}
