package httplimit_test

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

var proxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("::ffff:172.16.0.0/108")}

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
		{"a long header's end", from{"10.0.0.1:1", []string{strings.Repeat("1.1.1.1,", 1000) + "198.51.100.1"}}, from{"10.0.0.1:1", []string{strings.Repeat("2.2.2.2,", 1000) + "198.51.100.1"}}, true},
		{"a thousand lines' end", from{"10.0.0.1:1", lines(1000, "1.1.1.1", "198.51.100.1")}, from{"10.0.0.1:1", lines(1000, "2.2.2.2", "198.51.100.1")}, true},
		{"one line of nothing that ends is the proxy's", from{"10.0.0.1:1", []string{strings.Repeat("1", 5000)}}, from{"10.0.0.1:1", nil}, true},
		{"a proxy named as IPv4 in IPv6", from{"172.16.0.1:1", []string{"198.51.100.1"}}, from{"172.16.0.1:1", []string{"198.51.100.2"}}, false},
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

func lines(n int, each, last string) []string {
	return append(slices.Repeat([]string{each}, n), last)
}

func TestWhoHasManyNetworksIsBoundedAndHarmsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pattern = "POST /api/bots"
		post := func(h http.Handler, peer string) *http.Response { return ask(h, "POST", "/api/bots", peer) }
		h := handler(t, registrations(nil))
		passed := 0
		var refused *http.Response
		for i := range 65_536 {
			if r := post(h, fmt.Sprintf("[2001:db8:7:%x::1]:1", i)); r.StatusCode == http.StatusCreated {
				passed++
			} else {
				refused = r
			}
		}
		assert.Equal(t, 16*5, passed)
		require.NotNil(t, refused)
		assert.Equal(t, "1", refused.Header.Get("Retry-After"), "80 a minute are one in 0.75 s")
		assert.Equal(t, fmt.Sprintf("%q;r=0;t=60", pattern), refused.Header.Get("RateLimit"))

		assert.Equal(t, http.StatusCreated, post(h, "[2001:db8:8:1::1]:1").StatusCode, "another /48")
		assert.Equal(t, http.StatusCreated, post(h, "192.0.2.1:1").StatusCode, "IPv4 has no such network")

		// Who is refused for itself takes nothing from its neighbours.
		h = handler(t, registrations(nil))
		for range 1000 {
			post(h, "[2001:db8:7:1::1]:1")
		}
		for i := range 15 * 5 {
			assert.Equal(t, http.StatusCreated, post(h, fmt.Sprintf("[2001:db8:7:%x::1]:1", 2+i)).StatusCode)
		}
		// And who is refused for its neighbours, nothing from itself.
		for range 1000 {
			assert.Equal(t, http.StatusTooManyRequests, post(h, "[2001:db8:7:ffff::1]:1").StatusCode)
		}
		time.Sleep(4 * time.Second)
		for range 5 {
			assert.Equal(t, http.StatusCreated, post(h, "[2001:db8:7:ffff::1]:1").StatusCode)
		}

		cfg := registrations(nil)
		cfg.PerNetwork = -1
		h = handler(t, cfg)
		for i := range 1000 {
			assert.Equal(t, http.StatusCreated, post(h, fmt.Sprintf("[2001:db8:7:%x::1]:1", i)).StatusCode)
		}
	})
}

// A refused request takes nothing, whatever it is refused for.
func TestWhoIsRefusedForWantOfRoomKeepsItsTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := registrations(nil)
		cfg.MaxClients, cfg.PerNetwork = 2, 1
		h := handler(t, cfg)
		post := func(network, client int) int {
			return ask(h, "POST", "/api/bots", fmt.Sprintf("[2001:db8:%x:%x::1]:1", network, client)).StatusCode
		}
		for client := range 4 { // of one network, which is known for longer than any of them
			if client == 2 {
				time.Sleep(13 * time.Second)
			}
			require.Equal(t, http.StatusCreated, post(1, client))
		}
		time.Sleep(13 * time.Second)
		require.Equal(t, http.StatusCreated, post(2, 1))
		for range 100 {
			require.Equal(t, http.StatusTooManyRequests, post(3, 1), "there is no room for a third network")
		}
		time.Sleep(25 * time.Second)
		for range 5 {
			assert.Equal(t, http.StatusCreated, post(3, 1))
		}
		assert.Equal(t, http.StatusTooManyRequests, post(3, 1))
	})
}

