package session

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/rs/dnscache"
)

// hostResolver is what names are looked up with.
type hostResolver = dnscache.DNSResolver

// dnsCache keeps looked-up addresses for a while. It refreshes them when they
// are used, not in the background: no goroutine is needed, and an idle session
// asks nobody anything.
type dnsCache struct {
	resolver dnscache.Resolver
	ttl      time.Duration
	log      *slog.Logger

	mu     sync.Mutex // guards loaded; nothing is looked up under it
	loaded map[string]time.Time
}

// dnsRetry is how long a failed look-up is believed. dnscache keeps failures
// like addresses, until it is told to refresh.
const dnsRetry = time.Second

func newDNSCache(ttl, timeout time.Duration, resolver hostResolver, log *slog.Logger) *dnsCache {
	return &dnsCache{
		resolver: dnscache.Resolver{Timeout: timeout, Resolver: resolver},
		ttl:      ttl,
		log:      log,
		loaded:   make(map[string]time.Time),
	}
}

func (c *dnsCache) lookup(ctx context.Context, host string) ([]string, error) {
	if c.stale(host, c.ttl) {
		// Keeps the old addresses where the look-up fails. What nobody asked
		// for since the last time is dropped.
		c.resolver.RefreshWithOptions(dnscache.ResolverRefreshOptions{ClearUnused: true, PersistOnFailure: true})
	}
	addrs, err := c.resolver.LookupHost(ctx, host)
	if err != nil && c.stale(host, dnsRetry) {
		c.resolver.Refresh(false)
		addrs, err = c.resolver.LookupHost(ctx, host)
	}
	if err != nil {
		c.log.WarnContext(ctx, "name look-up failed", slog.String("host", host), slog.String("error", err.Error()))
	}
	return addrs, err
}

// stale reports whether a host was looked up before, longer than age ago, and
// if so takes now as the time of its look-up, so that one caller refreshes.
func (c *dnsCache) stale(host string, age time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	last, known := c.loaded[host]
	if !known {
		c.loaded[host] = now
		return false
	}
	if now.Sub(last) < age {
		return false
	}
	c.loaded[host] = now
	return true
}

// closingResolver ends look-ups when the transport closes; dnscache's own
// contexts only have a time-out.
type closingResolver struct {
	hostResolver
	closed context.Context
}

func (r closingResolver) LookupHost(ctx context.Context, host string) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.closed, cancel)()
	return r.hostResolver.LookupHost(ctx, host)
}
