package session

import (
	"context"
	"crypto/tls"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// transportConfig is the part of Config that is about connections, with the
// defaults filled in.
type transportConfig struct {
	dialTimeout, tlsTimeout, idleTimeout, dnsTTL, keepAlive time.Duration
	maxConns, maxConnsPerHost                               int
	tls                                                     *tls.Config
	proxy                                                   func(*http.Request) (*url.URL, error)
	log                                                     *slog.Logger
	resolver                                                hostResolver // nil: the system's
}

// forLongPolls returns the same without bounds on connections. A long poll that
// speaks HTTP/1.1 has a connection for itself, nearly all the time; there is
// one for each bot, so it is who polls that bounds them.
func (c transportConfig) forLongPolls() transportConfig {
	c.maxConns, c.maxConnsPerHost = math.MaxInt32, math.MaxInt32
	return c
}

// transport is the session's own http.Transport and what it dials with.
type transport struct {
	http   *http.Transport
	dialer net.Dialer
	dns    *dnsCache
	conns  *connTable
	limit  time.Duration // for the whole of a dial

	// closed ends dials and look-ups under way. net/http goes on with a dial
	// whose call has ended, since another call may want the connection.
	closed context.Context
	cancel context.CancelFunc
}

func newTransport(cfg transportConfig) *transport {
	t := &transport{
		dialer: net.Dialer{KeepAlive: cfg.keepAlive},
		conns:  newConnTable(cfg.maxConns),
		limit:  cfg.dialTimeout,
	}
	t.closed, t.cancel = context.WithCancel(context.Background())
	if cfg.resolver == nil {
		cfg.resolver = net.DefaultResolver
	}
	t.dns = newDNSCache(cfg.dnsTTL, cfg.dialTimeout, closingResolver{cfg.resolver, t.closed}, cfg.log)
	if cfg.proxy == nil {
		cfg.proxy = http.ProxyFromEnvironment
	}
	t.http = &http.Transport{
		Proxy:               cfg.proxy,
		DialContext:         t.dial,
		TLSClientConfig:     cfg.tls.Clone(), // net/http writes to it
		TLSHandshakeTimeout: cfg.tlsTimeout,
		ForceAttemptHTTP2:   true, // net/http hesitates where DialContext or TLSClientConfig is set
		MaxIdleConns:        cfg.maxConns,
		MaxIdleConnsPerHost: cfg.maxConnsPerHost,
		MaxConnsPerHost:     cfg.maxConnsPerHost,
		IdleConnTimeout:     cfg.idleTimeout,
		DisableCompression:  true, // replies are small; Telegram compresses none
	}
	return t
}

// dial connects to one of a host's addresses, in the resolver's order, each
// with a fair share of the time that is left.
func (t *transport) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.limit)
	defer cancel()
	defer context.AfterFunc(t.closed, cancel)()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if err := t.conns.acquire(ctx, t.http.CloseIdleConnections); err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	defer t.conns.dials.Done()
	conn, err := t.dialAny(ctx, network, host, port)
	if err != nil {
		t.conns.release()
		return nil, err
	}
	return t.conns.add(conn)
}

func (t *transport) dialAny(ctx context.Context, network, host, port string) (net.Conn, error) {
	addrs := []string{host}
	if net.ParseIP(host) == nil {
		var err error
		if addrs, err = t.dns.lookup(ctx, host); err != nil {
			return nil, err
		}
	}
	var failed []error
	for i, addr := range addrs {
		share := t.limit
		if deadline, ok := ctx.Deadline(); ok {
			share = time.Until(deadline) / time.Duration(len(addrs)-i)
		}
		conn, err := t.dialOne(ctx, share, network, net.JoinHostPort(addr, port))
		if err == nil {
			return conn, nil
		}
		failed = append(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(failed...)
}

func (t *transport) dialOne(ctx context.Context, limit time.Duration, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return t.dialer.DialContext(ctx, network, address)
}

// close closes every connection, idle or not. It is called when no call is
// under way.
func (t *transport) close() {
	t.cancel()
	t.conns.close()
	t.http.CloseIdleConnections()
}

// connTable bounds and remembers the open connections.
type connTable struct {
	places chan struct{}
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

// add remembers a connection, which gives its place back when it is closed.
func (t *connTable) add(c net.Conn) (net.Conn, error) {
	tracked := &conn{Conn: c, table: t}
	t.mu.Lock()
	closed := t.closed
	if !closed {
		t.open[tracked] = struct{}{}
		t.dialed++
	}
	t.mu.Unlock()
	if closed {
		tracked.Close()
		return nil, errClosing
	}
	return tracked, nil
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

// conn is a connection in the table.
type conn struct {
	net.Conn
	table *connTable
	once  sync.Once
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.table.mu.Lock()
		delete(c.table.open, c)
		c.table.mu.Unlock()
		c.table.release()
	})
	return err
}
