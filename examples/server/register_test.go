package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
)

// syncLog is a log that is read while others write.
type syncLog struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *syncLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *syncLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestRegistrationsAreLimitedToFiveAMinuteForEachClient(t *testing.T) {
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	var log syncLog
	f, err := newFleet(context.Background(), options{}, session.Config{Transport: srv.Transport()}, session.LimitConfig{ColdStarts: []ratelimit.Limit{}},
		slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	ctx := context.Background()
	defer f.close(ctx)
	require.NoError(t, f.startSource(ctx, options{}))
	require.NoError(t, f.serveWeb(ctx, "127.0.0.1:0"))
	_, url, _ := strings.Cut(log.String(), "url=")
	url, _, _ = strings.Cut(url, "/status")
	url += "/api/bots"
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	post := func(body string) (int, string, http.Header) {
		r, err := client.Post(url, "application/json", strings.NewReader(body))
		require.NoError(t, err)
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		return r.StatusCode, string(text), r.Header
	}
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	status, text, _ := post(`{"id":"shop","token":"` + bot.Token() + `"}`)
	assert.Equal(t, http.StatusCreated, status, text)
	assert.Contains(t, text, `"username":"shop_bot"`)
	assert.NotContains(t, text, bot.Token())
	status, _, _ = post(`{"id":"shop","token":"` + bot.Token() + `"}`)
	assert.Equal(t, http.StatusOK, status, "again: it runs already")
	status, text, _ = post(`{"id":"other","token":"` + bot.Token() + `"}`)
	assert.Equal(t, http.StatusConflict, status, text)
	status, text, h := post(`{"id":"x","token":"123:nobody"}`)
	assert.GreaterOrEqual(t, status, 400)
	assert.Less(t, status, 500, text)
	assert.Equal(t, "application/problem+json", h.Get("Content-Type"))
	assert.NotContains(t, text, "nobody")
	status, text, _ = post(`{"id":"x","token":"` + bot.Token())
	assert.Equal(t, http.StatusBadRequest, status)
	assert.NotContains(t, text, bot.Token())
	status, text, h = post(`{}`)
	assert.Equal(t, http.StatusTooManyRequests, status)
	assert.Equal(t, "application/problem+json", h.Get("Content-Type"))
	assert.NotEmpty(t, h.Get("Retry-After"))
	assert.Contains(t, text, `"kind":"throttled"`)

	ann.Write(bot, "hello")
	assert.Eventually(t, func() bool { return srv.CallCount("sendMessage") == 1 }, 10*time.Second, 5*time.Millisecond)
	f.close(ctx)
	assert.NotContains(t, log.String(), bot.Token())
}

func TestWhatIsWrongWithARequestIsSaidInAProblemDocument(t *testing.T) {
	s := newSite(t, byPolling)
	s.add("shop")
	const sample = `JSON such as {"id":"customer-7","token":"123456:..."}`
	for n, row := range []struct {
		method, path, body string
		status             int
		detail             string
	}{
		{"GET", "/nowhere", "", 404, "There is no such page."},
		{"GET", "/api/bots", "", 405, "It takes: POST."},
		{"DELETE", "/healthz", "", 405, "It takes: GET, HEAD."},
		{"POST", "/api/bots", "id=shop", 400, sample},
		{"POST", "/api/bots", `{"name":"shop"}`, 400, sample},
		{"POST", "/api/bots", `{"token":"123:abc"}`, 400, "The id must have 1 to 128 bytes"},
		{"POST", "/api/bots", `{"id":"123456:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","token":"x"}`, 400, "not be a token"},
		{"POST", "/api/bots", `{"id":"new","token":"x"}`, 400, "This is not a valid bot token."},
		{"POST", "/api/bots", `{"id":"new","token":"123456:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`, 422, "does not accept this bot's token"},
		{"POST", "/api/bots/shop/verify", `{"user":"Ann"}`, 400, `{"user":123456}`},
		{"POST", "/api/bots/shop/verify", `{"user":-1}`, 400, `{"user":123456}`},
		{"POST", "/api/bots/nobody/verify", "", 404, "could not find this"},
		{"GET", "/api/bots/nobody/verify", "", 404, "could not find this"},
		{"GET", "/api/bots/nobody/health", "", 404, "could not find this"},
		{"GET", "/api/bots/shop/analytics?days=many", "", 400, "The parameter days"},
	} {
		r := httptest.NewRequest(row.method, row.path, strings.NewReader(row.body))
		r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", n)
		w := httptest.NewRecorder()
		s.web.ServeHTTP(w, r)
		what := row.method + " " + row.path + " " + row.body
		assert.Equal(t, row.status, w.Code, what)
		assert.Equal(t, "application/problem+json", w.Header().Get("Content-Type"), what)
		var p struct {
			Title, Detail, Kind string
			Status              int
		}
		decode(t, w, &p)
		assert.Contains(t, p.Detail, row.detail, what)
		assert.Equal(t, row.status, p.Status, what)
		assert.NotEmpty(t, p.Kind, what)
		assert.Equal(t, http.StatusText(row.status), p.Title, what)
		if row.status == http.StatusMethodNotAllowed {
			assert.NotEmpty(t, w.Header().Get("Allow"), what)
		}
	}
	w := s.get("/api//health") // as the mux has it
	assert.Less(t, w.Code, 400)
}

func TestOfTwoWhoRegisterTheSameAtOnceOneHasMadeIt(t *testing.T) {
	s := newSite(t, byPolling)
	from := 0 // each from an address of its own
	post := func(address, body string) int {
		r := httptest.NewRequest(http.MethodPost, "/api/bots", strings.NewReader(body))
		r.RemoteAddr = address
		w := httptest.NewRecorder()
		s.web.ServeHTTP(w, r)
		return w.Code
	}
	atOnce := func(bodies ...string) []int {
		codes := make([]int, len(bodies))
		var all sync.WaitGroup
		for i, body := range bodies {
			from++
			address := fmt.Sprintf("192.0.2.%d:1", from)
			all.Go(func() { codes[i] = post(address, body) })
		}
		all.Wait()
		slices.Sort(codes)
		return codes
	}
	for i := range 20 {
		id, bot := fmt.Sprint("shop", i), s.srv.NewBot(fmt.Sprintf("shop%d_bot", i))
		body := fmt.Sprintf(`{"id":%q,"token":%q}`, id, bot.Token())
		assert.Equal(t, []int{200, 200, 201}, atOnce(body, body, body), "the same")
		other := s.srv.NewBot(fmt.Sprintf("other%d_bot", i))
		assert.Equal(t, []int{201, 409}, atOnce(
			fmt.Sprintf(`{"id":"a%d","token":%q}`, i, other.Token()), fmt.Sprintf(`{"id":"b%d","token":%q}`, i, other.Token())), "one bot, two tenants")
		x, y := s.srv.NewBot(fmt.Sprintf("x%d_bot", i)), s.srv.NewBot(fmt.Sprintf("y%d_bot", i))
		assert.Equal(t, []int{201, 409}, atOnce(
			fmt.Sprintf(`{"id":"c%d","token":%q}`, i, x.Token()), fmt.Sprintf(`{"id":"c%d","token":%q}`, i, y.Token())), "one tenant, two bots")
	}
}

// Whatever a stranger sends gets a friendly answer that shows no token, and no
// request makes the service fail.
func FuzzRoutes(f *testing.F) {
	secret := "123456789:AAHsecretsecretsecretsecretsecret00"
	for _, seed := range [][3]string{
		{"POST", "/api/bots", `{"id":"shop","token":"` + secret + `"}`},
		{"POST", "/api/bots", `{"id":"shop\u0000","token":"` + secret + `"}`},
		{"POST", "/api/bots", `{"id":"` + strings.Repeat("x", 5000) + `"}`},
		{"POST", "/api/bots", `{"id":{},"token":["` + secret + `"]}`},
		{"POST", "/api/bots", `{"id":"a","token":"` + secret + `","x":1}{}`},
		{"POST", "/api/bots/shop/verify", `{"user":99999999999999999999}`},
		{"POST", "/api/bots/shop/verify", `{"user":-1}`},
		{"POST", "/api/bots/%00%ff/verify", `null`},
		{"GET", "/api/bots/" + secret + "/verify", ""},
		{"GET", "/api/bots/%1f/health", ""},
		{"GET", "/api/bots/shop/analytics?days=-1", ""},
		{"GET", "/api/bots/shop/analytics?days=1e9&tz=../../etc", ""},
		{"GET", "/api/bots/x/analytics?days=%zz", ""},
		{"DELETE", "/api/bots/shop", ""},
		{"GET", "/status?x=" + secret, ""},
		{"GET", "/api/health?after=%00", ""},
		{"GET", "/readyz", ""},
		{"POST", "/webhook/1.AAAA", `{"update_id":1}`},
		{"POST", "/webhook/" + strings.Repeat("A", 3000), `[`},
		{"\x00", "/../..//api/bots", "x"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
	f.Cleanup(srv.Close)
	var log syncLog
	s, err := newFleet(context.Background(), byWebhook, session.Config{Transport: srv.Transport()},
		session.LimitConfig{ColdStarts: []ratelimit.Limit{}}, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(f, err)
	f.Cleanup(func() { s.close(context.Background()) })
	require.NoError(f, s.startSource(context.Background(), byWebhook))
	web, err := s.handler()
	require.NoError(f, err)
	bot := srv.NewBot("shop_bot")
	_, err = s.manager.Register(context.Background(), "shop", bot.Token())
	require.NoError(f, err)
	var n atomic.Uint32
	f.Fuzz(func(t *testing.T, method, target, body string) {
		at, err := url.ParseRequestURI(target)
		if err != nil || at.Host != "" {
			return
		}
		r := httptest.NewRequest(http.MethodGet, "/", strings.NewReader(body))
		r.Method, r.URL, r.RequestURI = method, at, target
		r.RemoteAddr = netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n.Add(1)))).String() + ":1" // not one of many requests
		w := httptest.NewRecorder()
		web.ServeHTTP(w, r)
		require.Less(t, w.Code, 500, "%s: %s", target, w.Body)
		require.NotContains(t, w.Body.String(), secret)
		require.NotContains(t, w.Body.String(), bot.Token())
		if w.Code >= 400 && !strings.HasPrefix(at.Path, "/webhook/") {
			require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"), "%s: %s", target, w.Body)
		}
		require.False(t, strings.Contains(log.String(), secret), "the log shows a token")
	})
}
