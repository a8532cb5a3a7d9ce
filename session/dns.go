package session

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// hostResolver looks names up. [net.Resolver] joins concurrent look-ups of a name;
// one caller's cancellation does not fail the others.
type hostResolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// dnsCache keeps looked-up addresses for a time. It refreshes them when they
// are used, not in the background: it needs no goroutine, and an idle session
// sends no queries.
type dnsCache struct {
	resolver hostResolver
	ttl      time.Duration
	log      *slog.Logger
	hosts    *lru.Cache[string, addresses]
}

// addresses are a host's, in the order in which to try them.
type addresses struct {
	list  []netip.Addr
	until time.Time
	doubt time.Time // when none of them connected
}

const (
	// maxHosts bounds the hosts that are remembered. A session has one, and
	// those that calls name in RequestOpts.APIURL.
	maxHosts = 1000
	// dnsRetry is how long the old addresses are used again after a look-up
	// has failed.
	dnsRetry = 30 * time.Second
	// dnsPatience bounds the look-up of a host whose old addresses may do.
	dnsPatience = time.Second
	// dnsPause is the least time between two look-ups because no address connects.
	dnsPause = time.Second
)

func newDNSCache(ttl time.Duration, resolver hostResolver, log *slog.Logger) *dnsCache {
	hosts, _ := lru.New[string, addresses](maxHosts) // fails for sizes below 1 only
	return &dnsCache{resolver: resolver, ttl: ttl, log: log, hosts: hosts}
}

// lookup returns a host's addresses. known is true if they come from the cache,
// also after a failed look-up.
func (c *dnsCache) lookup(ctx context.Context, host string) (addrs []netip.Addr, known bool, err error) {
	cached, found := c.hosts.Get(host)
	if found && time.Now().Before(cached.until) {
		return cached.list, true, nil
	}
	if !found {
		addrs, err = c.refresh(ctx, host)
		return addrs, false, err
	}
	limited, cancel := context.WithTimeout(ctx, dnsPatience)
	defer cancel()
	addrs, err = c.refresh(limited, host)
	if err != nil && ctx.Err() == nil {
		cached.until = time.Now().Add(dnsRetry)
		c.hosts.Add(host, cached)
		return cached.list, true, nil
	}
	return addrs, false, err
}

// mayRefresh reports whether a host none of whose addresses connects should be
// looked up again. One that refuses connections does not cost a query for each.
func (c *dnsCache) mayRefresh(host string) bool {
	cached, found := c.hosts.Get(host)
	if !found {
		return true
	}
	if time.Since(cached.doubt) < dnsPause {
		return false
	}
	cached.doubt = time.Now()
	c.hosts.Add(host, cached)
	return true
}

// refresh looks a host up, whatever the cache holds. A failure leaves the cache
// as it is.
func (c *dnsCache) refresh(ctx context.Context, host string) ([]netip.Addr, error) {
	found, err := c.resolver.LookupNetIP(ctx, "ip", host)
	if err == nil && len(found) == 0 {
		err = &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
	}
	if err != nil {
		if ctx.Err() == nil {
			c.log.WarnContext(ctx, "name look-up failed", slog.String("host", host), slog.String("err", err.Error()))
		}
		return nil, err
	}
	addrs := alternate(found)
	before, _ := c.hosts.Peek(host)
	c.hosts.Add(host, addresses{addrs, time.Now().Add(c.ttl), before.doubt})
	return addrs, nil
}

// alternate interleaves IPv4 and IPv6, starting with the first address's family
// (RFC 8305, 4), so that the second attempt uses the other one.
func alternate(addrs []netip.Addr) []netip.Addr {
	var first, second []netip.Addr
	for _, a := range addrs {
		a = a.Unmap()
		if len(first) == 0 || a.Is4() == first[0].Is4() {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	ordered := make([]netip.Addr, 0, len(addrs))
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			ordered = append(ordered, first[i])
		}
		if i < len(second) {
			ordered = append(ordered, second[i])
		}
	}
	return ordered
}
