package session

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
)

// fakeDNS answers look-ups from a script.
type fakeDNS struct {
	mu      sync.Mutex
	addrs   []string
	err     error
	lookups int
}

func (d *fakeDNS) LookupHost(context.Context, string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lookups++
	return d.addrs, d.err
}

func (d *fakeDNS) LookupAddr(context.Context, string) ([]string, error) {
	return nil, errors.New("not asked")
}

func (d *fakeDNS) set(addrs []string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addrs, d.err = addrs, err
}

func TestAddressesAreKeptForTheirTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := &fakeDNS{addrs: []string{"192.0.2.1"}}
		c := newDNSCache(5*time.Minute, time.Second, dns, slog.New(slog.DiscardHandler))
		look := func(want string) {
			t.Helper()
			addrs, err := c.lookup(context.Background(), "ttl.example")
			require.NoError(t, err)
			assert.Equal(t, []string{want}, addrs)
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

func TestAFailedLookUpIsForgottenSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := &fakeDNS{err: &net.DNSError{Err: "no such host", IsNotFound: true}}
		c := newDNSCache(5*time.Minute, time.Second, dns, slog.New(slog.DiscardHandler))
		_, err := c.lookup(context.Background(), "late.example")
		require.Error(t, err)
		dns.set([]string{"192.0.2.1"}, nil)
		time.Sleep(dnsRetry)
		addrs, err := c.lookup(context.Background(), "late.example")
		require.NoError(t, err)
		assert.Equal(t, []string{"192.0.2.1"}, addrs)
	})
}

func testTransport(t *testing.T, cfg transportConfig) *transport {
	if cfg.dialTimeout == 0 {
		cfg.dialTimeout = 5 * time.Second
	}
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

func (d stuckDNS) LookupHost(ctx context.Context, _ string) ([]string, error) {
	close(d.started)
	<-ctx.Done()
	return nil, ctx.Err()
}
func (stuckDNS) LookupAddr(context.Context, string) ([]string, error) { return nil, nil }

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