func TestAPathThatIsNotCleanIsLimitedToo(t *testing.T) {
	for _, path := range []string{"//api/bots", "/api/./bots", "/x/../api/bots"} {
		cfg := registrations(nil)
		cfg.Routes[0].Limit = ratelimit.Per(1, time.Hour)
		h := handler(t, cfg)
		assert.Equal(t, http.StatusCreated, ask(h, "POST", "/api/bots", "192.0.2.1:1").StatusCode)
		r := httptest.NewRequest("POST", "/", nil)
		r.URL.Path, r.RemoteAddr = path, "192.0.2.1:1"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		assert.Equal(t, http.StatusTooManyRequests, w.Code, path)
	}
}

func TestOneLimiterInAnotherTellsOfBoth(t *testing.T) {
	outer, err := httplimit.New(httplimit.Config{Limit: ratelimit.Per(100, time.Minute)})
	require.NoError(t, err)
	r := ask(outer.Handler(handler(t, registrations(nil))), "POST", "/api/bots", "192.0.2.1:1")
	assert.Equal(t, []string{`"default";q=100;w=60`, `"POST /api/bots";q=5;w=60`}, r.Header.Values("RateLimit-Policy"))
	assert.Len(t, r.Header.Values("RateLimit"), 2)
}

func TestAPanickingHookHarmsNobodyElse(t *testing.T) {
	cfg := registrations(nil)
	cfg.Routes[0].Limit = ratelimit.Per(1, time.Hour)
	cfg.Refuse = func(http.ResponseWriter, *http.Request, httplimit.Refusal) { panic("hook") }
	h := handler(t, cfg)
	ask(h, "POST", "/api/bots", "192.0.2.1:1")
	assert.Panics(t, func() { ask(h, "POST", "/api/bots", "192.0.2.1:1") }, "the server's to recover, as any handler's")
	assert.Equal(t, http.StatusCreated, ask(h, "POST", "/api/bots", "192.0.2.2:1").StatusCode)
}

func TestRequestsAtTheSameMomentShareABucket(t *testing.T) {
	cfg := registrations(nil)
	cfg.Routes[0].Limit = ratelimit.Per(50, time.Hour)
	h := handler(t, cfg)
	var in atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				if ask(h, "POST", "/api/bots", "192.0.2.1:1").StatusCode == http.StatusCreated {
					in.Add(1)
				}
			}
		})
	}
	all.Wait()
	assert.EqualValues(t, 50, in.Load())
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
		Routes: []httplimit.Route{
			{Pattern: "?? ??"}, {Pattern: "GET /"}, {Pattern: "GET /"},
			{Pattern: "GET /once", Limit: ratelimit.Limit{Burst: 1}},
		},
		Limit:          ratelimit.Limit{Rate: math.NaN()},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("::ffff:0.0.0.0/80")},
		MaxClients:     -1,
	})
	for _, field := range []string{"Routes[0]", "Routes[2]", "Routes[3]", "field Limit", "TrustedProxies[0]", "MaxClients"} {
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

// BenchmarkHandler is a request of one of 100,000 clients behind a proxy,
// without and with the limit.
func BenchmarkHandler(b *testing.B) {
	requests := make([]*http.Request, 100_000)
	for i := range requests {
		requests[i] = httptest.NewRequest("POST", "/api/bots", nil)
		requests[i].RemoteAddr = "10.0.0.1:1"
		requests[i].Header.Set("X-Forwarded-For", fmt.Sprintf("198.51.%d.%d", i>>8&255, i&255))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/bots", func(http.ResponseWriter, *http.Request) {})
	cfg := registrations(proxies)
	cfg.Routes[0].Limit = ratelimit.Limit{Rate: 1e9}
	limiter, err := httplimit.New(cfg)
	require.NoError(b, err)
	for name, h := range map[string]http.Handler{"none": mux, "limited": limiter.Handler(mux)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				h.ServeHTTP(discard{}, requests[i%len(requests)])
			}
		})
	}
}

type discard struct{}

func (discard) Header() http.Header         { return make(http.Header) }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}
