package bottest

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Transport returns the in-memory way to the server: a real http.Transport
// whose connections are pipes, so that it behaves like a network without one
// and runs inside testing/synctest. Any host, http or https, reaches the
// server. It is the same at every call, has a CloseIdleConnections method and
// is closed by [Server.Close].
//
// For a client with connections of its own, make an http.Transport with
// [Server.DialContext].
func (s *Server) Transport() http.RoundTripper { return s.transport }

// DialContext opens an in-memory connection to the server, whatever network
// and address are. Use it as the DialContext of an http.Transport, and as its
// DialTLSContext if https URLs are to be spoken to without TLS.
func (s *Server) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: pipeAddr(address), Err: err}
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	refused := os.NewSyscallError("connect", syscall.ECONNREFUSED)
	if s.refusing.Load() {
		return fail(refused)
	}
	client, server := net.Pipe()
	var reset atomic.Bool
	sc := s.track(server, func() { reset.Store(true) })
	if sc == nil {
		return fail(refused)
	}
	if !s.pipes.start(s) {
		sc.Close()
		return fail(refused)
	}
	select {
	case s.pipes.accept <- sc:
		return &pipeConn{Conn: client, reset: &reset}, nil
	case <-ctx.Done():
		sc.Close()
		return fail(ctx.Err())
	case <-s.ctx.Done():
		sc.Close()
		return fail(refused)
	}
}

func (s *Server) newTransport() *http.Transport {
	return &http.Transport{
		DialContext:         s.DialContext,
		DialTLSContext:      s.DialContext,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
	}
}

// pipeConn is a client's end of an in-memory connection. It tells a reset
// from an end, which net.Pipe does not.
type pipeConn struct {
	net.Conn
	reset *atomic.Bool
}

func (c *pipeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, c.cause("read", err)
}

func (c *pipeConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.cause("write", err)
}

func (c *pipeConn) cause(op string, err error) error {
	if err == nil || !c.reset.Load() {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, syscall.ECONNRESET)}
}

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

// pipeListener hands in-memory connections to the HTTP server, whose accept
// loop starts with the first of them.
type pipeListener struct {
	accept  chan net.Conn
	done    chan struct{}
	mu      sync.Mutex
	started bool
	closed  bool
}

func (l *pipeListener) init() {
	l.accept = make(chan net.Conn)
	l.done = make(chan struct{})
}

// start runs the accept loop unless it runs. It reports false after close.
func (l *pipeListener) start(s *Server) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	if !l.started {
		if !s.begin() {
			return false
		}
		l.started = true
		go func() {
			defer s.end()
			_ = s.memory.Serve(l) // ends with close
		}()
	}
	return true
}

func (l *pipeListener) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.done)
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { return nil }
func (l *pipeListener) Addr() net.Addr { return pipeAddr("bottest") }

// quiet is a log for what is no news in a test server: clients that go away.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
