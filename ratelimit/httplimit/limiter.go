package httplimit

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/ratelimit"
)

// Config configures a [Limiter]. Its zero value limits nothing.
type Config struct {
	// Routes have limits of their own; a client has a bucket for each.
	Routes []Route
	// Limit is that of all other requests. Zero is no limit.
	Limit ratelimit.Limit
	// TrustedProxies are the networks whose X-Forwarded-For is believed. It is
	// read from the right: the first address that is not of these networks is
	// the client's. Empty believes none.
	TrustedProxies []netip.Prefix
	// PerNetwork is how many clients' limits all IPv6 clients of one /48 have
	// together, since whoever has that has 65,536 networks to come from. 0 means
	// 16; negative is no such bound.
	PerNetwork int
	// MaxClients bounds how many clients are remembered for each route; see
	// [ratelimit.Keyed]. 0 means 131,072.
	MaxClients int
	// Refuse answers a request that is refused, with the status and body that
	// the service wants; the fields of the header are set already. Nil answers
	// 429 with an RFC 9457 problem.
	Refuse func(w http.ResponseWriter, r *http.Request, refusal Refusal)
}

// Route is what one limit is for.
type Route struct {
	// Pattern is as in [http.ServeMux], such as "POST /api/bots".
	Pattern string
	// Limit is each client's.
	Limit ratelimit.Limit
}

// Refusal says why a request is refused.
type Refusal struct {
	// Pattern is the route's; empty for [Config].Limit.
	Pattern string
	// RetryAfter is when to come back, in whole seconds, at least 1.
	RetryAfter time.Duration
}

// Limiter limits requests for each client. It is safe for concurrent use. Make
// it with [New].
type Limiter struct {
	mux    *http.ServeMux    // tells which route's pattern a request matches
	routes map[string]*route // by pattern
	rest   *route
	client clients
	refuse func(http.ResponseWriter, *http.Request, Refusal)
}

// route is a limit and its clients.
type route struct {
	pattern string
	policy  string
	name    string
	keyed   *ratelimit.Keyed[netip.Prefix]

	mu   sync.Mutex                     // held while both are asked, so that one refuses before the other takes
	wide *ratelimit.Keyed[netip.Prefix] // by /48; nil where that is not bounded
}

// New returns a Limiter. The error names every bad field of cfg.
func New(cfg Config) (*Limiter, error) {
	var bad []error
	l := &Limiter{mux: http.NewServeMux(), routes: make(map[string]*route), refuse: cfg.Refuse}
	if l.refuse == nil {
		l.refuse = problem
	}
	var err error
	if l.client, err = newClients(cfg.TrustedProxies); err != nil {
		bad = append(bad, err)
	}
	if cfg.MaxClients < 0 {
		bad = append(bad, errors.New("MaxClients is negative"))
	}
	if err := check(cfg.Limit); err != nil {
		bad = append(bad, fmt.Errorf("field Limit: %w", err))
	}
	if cfg.PerNetwork == 0 {
		cfg.PerNetwork = 16
	}
	if !cfg.Limit.IsUnlimited() {
		l.rest = newRoute("", "default", cfg.Limit, cfg)
	}
	for i, r := range cfg.Routes {
		if err := check(r.Limit); err != nil {
			bad = append(bad, fmt.Errorf("field Routes[%d]: %w", i, err))
		} else if err := l.add(r, cfg); err != nil {
			bad = append(bad, fmt.Errorf("field Routes[%d]: %w", i, err))
		}
	}
	if len(bad) > 0 {
		return nil, fmt.Errorf("configure httplimit: %w", errors.Join(bad...))
	}
	return l, nil
}

// check reports a limit that would be kept for ever for every client.
func check(l ratelimit.Limit) error {
	if l.Rate == 0 && l.Burst > 0 {
		return errors.New("its rate is 0, so no client could ever be forgotten")
	}
	return l.Check()
}

