package session

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeDNS answers look-ups from a script.
type fakeDNS struct {
	mu      sync.Mutex
	addrs   []string
	err     error
	lookups int
}

func (d *fakeDNS) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lookups++
	var addrs []netip.Addr
	for _, text := range d.addrs {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	return addrs, d.err
}

func (d *fakeDNS) set(addrs []string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addrs, d.err = addrs, err
}

func TestAddressesAreKeptForTheirTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := &fakeDNS{addrs: []string{"192.0.2.1"}}
		c := newDNSCache(5*time.Minute, dns, slog.New(slog.DiscardHandler))
		look := func(want string) {
			t.Helper()
			addrs, _, err := c.lookup(context.Background(), "ttl.example")
			require.NoError(t, err)
			assert.Equal(t, []netip.Addr{netip.MustParseAddr(want)}, addrs)
		}
		look("192.0.2.1")
		dns.set([]string{"192.0.2.2"}, nil)
		time.Sleep(5*time.Minute - 1)
		look("192.0.2.1")
		assert.Equal(t, 1, dns.lookups)
		time.Sleep(time.Nanosecond)
		look("192.0.2.2")
		assert.Equal(t, 2, dns.lookups)

		// An outage of the resolver is ridden out on the old addresses.
		dns.set(nil, &net.DNSError{Err: "server misbehaving", IsTemporary: true})
		time.Sleep(time.Hour)
		look("192.0.2.2")
		time.Sleep(time.Hour)
		look("192.0.2.2")
		dns.set([]string{"192.0.2.3"}, nil)
		time.Sleep(5 * time.Minute)
		look("192.0.2.3")
	})
}

// silentDNS answers once.
type silentDNS struct{ fakeDNS }

func (d *silentDNS) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	addrs, err := d.fakeDNS.LookupNetIP(ctx, network, host)
	if d.lookups > 1 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return addrs, err
}

func TestANameServerThatFallsSilentDoesNotStopNewConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newDNSCache(5*time.Minute, &silentDNS{fakeDNS{addrs: []string{"192.0.2.1"}}}, slog.New(slog.DiscardHandler))
		for range 3 {
			begin := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			addrs, _, err := c.lookup(ctx, "silent.example")
			cancel()
			require.NoError(t, err)
			assert.Equal(t, []netip.Addr{netip.MustParseAddr("192.0.2.1")}, addrs)
			assert.LessOrEqual(t, time.Since(begin), dnsPatience)
			time.Sleep(10 * time.Minute)
		}
	})
}

func TestAFailedLookUpIsForgottenSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := &fakeDNS{err: &net.DNSError{Err: "no such host", IsNotFound: true}}
		c := newDNSCache(5*time.Minute, dns, slog.New(slog.DiscardHandler))
		_, _, err := c.lookup(context.Background(), "late.example")
		require.Error(t, err)
		dns.set([]string{"192.0.2.1"}, nil)
		addrs, known, err := c.lookup(context.Background(), "late.example")
		require.NoError(t, err)
		assert.False(t, known)
		assert.Equal(t, []netip.Addr{netip.MustParseAddr("192.0.2.1")}, addrs)
	})
}

func testTransport(t *testing.T, cfg transportConfig) *transport {
	if cfg.dialTimeout == 0 {
		cfg.dialTimeout = 5 * time.Second
	}
	cfg.tlsTimeout = time.Minute
	if cfg.maxConns == 0 {
		cfg.maxConns = 10
	}
	cfg.dnsTTL = time.Minute
	cfg.log = slog.New(slog.DiscardHandler)
	tr := newTransport(cfg)
	t.Cleanup(tr.close)
	return tr
}

