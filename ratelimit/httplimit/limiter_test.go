package httplimit_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/ratelimit/httplimit"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var proxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}

func handler(t testing.TB, cfg httplimit.Config) http.Handler {
	l, err := httplimit.New(cfg)
	require.NoError(t, err)
	return l.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }))
}

func ask(h http.Handler, method, path, peer string, forwarded ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	r.RemoteAddr = peer
	for _, f := range forwarded {
		r.Header.Add("X-Forwarded-For", f)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func registrations(proxies []netip.Prefix) httplimit.Config {
	return httplimit.Config{
		Routes:         []httplimit.Route{{Pattern: "POST /api/bots", Limit: ratelimit.Per(5, time.Minute)}},
		TrustedProxies: proxies,
	}
}

func TestTheSixthRegistrationInAMinuteIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := handler(t, registrations(nil))
		for left := 4; left >= 0; left-- {
			r := ask(h, "POST", "/api/bots", "192.0.2.1:1")
			assert.Equal(t, http.StatusCreated, r.StatusCode)
			assert.Equal(t, `"POST /api/bots";q=5;w=60`, r.Header.Get("RateLimit-Policy"))
			assert.Equal(t, fmt.Sprintf(`"POST /api/bots";r=%d;t=%d`, left, (5-left)*12), r.Header.Get("RateLimit"))
		}
		r := ask(h, "POST", "/api/bots", "192.0.2.1:2")
		assert.Equal(t, http.StatusTooManyRequests, r.StatusCode)
		assert.Equal(t, "12", r.Header.Get("Retry-After"))
		assert.Equal(t, "application/problem+json", r.Header.Get("Content-Type"))
		assert.Equal(t, http.StatusCreated, ask(h, "POST", "/api/bots", "192.0.2.2:1").StatusCode, "another client")
		assert.Equal(t, http.StatusCreated, ask(h, "GET", "/api/bots", "192.0.2.1:1").StatusCode, "another route")
		time.Sleep(12 * time.Second)
		assert.Equal(t, http.StatusCreated, ask(h, "POST", "/api/bots", "192.0.2.1:1").StatusCode)
		assert.Equal(t, http.StatusTooManyRequests, ask(h, "POST", "/api/bots", "192.0.2.1:1").StatusCode)
	})
}

func TestWhoIsTheSameClient(t *testing.T) {
	type from struct {
		peer      string
		forwarded []string
	}
	for _, test := range []struct {
		name string
		a, b from
		same bool
	}{
		{"two ports", from{"192.0.2.1:1", nil}, from{"192.0.2.1:2", nil}, true},
		{"two addresses", from{"192.0.2.1:1", nil}, from{"192.0.2.2:1", nil}, false},
		{"one IPv6 network", from{"[2001:db8::1]:1", nil}, from{"[2001:db8::ffff:2]:1", nil}, true},
		{"two IPv6 networks", from{"[2001:db8::1]:1", nil}, from{"[2001:db8:0:1::1]:1", nil}, false},
		{"IPv4 in IPv6", from{"192.0.2.1:1", nil}, from{"[::ffff:192.0.2.1]:1", nil}, true},
		{"a stranger's header is not read", from{"192.0.2.1:1", []string{"198.51.100.1"}}, from{"192.0.2.1:1", []string{"198.51.100.2"}}, true},
		{"a proxy's header is", from{"10.0.0.1:1", []string{"198.51.100.1"}}, from{"10.0.0.1:1", []string{"198.51.100.2"}}, false},
		{"through two proxies", from{"10.0.0.1:1", []string{"198.51.100.1, 10.0.0.9"}}, from{"10.0.0.2:1", []string{"198.51.100.1"}}, true},
		{"what the client wrote on the left", from{"10.0.0.1:1", []string{"1.1.1.1, 198.51.100.1"}}, from{"10.0.0.1:1", []string{"2.2.2.2, 198.51.100.1"}}, true},
		{"several lines", from{"10.0.0.1:1", []string{"1.1.1.1", "198.51.100.1"}}, from{"10.0.0.1:1", []string{"198.51.100.1"}}, true},
		{"what can't be read is the proxy's", from{"10.0.0.1:1", []string{"NaN"}}, from{"10.0.0.1:1", []string{""}}, true},
		{"a socket without addresses", from{"@", nil}, from{"", nil}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := registrations(proxies)
			cfg.Routes[0].Limit = ratelimit.Per(1, time.Hour)
			h := handler(t, cfg)
			assert.Equal(t, http.StatusCreated, ask(h, "POST", "/api/bots", test.a.peer, test.a.forwarded...).StatusCode)
			want := http.StatusCreated
			if test.same {
				want = http.StatusTooManyRequests
			}
			assert.Equal(t, want, ask(h, "POST", "/api/bots", test.b.peer, test.b.forwarded...).StatusCode)
		})
	}
}

func TestAFloodOfAddressesTakesNoMoreMemoryThanItMay(t *testing.T) {
	cfg := registrations(nil)
	cfg.MaxClients = 100
	h := handler(t, cfg)
	in := 0
	for i := range 10_000 {
		if ask(h, "POST", "/api/bots", fmt.Sprintf("10.1.%d.%d:1", i>>8, i&255)).StatusCode == http.StatusCreated {
			in++
		}
	}
	assert.Equal(t, 100, in, "nobody's bucket was full again, so nobody was forgotten")
}

func TestTheHookAnswers(t *testing.T) {
	cfg := httplimit.Config{Limit: ratelimit.Limit{Burst: -1}}
	cfg.Refuse = func(w http.ResponseWriter, _ *http.Request, refusal httplimit.Refusal) {
		assert.Equal(t, 24*time.Hour, refusal.RetryAfter)
		w.WriteHeader(http.StatusTeapot)
	}
	assert.Equal(t, http.StatusTeapot, ask(handler(t, cfg), "GET", "/", "192.0.2.1:1").StatusCode)
}

func TestBadFieldsAreNamed(t *testing.T) {
	_, err := httplimit.New(httplimit.Config{
		Routes:         []httplimit.Route{{Pattern: "?? ??"}, {Pattern: "GET /"}, {Pattern: "GET /"}},
		TrustedProxies: []netip.Prefix{{}},
		MaxClients:     -1,
	})
	for _, field := range []string{"Routes[0]", "Routes[2]", "TrustedProxies[0]", "MaxClients"} {
		assert.ErrorContains(t, err, field)
	}
}

func FuzzAStrangersHeaderChangesNothing(f *testing.F) {
	f.Add("192.0.2.1:1", "198.51.100.1, ::1")
	f.Add("@", "NaN")
	f.Add("[fe80::1%eth0]:1", ",,")
	f.Fuzz(func(t *testing.T, peer, forwarded string) {
		cfg := registrations(nil)
		cfg.Routes[0].Limit = ratelimit.Per(1, time.Hour)
		h := handler(t, cfg)
		ask(h, "POST", "/api/bots", peer)
		assert.Equal(t, http.StatusTooManyRequests, ask(h, "POST", "/api/bots", peer, forwarded).StatusCode)
		cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
		ask(handler(t, cfg), "POST", "/api/bots", peer, forwarded) // must not panic
	})
}