// add adds a route; ServeMux panics for a bad pattern and for two that
// conflict.
func (l *Limiter) add(r Route, cfg Config) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	l.mux.Handle(r.Pattern, http.NotFoundHandler())
	l.routes[r.Pattern] = newRoute(r.Pattern, r.Pattern, r.Limit, cfg)
	return nil
}

func newRoute(pattern, name string, limit ratelimit.Limit, cfg Config) *route {
	r := &route{pattern: pattern, name: quote(name)}
	if !limit.IsUnlimited() {
		r.keyed = ratelimit.NewKeyed[netip.Prefix](ratelimit.KeyedConfig{Limit: limit, MaxKeys: cfg.MaxClients})
		if n := cfg.PerNetwork; n > 0 && limit.Units() > 0 {
			all := ratelimit.Limit{Rate: limit.Rate * float64(n), Burst: int(min(float64(limit.Units())*float64(n), math.MaxInt32))}
			r.wide = ratelimit.NewKeyed[netip.Prefix](ratelimit.KeyedConfig{Limit: all, MaxKeys: cfg.MaxClients})
		}
		r.policy = r.name + ";q=" + strconv.Itoa(limit.Units())
		if w := limit.Window(); w > 0 {
			r.policy += ";w=" + seconds(w)
		}
	}
	return r
}

// Handler returns a handler that lets in to next what may come in.
func (l *Limiter) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limit := l.find(r)
		if limit == nil || limit.keyed == nil {
			next.ServeHTTP(w, r)
			return
		}
		d := limit.allow(l.client.of(r))
		h := w.Header()
		h.Add("RateLimit-Policy", limit.policy)
		if d.OK {
			h.Add("RateLimit", limit.state(d.Remaining, d.Reset))
			next.ServeHTTP(w, r)
			return
		}
		wait := min(max(roundUp(d.Wait), time.Second), longest)
		h.Add("RateLimit", limit.state(0, max(d.Reset, wait)))
		h.Set("Retry-After", seconds(wait))
		l.refuse(w, r, Refusal{Pattern: limit.pattern, RetryAfter: wait})
	})
}

// allow takes a client's turn if there is one, for itself and in its /48. Who is
// refused for one of them has taken from neither.
func (r *route) allow(client netip.Prefix) ratelimit.Decision {
	if r.wide == nil || !client.Addr().Is6() {
		return r.keyed.Allow(client, 1)
	}
	network, _ := client.Addr().Prefix(48)
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.wide.AllowAt(now, network, 1)
	if !all.OK {
		return all
	}
	d := r.keyed.AllowAt(now, client, 1)
	if !d.OK {
		r.wide.Give(network, 1)
		return d
	}
	d.Remaining = min(d.Remaining, all.Remaining)
	return d
}

// longest is the longest wait that a client is told.
const longest = 24 * time.Hour

func (r *route) state(remaining int, reset time.Duration) string {
	return r.name + ";r=" + strconv.Itoa(remaining) + ";t=" + seconds(min(reset, longest))
}

// find returns the limit of a request, nil where it has none. It asks for the
// pattern, since for a path that is not clean, such as //api/./bots, the
// handler is one that redirects.
func (l *Limiter) find(r *http.Request) *route {
	_, pattern := l.mux.Handler(r)
	if found, ok := l.routes[pattern]; ok {
		return found
	}
	return l.rest
}

// roundUp rounds up to whole seconds.
func roundUp(d time.Duration) time.Duration {
	if d > longest {
		return d
	}
	return (d + time.Second - 1).Truncate(time.Second)
}

func seconds(d time.Duration) string {
	return strconv.FormatInt(int64(roundUp(d)/time.Second), 10)
}

// quote makes a string of structured fields (RFC 9651): printable ASCII.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c < ' ' || c > '~':
			b.WriteByte('?')
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func problem(w http.ResponseWriter, _ *http.Request, refusal Refusal) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusTooManyRequests)
	fmt.Fprintf(w, `{"type":"about:blank","title":"Too Many Requests","status":429,"detail":"Please come back in %s seconds."}`+"\n",
		seconds(refusal.RetryAfter))
}
