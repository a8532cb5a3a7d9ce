package webhook

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// TelegramNetworks returns the networks that Telegram's webhooks come from
// (Bot API, "Marvin's Marvellous Guide to All Things Webhook").
func TelegramNetworks() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("149.154.160.0/20"), netip.MustParsePrefix("91.108.4.0/22")}
}

// source tells where a request comes from.
type source struct {
	networks []netip.Prefix // empty lets in everybody
	proxies  []netip.Prefix
}

func checkNetworks(name string, networks []netip.Prefix) error {
	for i, p := range networks {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("%s[%d] is not a network", name, i)
		}
	}
	return nil
}

func contain(networks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// lets reports whether a request may come in. Where it comes from is the
// peer's address; of a proxy that is trusted, what it says in X-Forwarded-For,
// which is read from the right, since the left is whatever the client sent.
func (s *source) lets(r *http.Request) bool {
	if len(s.networks) == 0 {
		return true
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	addr := peer.Addr().Unmap().WithZone("")
	lines := r.Header["X-Forwarded-For"]
	if len(s.proxies) == 0 || !contain(s.proxies, addr) {
		return contain(s.networks, addr)
	}
	// Each proxy adds one; more are somebody's joke.
	for range 16 {
		if len(lines) == 0 {
			return false // a trusted proxy that does not say whose it is
		}
		last := &lines[len(lines)-1]
		rest, text := "", *last
		if at := strings.LastIndexByte(text, ','); at >= 0 {
			rest, text = text[:at], text[at+1:]
			lines = append(slices.Clone(lines[:len(lines)-1]), rest)
		} else {
			lines = lines[:len(lines)-1]
		}
		addr, err = netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return false
		}
		addr = addr.Unmap().WithZone("")
		if !contain(s.proxies, addr) {
			return contain(s.networks, addr)
		}
	}
	return false
}
