package session

import (
	"context"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// connTable bounds and remembers the open connections.
type connTable struct {
	places chan struct{}
	unused time.Duration  // after which a connection without a call is closed; 0: never
	dials  sync.WaitGroup // added to under mu while not closed

	mu     sync.Mutex // guards what follows; no connection is closed under it
	closed bool
	open   map[*conn]struct{}
	dialed int
}

func newConnTable(size int) *connTable {
	return &connTable{places: make(chan struct{}, size), open: make(map[*conn]struct{})}
}

// acquire takes a place for a connection, or waits for one. makeRoom is called
// when there is none: idle connections to one host must not keep out another.
func (t *connTable) acquire(ctx context.Context, makeRoom func()) error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return errClosing
	}
	t.dials.Add(1)
	t.mu.Unlock()
	if err := t.place(ctx, makeRoom); err != nil {
		t.dials.Done()
		return err
	}
	return nil
}

func (t *connTable) place(ctx context.Context, makeRoom func()) error {
	select {
	case t.places <- struct{}{}:
		return nil
	default:
	}
	makeRoom()
	select {
	case t.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t *connTable) release() { <-t.places }

// add remembers a connection to an address. The connection gives its place back
// when it is closed.
func (t *connTable) add(c net.Conn, address string) (net.Conn, error) {
	tracked := &conn{Conn: c, table: t, address: address, since: time.Now()}
	t.mu.Lock()
	closed := t.closed
	if !closed {
		t.open[tracked] = struct{}{}
		t.dialed++
		if t.unused > 0 {
			// What comes before a call, such as a proxy's handshake, may hang.
			tracked.closeUnusedAfter(t.unused)
		}
	}
	t.mu.Unlock()
	if closed {
		tracked.Close()
		return nil, errClosing
	}
	return tracked, nil
}

// inHandshake reports whether a connection may be on its way to its first call,
// through TLS or a proxy.
func (c *conn) inHandshake() bool {
	return !c.used.Load() && c.written.Load() > 0
}

// closeIdle closes the connections to an address that carry no call and were
// made before a time. net/http also keeps connections that no call ever had.
func (t *connTable) closeIdle(address string, before time.Time) {
	t.mu.Lock()
	var idle []*conn
	for c := range t.open {
		if c.address == address && c.since.Before(before) && !c.inHandshake() && c.calls.CompareAndSwap(0, condemned) {
			idle = append(idle, c)
		}
	}
	t.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
}

func (t *connTable) close() {
	t.mu.Lock()
	t.closed = true
	open := make([]*conn, 0, len(t.open))
	for c := range t.open {
		open = append(open, c)
	}
	t.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
	t.dials.Wait()
}

func (t *connTable) count() (open, dialed int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open), t.dialed
}

// conn is a connection in the table, below TLS where there is TLS.
type conn struct {
	net.Conn
	table   *connTable
	address string // that it was dialed to
	once    sync.Once

	since   time.Time              // when it was made
	used    atomic.Bool            // a call has had it
	calls   atomic.Int32           // that have it now; below 0 it is condemned
	written atomic.Int64           // bytes that the kernel took
	merge   atomic.Pointer[merger] // not nil for HTTP/2, whose writes it merges

	mu     sync.Mutex // guards what follows, and the start of a merger
	closed bool
	idle   *time.Timer // closes it if no call ever has it
}

// condemned is added to the calls of a connection that is about to be closed. A
// call that gets it all the same knows that the connection took nothing of it.
const condemned = math.MinInt32 / 2

// secured says which protocol TLS has negotiated, before the first call.
func (c *conn) secured(protocol string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if protocol == "h2" && !c.closed && c.merge.Load() == nil {
		c.merge.Store(newMerger(c))
	}
}

// manyCalls reports whether the connection carries calls side by side. What was
// written to it then says nothing about one call.
func (c *conn) manyCalls() bool { return c.merge.Load() != nil }

// closeUnusedAfter has the connection closed after a time if no call ever has it.
func (c *conn) closeUnusedAfter(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = time.AfterFunc(d, c.closeUnused)
}

// closeUnused closes the connection if no call ever had it.
func (c *conn) closeUnused() {
	if !c.used.Load() && c.calls.CompareAndSwap(0, condemned) {
		_ = c.Close()
	}
}

// Write implements [net.Conn].
func (c *conn) Write(p []byte) (int, error) {
	if m := c.merge.Load(); m != nil {
		return m.Write(p)
	}
	return c.write(p)
}

func (c *conn) write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// SetWriteDeadline implements [net.Conn]. Merged writes ignore the deadline: TLS
// sets one when it closes, which would cut off buffered bytes.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if c.merge.Load() != nil {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements [net.Conn].
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.mu.Lock()
	c.closed = true
	if c.idle != nil {
		c.idle.Stop()
	}
	c.mu.Unlock()
	if m := c.merge.Load(); m != nil {
		m.close()
	}
	err := c.Conn.Close()
	c.once.Do(func() {
		c.table.mu.Lock()
		delete(c.table.open, c)
		c.table.mu.Unlock()
		c.table.release()
	})
	return err
}
