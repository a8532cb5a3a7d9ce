package httplimit

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"github.com/realclientip/realclientip-go"
)

// clients tells who a request comes from.
type clients struct {
	trusted  []netip.Prefix
	strategy *realclientip.RightmostTrustedRangeStrategy // nil where no proxy is trusted
}

func newClients(trusted []netip.Prefix) (clients, error) {
	c := clients{trusted: trusted}
	if len(trusted) == 0 {
		return c, nil
	}
	var networks []net.IPNet
	for i, p := range trusted {
		if !p.IsValid() {
			return c, fmt.Errorf("TrustedProxies[%d] is not a network", i)
		}
		p = p.Masked()
		networks = append(networks, net.IPNet{
			IP:   p.Addr().AsSlice(),
			Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()),
		})
	}
	strategy, err := realclientip.NewRightmostTrustedRangeStrategy("X-Forwarded-For", networks)
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
	if client := parse(c.strategy.ClientIP(r.Header, "")); client.IsValid() {
		return network(client)
	}
	// Nothing in it, or nothing that can be read: the proxy itself.
	return network(peer)
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
