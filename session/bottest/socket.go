package bottest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"
)

// Start listens on a free port of 127.0.0.1 and serves plain HTTP there. It
// returns the URL to give to a client as the Bot API's address. A second call
// returns the same URL.
func (s *Server) Start() (url string, err error) { return s.start(nil) }

// StartTLS is [Server.Start] over TLS, with HTTP/2 on offer. The certificate
// is self-signed; [Server.TLSConfig] trusts it.
func (s *Server) StartTLS() (url string, err error) {
	cert, pool, err := selfSigned()
	if err != nil {
		return "", fmt.Errorf("bottest: make a certificate: %w", err)
	}
	return s.start(&identity{cert: cert, pool: pool})
}

// URL is where the server listens, "" before [Server.Start].
func (s *Server) URL() string {
	s.socket.mu.Lock()
	defer s.socket.mu.Unlock()
	return s.socket.url
}

// TLSConfig is what a client needs to trust the server after
// [Server.StartTLS]. Each call returns a new one; it is nil without StartTLS.
func (s *Server) TLSConfig() *tls.Config {
	s.socket.mu.Lock()
	defer s.socket.mu.Unlock()
	if s.socket.id == nil {
		return nil
	}
	return &tls.Config{RootCAs: s.socket.id.pool, MinVersion: tls.VersionTLS12}
}

// Refuse makes every new connection be refused, as if the server were not
// there, and closes those that are open. A listening socket is really closed;
// Refuse(false) opens it again on the same port, and fails only if somebody
// took that port meanwhile.
func (s *Server) Refuse(refuse bool) error {
	s.refusing.Store(refuse)
	if !refuse {
		return s.socket.reopen(s)
	}
	s.socket.pause()
	s.conns.closeAll()
	return nil
}

type identity struct {
	cert tls.Certificate
	pool *x509.CertPool
}

// socket is the listening side on the loopback interface.
type socket struct {
	mu       sync.Mutex
	id       *identity // nil for plain HTTP
	url      string
	address  string
	listener net.Listener // nil while refusing
	http     *http.Server
}

func (s *Server) start(id *identity) (string, error) {
	k := &s.socket
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.url != "" {
		if (id == nil) != (k.id == nil) {
			return "", errors.New("bottest: start: the server already listens the other way")
		}
		return k.url, nil
	}
	k.id, k.address, k.http = id, "127.0.0.1:0", s.newHTTPServer()
	if id != nil {
		k.http.TLSConfig = &tls.Config{
			Certificates: []tls.Certificate{id.cert},
			NextProtos:   []string{"h2", "http/1.1"},
			MinVersion:   tls.VersionTLS12,
		}
	}
	if err := k.listen(s); err != nil {
		k.id = nil
		return "", err
	}
	scheme := "http://"
	if id != nil {
		scheme = "https://"
	}
	k.address = k.listener.Addr().String()
	k.url = scheme + k.address
	return k.url, nil
}

// listen opens the socket and starts its accept loop. The caller holds mu.
func (k *socket) listen(s *Server) error {
	l, err := net.Listen("tcp4", k.address)
	if err != nil {
		return fmt.Errorf("bottest: listen: %w", err)
	}
	if !s.begin() {
		l.Close()
		return errors.New("bottest: listen: the server is closed")
	}
	k.listener = &socketListener{Listener: l, srv: s}
	go func(l net.Listener, h *http.Server, withTLS bool) {
		defer s.end()
		if withTLS {
			_ = h.ServeTLS(l, "", "") // ends when l is closed
		} else {
			_ = h.Serve(l)
		}
	}(k.listener, k.http, k.id != nil)
	return nil
}

func (k *socket) pause() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.listener != nil {
		k.listener.Close()
		k.listener = nil
	}
}

func (k *socket) reopen(s *Server) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.url == "" || k.listener != nil {
		return nil
	}
	return k.listen(s)
}

func (k *socket) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.http != nil {
		k.http.Close()
	}
	if k.listener != nil {
		k.listener.Close()
		k.listener = nil
	}
}

// socketListener counts the connections it accepts.
type socketListener struct {
	net.Listener
	srv *Server
}

func (l *socketListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	sc := l.srv.track(c, func() {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // close sends RST
		}
	})
	if sc == nil {
		return nil, net.ErrClosed
	}
	return sc, nil
}

func selfSigned() (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(now.UnixNano()),
		Subject:               pkix.Name{CommonName: "bottest"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(1, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		DNSNames:              []string{"localhost", "api.telegram.org"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool, nil
}
