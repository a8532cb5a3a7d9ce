package httplimit

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/realclientip/realclientip-go"
)

// clients tells who a request comes from.
type clients struct {
	trusted  []netip.Prefix
	strategy *realclientip.RightmostTrustedRangeStrategy // nil where no proxy is trusted
}

func newClients(trusted []netip.Prefix) (clients, error) {
	var c clients
	if len(trusted) == 0 {
		return c, nil
	}
	var networks []net.IPNet
	for i, p := range trusted {
		if !p.IsValid() {
			return c, fmt.Errorf("TrustedProxies[%d] is not a network", i)
		}
		if p.Addr().Is4In6() {
			if p.Bits() < 96 {
				return c, fmt.Errorf("TrustedProxies[%d] is %v, which is neither IPv4 nor IPv6", i, p)
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		p = p.Masked()
		c.trusted = append(c.trusted, p)
		networks = append(networks, net.IPNet{
			IP:   p.Addr().AsSlice(),
			Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
		})
	}
	strategy, err := realclientip.NewRightmostTrustedRangeStrategy(forwardedFor, networks)
	c.strategy = &strategy
	return c, err
}

// of returns the client of a request: an IPv4 address, or the /64 of an IPv6
// one. Those whose address can't be told, as over a socket of the file system,
// are one client.
//
// The library reads the header and leaves it to its caller whether the peer
// may be believed.
func (c clients) of(r *http.Request) netip.Prefix {
	peer := parse(r.RemoteAddr)
	if c.strategy == nil || !c.trusts(peer) {
		return network(peer)
	}
	header := http.Header{forwardedFor: lastOf(r.Header[forwardedFor])}
	if client := parse(c.strategy.ClientIP(header, r.RemoteAddr)); client.IsValid() {
		return network(client)
	}
	// Nothing in it, or nothing that can be read: the proxy itself.
	return network(peer)
}

const (
	forwardedFor = "X-Forwarded-For"
	// readable is how much of the header is read, in bytes: room for two dozen
	// proxies. Most of what a client sends on the left is not worth parsing.
	readable = 1 << 10
)

// lastOf returns the addresses at the end of a header's lines.
func lastOf(lines []string) []string {
	room := readable
	for i := len(lines) - 1; i >= 0; i-- {
		if room -= len(lines[i]) + 1; room < 0 {
			// The first address of the rest may be half of one.
			rest := lines[i][min(-room, len(lines[i])):]
			if _, whole, found := strings.Cut(rest, ","); found {
				return append([]string{whole}, lines[i+1:]...)
			}
			return lines[i+1:]
		}
	}
	return lines
}

func (c clients) trusts(peer netip.Addr) bool {
	for _, p := range c.trusted {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// parse reads an address with or without a port.
func parse(text string) netip.Addr {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.Addr().Unmap().WithZone("")
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

func network(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
