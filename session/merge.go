package session

import (
	"runtime"
	"sync"
	"time"
)

const (
	// maxMerged bounds the bytes that wait to be written, and so the memory.
	maxMerged = 256 << 10
	// mergedKept bounds a buffer that is kept for the next write.
	mergedKept = 64 << 10
	// lastWrite bounds the wait for the bytes that a closing connection still
	// has, such as TLS's farewell.
	lastWrite = 100 * time.Millisecond
)

// merger writes to a connection on a goroutine of its own, so that writes which
// come close together become one: net/http's HTTP/2 flushes a request's headers
// and its body apart, each in a TLS record and a system call of its own. The
// goroutine ends when the connection is closed.
//
// A write is reported as done when it is in the buffer. An error of the
// connection fails all writes after it, and closes the connection, so that the
// calls on it learn of it.
type merger struct {
	conn *conn
	wake chan struct{} // holds one
	done chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex // guards what follows; nothing is written under it
	room   sync.Cond  // signaled when buf was taken, or at the end
	buf    []byte
	closed bool
	err    error
}

func newMerger(c *conn) *merger {
	m := &merger{conn: c, wake: make(chan struct{}, 1), done: make(chan struct{})}
	m.room.L = &m.mu
	go m.run()
	return m
}

// Write adds p to what is to be written. It waits while that is too much.
func (m *merger) Write(p []byte) (int, error) {
	m.mu.Lock()
	for len(m.buf) > 0 && len(m.buf)+len(p) > maxMerged && m.err == nil && !m.closed {
		m.room.Wait()
	}
	if m.err != nil || m.closed {
		err := m.err
		m.mu.Unlock()
		if err == nil {
			err = errMergerClosed
		}
		return 0, err
	}
	m.buf = append(m.buf, p...)
	m.mu.Unlock()
	m.signal()
	return len(p), nil
}

func (m *merger) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *merger) run() {
	defer close(m.done)
	var free []byte
	for range m.wake {
		runtime.Gosched() // others may have something to write as well
		for {
			m.mu.Lock()
			out, closed := m.buf, m.closed
			m.buf = free[:0]
			m.room.Broadcast()
			m.mu.Unlock()
			if len(out) == 0 {
				free = out
				if closed {
					return
				}
				break
			}
			if _, err := m.conn.write(out); err != nil {
				m.fail(err)
				return
			}
			if free = out; cap(free) > mergedKept {
				free = nil
			}
		}
	}
}

func (m *merger) fail(err error) {
	m.mu.Lock()
	m.err = err
	m.buf = nil
	m.room.Broadcast()
	m.mu.Unlock()
	_ = m.conn.Conn.Close() // its reader fails, and net/http closes the rest
}

// close has the goroutine write what is left and end. Where that takes longer
// than lastWrite, the connection is closed under it.
func (m *merger) close() {
	m.mu.Lock()
	m.closed = true
	m.room.Broadcast()
	m.mu.Unlock()
	m.signal()
	timer := time.NewTimer(lastWrite)
	defer timer.Stop()
	select {
	case <-m.done:
	case <-timer.C:
		_ = m.conn.Conn.Close()
		<-m.done
	}
}