func listen(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

func TestADialTriesEveryAddress(t *testing.T) {
	l := listen(t)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	// Nothing listens on the first two: 127.0.0.2 refuses at once.
	tr := testTransport(t, transportConfig{resolver: &fakeDNS{addrs: []string{"127.0.0.2", "127.0.0.3", "127.0.0.1"}}})
	c, err := tr.dial(context.Background(), "tcp", net.JoinHostPort("many.example", port))
	require.NoError(t, err)
	open, dialed := tr.conns.count()
	assert.Equal(t, 1, open)
	assert.Equal(t, 1, dialed)
	c.Close()
	c.Close()
	open, _ = tr.conns.count()
	assert.Zero(t, open)

	tr = testTransport(t, transportConfig{resolver: &fakeDNS{addrs: []string{"127.0.0.2", "127.0.0.3"}}})
	_, err = tr.dial(context.Background(), "tcp", net.JoinHostPort("none.example", port))
	assert.ErrorIs(t, err, syscall.ECONNREFUSED)
	assert.Empty(t, tr.conns.places, "a failed dial gives its place back")
}

// dropping makes connections to some addresses hang, as where SYNs are dropped.
func dropping(tr *transport, prefix string) {
	tr.dialer.ControlContext = func(ctx context.Context, _, address string, _ syscall.RawConn) error {
		if strings.HasPrefix(address, prefix) {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
}

func TestAnAddressFamilyThatLeadsNowhereCostsAQuarterOfASecond(t *testing.T) {
	l := listen(t)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	tr := testTransport(t, transportConfig{dialTimeout: time.Minute, resolver: &fakeDNS{addrs: []string{"2001:db8::1", "2001:db8::2", "2001:db8::3", "127.0.0.1"}}})
	dropping(tr, "[2001:db8:")
	for range 3 {
		c, err := tr.dial(context.Background(), "tcp", net.JoinHostPort("broken6.example", port))
		require.NoError(t, err)
		c.Close()
	}
}

func TestAddressFamiliesTakeTurns(t *testing.T) {
	var addrs, want []netip.Addr
	for _, a := range []string{"2001:db8::1", "2001:db8::2", "::ffff:192.0.2.1", "2001:db8::3", "192.0.2.2"} {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	for _, a := range []string{"2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3"} {
		want = append(want, netip.MustParseAddr(a))
	}
	assert.Equal(t, want, alternate(addrs))
	assert.Empty(t, alternate(nil))
}

// A self-hosted server is started anew by Docker or Kubernetes and has another
// address, long before the old one's time is up.
func TestAServerThatMovedIsFoundAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.3:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for name, hangs := range map[string]bool{"the old address refuses": false, "the old address hangs": true} {
		t.Run(name, func(t *testing.T) {
			dns := &fakeDNS{addrs: []string{"127.0.0.2"}}
			tr := testTransport(t, transportConfig{dialTimeout: time.Second, resolver: dns})
			if hangs {
				dropping(tr, "127.0.0.2:")
			}
			_, _, err := tr.dns.lookup(context.Background(), "moved.example")
			require.NoError(t, err)
			dns.set([]string{"127.0.0.3"}, nil)
			for range 2 {
				c, err := tr.dial(context.Background(), "tcp", net.JoinHostPort("moved.example", port))
				require.NoError(t, err)
				c.Close()
			}
			assert.Equal(t, 2, dns.lookups, "the new address is kept")
		})
	}
}

func TestADialThatLostTheRaceIsClosed(t *testing.T) {
	l := listen(t)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	accepted := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	tr := testTransport(t, transportConfig{resolver: &fakeDNS{addrs: []string{"127.0.0.1", "127.0.0.1", "127.0.0.1"}}})
	for range 20 {
		c, err := tr.dial(context.Background(), "tcp", net.JoinHostPort("race.example", port))
		require.NoError(t, err)
		c.Close()
	}
	open, _ := tr.conns.count()
	assert.Zero(t, open)
	l.Close()
	for c := range accepted {
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		_, err := c.Read(make([]byte, 1))
		assert.ErrorIs(t, err, io.EOF, "the client has closed it")
		c.Close()
	}
}

func TestTheBoundOnAllConnections(t *testing.T) {
	l := listen(t)
	tr := testTransport(t, transportConfig{maxConns: 2, dialTimeout: 50 * time.Millisecond})
	a, err := tr.dial(context.Background(), "tcp", l.Addr().String())
	require.NoError(t, err)
	_, err = tr.dial(context.Background(), "tcp", l.Addr().String())
	require.NoError(t, err)

	_, err = tr.dial(context.Background(), "tcp", l.Addr().String())
	assert.ErrorIs(t, err, context.DeadlineExceeded, "no place is left")
	a.Close()
	_, err = tr.dial(context.Background(), "tcp", l.Addr().String())
	assert.NoError(t, err)
}

func TestClosingEndsDialsUnderWay(t *testing.T) {
	started := make(chan struct{})
	tr := testTransport(t, transportConfig{dialTimeout: time.Hour, resolver: stuckDNS{started}})
	done := make(chan error)
	go func() {
		_, err := tr.dial(context.Background(), "tcp", "stuck.example:443")
		done <- err
	}()
	<-started
	go tr.close()
	assert.Error(t, <-done)
	_, err := tr.dial(context.Background(), "tcp", "127.0.0.1:1")
	assert.ErrorIs(t, err, errClosing)
}

// stuckDNS answers when its context ends.
type stuckDNS struct{ started chan struct{} }

func (d stuckDNS) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	close(d.started)
	<-ctx.Done()
	return nil, ctx.Err()
}

// Idle connections to one host make room for another.
func TestIdleConnectionsGiveWay(t *testing.T) {
	tr := testTransport(t, transportConfig{maxConns: 1, maxConnsPerHost: 1, idleTimeout: time.Hour})
	for range 2 {
		l := listen(t)
		server := &http.Server{Handler: http.NotFoundHandler()}
		done := make(chan struct{})
		go func() { defer close(done); _ = server.Serve(l) }()
		t.Cleanup(func() { server.Close(); <-done })
		for range 2 {
			resp, err := (&http.Client{Transport: tr.http}).Post("http://"+l.Addr().String(), "", strings.NewReader("x"))
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			require.NoError(t, err)
			resp.Body.Close()
		}
	}
	open, _ := tr.conns.count()
	assert.LessOrEqual(t, open, 1)
}
