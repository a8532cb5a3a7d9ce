package session

import (
	"net"
	"runtime"
	"sync"
	"time"
)

const (
	// maxMerged bounds the bytes that wait to be written, and so the memory.
	// A ping waits behind them, and must be answered within PingTimeout.
	maxMerged = 64 << 10
	// mergedKept bounds a buffer that is kept for the next write.
	mergedKept = 32 << 10
	// lastWrite bounds the wait for the bytes that a closing connection still
	// has, such as TLS's farewell.
	lastWrite = 100 * time.Millisecond
)

// merger buffers writes and writes them on its own goroutine, so that close
// writes become one. net/http's HTTP/2 flushes headers and body separately, which
// costs a TLS record and a system call each. The goroutine ends when the
// connection is closed.
//
// Write returns once its bytes are buffered. If the connection fails, all later
// writes fail and the connection is closed, which fails its calls.
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

// errMergerClosed is what a write gets after the connection was closed.
var errMergerClosed = &net.OpError{Op: "write", Net: "tcp", Err: net.ErrClosed}

func newMerger(c *conn) *merger {
	m := &merger{conn: c, wake: make(chan struct{}, 1), done: make(chan struct{})}
	m.room.L = &m.mu
	go m.run()
	return m
}

// Write appends p to the buffer. It blocks while the buffer is full.
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

// close flushes the buffer and stops the goroutine. After lastWrite it closes the
// connection.
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
