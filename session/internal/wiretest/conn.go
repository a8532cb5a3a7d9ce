package wiretest

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
)

// conn is a connection of a server.
type conn struct {
	server *Server
	tcp    *net.TCPConn
	tls    *tls.Conn // nil without TLS
	stream net.Conn  // tls if there is TLS, else tcp
	r      *bufio.Reader

	// server.mu guards these.
	busy   bool
	failed *Script // for requests after FailIdle
	last   uint32  // last stream of HTTP/2 before FailIdle
}

// serve serves the connection until its end. The caller closes the socket.
func (c *conn) serve() {
	script := c.server.next(true)
	if c.server.protocol != HTTP1 {
		if !c.handshake(script) {
			return
		}
	} else if script.At == OnAccept {
		c.strike(script.Fault, 0)
		return
	}
	c.r = bufio.NewReader(c.stream)
	if c.server.protocol == HTTP2 {
		c.serveHTTP2()
	} else {
		c.serveHTTP1()
	}
}

// handshake makes the TLS handshake, and reports whether the connection goes on.
func (c *conn) handshake(s Script) bool {
	under := net.Conn(c.tcp)
	switch {
	case s.At == OnAccept && s.Fault != WrongCertificate:
		c.strike(s.Fault, 0)
		return false
	case s.At == AfterClientHello:
		record := make([]byte, 5)
		if _, err := io.ReadFull(c.tcp, record); err == nil {
			_, _ = io.CopyN(io.Discard, c.tcp, int64(binary.BigEndian.Uint16(record[3:])))
		}
		c.strike(s.Fault, 0)
		return false
	case s.At == InServerHello:
		under = &cutWriter{Conn: c.tcp, left: 50}
	}
	tunnel := tls.Server(under, c.server.config(s.Fault))
	if err := tunnel.Handshake(); err != nil {
		if s.At == InServerHello {
			c.strike(s.Fault, 0)
		}
		return false
	}
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.tls, c.stream = tunnel, tunnel
	return true
}

// begin is called when a request arrives. It returns the script of the request.
func (c *conn) begin(stream uint32) Script {
	c.server.mu.Lock()
	c.busy = true
	failed := c.failed
	if failed == nil {
		c.last = max(c.last, stream)
	}
	c.server.mu.Unlock()
	if failed != nil {
		return *failed
	}
	return c.server.next(false)
}

// rest is called when no request is under way.
func (c *conn) rest() {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.busy = false
	c.server.idle.Broadcast()
}

// failIdle lets a fault happen while another goroutine waits for a request.
func (c *conn) failIdle(f Fault) {
	switch f.kind {
	case closes:
		c.tcp.Close()
	case resets:
		_ = c.tcp.SetLinger(0)
		c.tcp.Close()
	case notifies:
		if c.tls != nil {
			_ = c.tls.CloseWrite()
		}
		_ = c.tcp.CloseWrite()
	case halfCloses:
		_ = c.tcp.CloseWrite()
	case excludes, excludesAndCloses, includesAndCloses:
		c.server.mu.Lock()
		last := c.last
		c.server.mu.Unlock()
		c.write(goAway(last, f.code))
		if f.kind != excludes {
			_ = c.tls.CloseWrite()
			_ = c.tcp.CloseWrite()
		}
	}
}

// cutWriter fails when a number of bytes was written.
type cutWriter struct {
	net.Conn
	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) <= w.left {
		w.left -= len(p)
		return w.Conn.Write(p)
	}
	n, err := w.Conn.Write(p[:w.left])
	w.left -= n
	if err == nil {
		err = io.ErrShortWrite
	}
	return n, err
}
