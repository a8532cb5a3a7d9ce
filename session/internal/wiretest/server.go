package wiretest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
)

// Protocol is what a server speaks.
type Protocol uint8

const (
	// HTTP1 is HTTP/1.1 without TLS. Such a server is also a proxy: it connects
	// to the address of a CONNECT request that no script refuses.
	HTTP1 Protocol = iota + 1
	// HTTP1TLS is HTTP/1.1 over TLS 1.3.
	HTTP1TLS
	// HTTP2 is HTTP/2 over TLS 1.2.
	HTTP2
)

// String returns the protocol's name, such as "HTTP/1.1".
func (p Protocol) String() string {
	switch p {
	case HTTP1:
		return "HTTP/1.1"
	case HTTP1TLS:
		return "HTTP/1.1 over TLS"
	case HTTP2:
		return "HTTP/2"
	}
	return fmt.Sprintf("Protocol(%d)", uint8(p))
}

// Server is a server that fails as its scripts say. Make one with [Start] or
// [Reserve], and close it.
type Server struct {
	protocol Protocol
	address  string
	closed   chan struct{}
	conns    sync.WaitGroup

	// mu guards the fields below. No connection is used under it.
	mu        sync.Mutex
	idle      *sync.Cond // a connection became idle, or the server was closed
	listeners []net.Listener
	scripts   []Script
	executed  map[string]int
	arrived   int
	open      map[*conn]struct{}
	over      bool
}

// Start starts a server whose next requests meet the scripts, in their order.
func Start(p Protocol, scripts ...Script) (*Server, error) {
	l, err := listenAnywhere()
	if err != nil {
		return nil, err
	}
	s := newServer(p, scripts)
	s.address = l.Addr().String()
	s.serve(l)
	return s, nil
}

// The loopback addresses. Linux has them; other systems may need them set up.
const (
	loopback = "127.0.0.2" // clients connect from 127.0.0.1
	reserved = "127.0.0.3" // only servers of Reserve listen here
)

// Servers take the next of these ports. The kernel would search for a free one,
// which takes long after some thousand connections.
const firstPort, ports = 20000, 12000

var nextPort atomic.Uint32

func init() { nextPort.Store(rand.Uint32N(ports)) }

// listenAnywhere listens on a free port of the loopback address.
func listenAnywhere() (net.Listener, error) {
	var cfg net.ListenConfig
	cfg.SetMultipathTCP(false) // costs more, and gives nothing on one path
	for tries := 0; ; tries++ {
		port := firstPort + nextPort.Add(1)%ports
		l, err := cfg.Listen(context.Background(), "tcp", fmt.Sprintf("%s:%d", loopback, port))
		if err == nil || tries == 100 {
			return l, err
		}
	}
}

// Reserve returns a server that refuses connections until Listen is called. It
// binds the port on another loopback address, so no other server gets it.
func Reserve(p Protocol, scripts ...Script) (*Server, error) {
	l, err := listenAnywhere()
	if err != nil {
		return nil, err
	}
	s := newServer(p, scripts)
	s.listeners = []net.Listener{l}
	s.address = fmt.Sprintf("%s:%d", reserved, l.Addr().(*net.TCPAddr).Port)
	return s, nil
}

func newServer(p Protocol, scripts []Script) *Server {
	s := &Server{
		protocol: p,
		scripts:  slices.Clone(scripts),
		closed:   make(chan struct{}),
		executed: make(map[string]int),
		open:     make(map[*conn]struct{}),
	}
	s.idle = sync.NewCond(&s.mu)
	return s
}

// Listen makes a server of [Reserve] accept connections. Further calls do
// nothing.
func (s *Server) Listen() error {
	s.mu.Lock()
	listens := len(s.listeners) > 1
	s.mu.Unlock()
	if listens {
		return nil
	}
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	s.serve(l)
	return nil
}

// serve accepts connections until the listener is closed.
func (s *Server) serve(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		l.Close()
		return
	}
	s.listeners = append(s.listeners, l)
	s.conns.Go(func() { s.accept(l) })
}

func (s *Server) accept(l net.Listener) {
	for {
		tcp, err := l.Accept()
		if err != nil {
			return
		}
		c := &conn{server: s, tcp: tcp.(*net.TCPConn), stream: tcp, busy: true}
		s.mu.Lock()
		if s.over {
			s.mu.Unlock()
			tcp.Close()
			return
		}
		s.open[c] = struct{}{}
		s.mu.Unlock()
		s.conns.Go(func() {
			c.serve()
			tcp.Close()
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.open, c)
			s.idle.Broadcast()
		})
	}
}

// Close closes all connections and waits until the last goroutine has ended. It
// may be called more than once.
func (s *Server) Close() {
	s.mu.Lock()
	var open []*conn
	if !s.over {
		s.over = true
		close(s.closed)
	}
	for c := range s.open {
		open = append(open, c)
	}
	listeners := s.listeners
	s.idle.Broadcast()
	s.mu.Unlock()
	for _, l := range listeners {
		l.Close()
	}
	for _, c := range open {
		c.tcp.Close()
	}
	s.conns.Wait()
}

// Address returns the server's host and port.
func (s *Server) Address() string { return s.address }

// URL returns the server's URL.
func (s *Server) URL() string {
	if s.protocol == HTTP1 {
		return "http://" + s.address
	}
	return "https://" + s.address
}

// Add adds scripts for the requests to come.
func (s *Server) Add(scripts ...Script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scripts = append(s.scripts, scripts...)
}

// next returns the script of a request, or of a connection before its first
// request.
func (s *Server) next(ofConnection bool) Script {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ofConnection {
		s.arrived++
	}
	if len(s.scripts) == 0 || s.scripts[0].At.ofConnection() != ofConnection {
		return Script{}
	}
	script := s.scripts[0]
	if !script.Forever {
		s.scripts = s.scripts[1:]
	}
	return script
}

// Arrived returns how many requests have arrived, at least in part.
func (s *Server) Arrived() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.arrived
}

// ID returns a text that identifies a call. It must be in the request's body.
func ID(n int) string { return idPrefix + strconv.Itoa(n) + idSuffix }

const idPrefix, idSuffix = "call-", ";"

// Executed returns how many times the call was executed. The number is final
// after Close.
func (s *Server) Executed(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.executed[id]
}

func (s *Server) execute(body []byte) {
	_, rest, _ := bytes.Cut(body, []byte(idPrefix))
	number, _, _ := bytes.Cut(rest, []byte(idSuffix))
	id := idPrefix + string(number) + idSuffix
	s.mu.Lock()
	defer s.mu.Unlock()
	s.executed[id]++
}

// FailIdle waits until no request is under way, and lets a fault happen to each
// connection. The server never answers a request that still arrives there. It
// executes the call if executes is true.
func (s *Server) FailIdle(f Fault, executes bool) {
	s.mu.Lock()
	for !s.over && slices.ContainsFunc(keys(s.open), func(c *conn) bool { return c.busy }) {
		s.idle.Wait()
	}
	open := keys(s.open)
	for _, c := range open {
		c.failed = &Script{At: AfterRequest, Fault: Silence, NotExecuted: !executes}
	}
	s.mu.Unlock()
	for _, c := range open {
		c.failIdle(f)
	}
}

func keys(open map[*conn]struct{}) []*conn {
	var all []*conn
	for c := range open {
		all = append(all, c)
	}
	return all
}

func (s *Server) config(f Fault) *tls.Config {
	if f == WrongCertificate {
		return strangerTLS()
	}
	return serverTLS[s.protocol]()
}
