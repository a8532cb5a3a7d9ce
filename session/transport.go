package session

import (
	"context"
	"crypto/tls"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// transportConfig is the part of Config that is about connections, with the
// defaults filled in.
type transportConfig struct {
	dialTimeout, tlsTimeout, idleTimeout, dnsTTL, keepAlive time.Duration
	pingInterval, pingTimeout                               time.Duration
	maxConns, maxConnsPerHost                               int
	writeBuffer                                             int // of a connection; 0: net/http's default
	tls                                                     *tls.Config
	proxy                                                   func(*http.Request) (*url.URL, error)
	log                                                     *slog.Logger
	resolver                                                hostResolver // nil: the system's
}

// forLongPolls returns the same without bounds on connections. A long poll that
// speaks HTTP/1.1 has a connection for itself, nearly all the time; there is
// one for each bot, so the poller bounds them.
func (c transportConfig) forLongPolls() transportConfig {
	c.maxConns, c.maxConnsPerHost = math.MaxInt32, math.MaxInt32
	c.writeBuffer = 0 // what a poll sends is short
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
	t.conns.unused = cfg.dialTimeout + cfg.tlsTimeout
	t.closed, t.cancel = context.WithCancel(context.Background())
	if cfg.resolver == nil {
		cfg.resolver = net.DefaultResolver
	}
	t.dns = newDNSCache(cfg.dnsTTL, cfg.resolver, cfg.log)
	if cfg.proxy == nil {
		cfg.proxy = http.ProxyFromEnvironment
	} else {
		cfg.proxy = withoutPath(cfg.proxy)
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
		WriteBufferSize:     cfg.writeBuffer,
		DisableCompression:  true, // replies are small; Telegram compresses none
		// A connection that died silently would be used for ever, as net/http
		// sends no pings of its own (golang/go#36026).
		HTTP2: &http.HTTP2Config{SendPingTimeout: cfg.pingInterval, PingTimeout: cfg.pingTimeout},
	}
	return t
}

// withoutPath keeps the path, which holds the token, from a function that
// chooses a proxy.
func withoutPath(choose func(*http.Request) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	return func(r *http.Request) (*url.URL, error) {
		bare := &http.Request{Method: r.Method, URL: &url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host, Path: "/"}, Host: r.Host, Header: http.Header{}}
		return choose(bare.WithContext(r.Context()))
	}
}

// dial connects to one of a host's addresses.
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
	conn, err := t.dialHost(ctx, network, host, port)
	if err != nil {
		t.conns.release()
		return nil, err
	}
	keepSendQueueShort(conn)
	return t.conns.add(conn, address)
}

// dialHost looks a host up and connects to it. Cached addresses get half of
// DialTimeout. If none connects, it looks the host up again.
func (t *transport) dialHost(ctx context.Context, network, host, port string) (net.Conn, error) {
	if net.ParseIP(host) != nil {
		return t.dialer.DialContext(ctx, network, net.JoinHostPort(host, port))
	}
	addrs, cached, err := t.dns.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	if cached {
		conn, failed := t.raceCached(ctx, network, port, addrs)
		if failed == nil || ctx.Err() != nil {
			return conn, failed
		}
		if !t.dns.mayRefresh(host) {
			return nil, failed
		}
		if addrs, err = t.dns.refresh(ctx, host); err != nil {
			return nil, errors.Join(failed, err)
		}
	}
	return t.race(ctx, network, port, addrs)
}

func (t *transport) raceCached(ctx context.Context, network, port string, addrs []netip.Addr) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.limit/2)
	defer cancel()
	return t.race(ctx, network, port, addrs)
}

// raceDelay is the head start of an address (RFC 8305, Happy Eyeballs: 250 ms).
// [net.Dialer] also races, but only addresses that it looked up itself.
const raceDelay = 250 * time.Millisecond

// race connects to the first address that answers. An address that fails makes
// way for the next one at once.
func (t *transport) race(ctx context.Context, network, port string, addrs []netip.Addr) (net.Conn, error) {
	dial := func(ctx context.Context, addr netip.Addr) (net.Conn, error) {
		return t.dialer.DialContext(ctx, network, net.JoinHostPort(addr.String(), port))
	}
	if len(addrs) == 1 {
		return dial(ctx, addrs[0])
	}
	type result struct {
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan result)
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- { // those that lost
			if r := <-results; r.conn != nil {
				_ = r.conn.Close()
			}
		}
	}()
	next := time.NewTimer(0)
	defer next.Stop()
	var failed []error
	for waiting := addrs; len(waiting) > 0 || running > 0; {
		select {
		case <-next.C:
			if len(waiting) == 0 {
				continue
			}
			addr := waiting[0]
			waiting = waiting[1:]
			running++
			go func() {
				conn, err := dial(ctx, addr)
				results <- result{conn, err}
			}()
			next.Reset(raceDelay)
		case r := <-results:
			running--
			if r.err == nil {
				return r.conn, nil
			}
			failed = append(failed, r.err)
			if ctx.Err() != nil {
				return nil, errors.Join(failed...)
			}
			next.Reset(0)
		}
	}
	return nil, errors.Join(failed...)
}

// close closes every connection, idle or not. It is called when no call is
// under way.
func (t *transport) close() {
	t.cancel()
	t.conns.close()
	t.http.CloseIdleConnections()
}
