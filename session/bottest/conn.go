package bottest

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// ConnStats counts connections, sockets and in-memory pipes alike.
type ConnStats struct {
	// Opened is how many there have ever been.
	Opened int
	// Open is how many there are now.
	Open int
}

// Connections tells how many connections clients have opened to the server.
// Calls that come through [Server.Handler] are not among them.
func (s *Server) Connections() ConnStats {
	s.conns.mu.Lock()
	defer s.conns.mu.Unlock()
	return ConnStats{Opened: s.conns.opened, Open: len(s.conns.open)}
}

// connTable knows the open connections. Nothing is closed under its lock.
type connTable struct {
	mu     sync.Mutex
	opened int
	open   map[*serverConn]struct{}
}

func (t *connTable) init() { t.open = make(map[*serverConn]struct{}) }

func (t *connTable) closeAll() {
	t.mu.Lock()
	all := make([]*serverConn, 0, len(t.open))
	for c := range t.open {
		all = append(all, c)
	}
	t.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}

// serverConn is the server's end of a connection.
type serverConn struct {
	net.Conn
	srv    *Server
	number int
	abort  func() // makes the client see a reset once the connection closes
	once   sync.Once
}

// track wraps a connection that was just opened. It closes it and returns nil
// if the server is closed.
func (s *Server) track(c net.Conn, abort func()) *serverConn {
	if !s.begin() {
		c.Close()
		return nil
	}
	s.conns.mu.Lock()
	defer s.conns.mu.Unlock()
	s.conns.opened++
	sc := &serverConn{Conn: c, srv: s, number: s.conns.opened, abort: abort}
	s.conns.open[sc] = struct{}{}
	return sc
}

func (c *serverConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.srv.conns.mu.Lock()
		delete(c.srv.conns.open, c)
		c.srv.conns.mu.Unlock()
		c.srv.end()
	})
	return err
}

// reset closes the connection so that the client sees "connection reset by
// peer" and not an orderly end.
func (c *serverConn) reset() {
	c.abort()
	c.Close()
}

type connKey struct{}

// newHTTPServer returns the net/http server behind every listener.
func (s *Server) newHTTPServer() *http.Server {
	return &http.Server{
		Handler:  http.HandlerFunc(s.serve),
		ErrorLog: quiet(),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, underlying(c))
		},
	}
}

// underlying returns our connection under a TLS one, or nil.
func underlying(c net.Conn) *serverConn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	sc, _ := c.(*serverConn)
	return sc
}

// connOf returns the connection a request came over, nil if it is not ours.
func connOf(r *http.Request) *serverConn {
	sc, _ := r.Context().Value(connKey{}).(*serverConn)
	return sc
}
