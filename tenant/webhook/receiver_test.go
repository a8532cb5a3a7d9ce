package webhook_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

func TestAnUpdateIsStoredAndConfirmed(t *testing.T) {
	m, keys := newMemory(t, inbox.MemoryConfig{}), newKeys(t)
	rc := newReceiver(t, m, keys, webhook.Config{})
	r := request(keys, "a", body(7))
	r.Header.Set("Content-Type", "Application/JSON; charset=utf-8")
	w := serve(rc, r)
	assert.Equal(t, http.StatusOK, w.Code)
	assert.Empty(t, w.Body.String())
	assert.Equal(t, http.StatusOK, serve(rc, request(keys, "a", body(7))).Code, "and so is a duplicate")
	leases, err := m.Lease(bg, inbox.Want{Limit: 10, TTL: time.Minute})
	require.NoError(t, err)
	require.Len(t, leases, 1)
	assert.Equal(t, "a", leases[0].Tenant)
	assert.Equal(t, body(7), string(leases[0].Raw))
	assert.Equal(t, webhook.Stats{Received: 1, Duplicates: 1}, rc.Stats())
}

func TestWhatIsNotTelegramsIsRefused(t *testing.T) {
	keys := newKeys(t)
	big := `{"update_id":1,"message":{"chat":{"id":5},"text":"` + strings.Repeat("x", 2000) + `"}}`
	for name, test := range map[string]struct {
		change func(r *http.Request)
		want   int
	}{
		"another method":            {func(r *http.Request) { r.Method = http.MethodGet }, http.StatusMethodNotAllowed},
		"no path":                   {func(r *http.Request) { r.URL.Path = "/" }, http.StatusNotFound},
		"an empty path":             {func(r *http.Request) { r.URL.Path = "" }, http.StatusNotFound},
		"an asterisk":               {func(r *http.Request) { r.URL.Path = "*" }, http.StatusNotFound},
		"somebody's path":           {func(r *http.Request) { r.URL.Path = "/webhook/1.AAAAAAAAAAAAAAAAAAAAAAAAAAAA" }, http.StatusNotFound},
		"a path with more after it": {func(r *http.Request) { r.URL.Path += "/x" }, http.StatusNotFound},
		"no secret":                 {func(r *http.Request) { r.Header.Del(secretHeader) }, http.StatusUnauthorized},
		"an empty secret":           {func(r *http.Request) { r.Header.Set(secretHeader, "") }, http.StatusUnauthorized},
		"another's secret":          {func(r *http.Request) { r.Header.Set(secretHeader, keys.Secret("b")) }, http.StatusUnauthorized},
		"a secret and more":         {func(r *http.Request) { r.Header.Set(secretHeader, keys.Secret("a")+"x") }, http.StatusUnauthorized},
		"two secrets":               {func(r *http.Request) { r.Header.Add(secretHeader, keys.Secret("a")) }, http.StatusUnauthorized},
		"another network":           {func(r *http.Request) { r.RemoteAddr = "8.8.8.8:1" }, http.StatusForbidden},
		"no address":                {func(r *http.Request) { r.RemoteAddr = "@" }, http.StatusForbidden},
		"no content type":           {func(r *http.Request) { r.Header.Del("Content-Type") }, http.StatusUnsupportedMediaType},
		"another content type":      {func(r *http.Request) { r.Header.Set("Content-Type", "text/json") }, http.StatusUnsupportedMediaType},
		"an encoding":               {func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, http.StatusUnsupportedMediaType},
		"a body that says it is large": {func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(big)), int64(len(big))
		}, http.StatusRequestEntityTooLarge},
		"a body that does not say so": {func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader(big)), -1 }, http.StatusRequestEntityTooLarge},
		"a body that is cut":          {func(r *http.Request) { r.ContentLength++ }, http.StatusBadRequest},
		"a body longer than it says":  {func(r *http.Request) { r.ContentLength-- }, http.StatusBadRequest},
		"no body":                     {func(r *http.Request) { r.Body, r.ContentLength = http.NoBody, 0 }, http.StatusBadRequest},
		"bad JSON":                    {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(strings.Replace(body(1), "}", ")", 1))) }, http.StatusBadRequest},
		"no update": {func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(`{"ok":true}`)), -1
		}, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory(t, inbox.MemoryConfig{})
			rc := newReceiver(t, m, keys, webhook.Config{MaxBody: 1000, Networks: webhook.TelegramNetworks()})
			r := request(keys, "a", body(1))
			test.change(r)
			w := serve(rc, r)
			assert.Equal(t, test.want, w.Code)
			assert.Empty(t, w.Body.String())
			assert.Zero(t, depth(t, m))
			s := rc.Stats()
			assert.Equal(t, uint64(1), s.Strangers+s.BadRequests)
			assert.Equal(t, test.want == http.StatusUnauthorized, s.BadSecret == 1)
			assert.Equal(t, test.want == http.StatusMethodNotAllowed, w.Header().Get("Allow") == http.MethodPost)
		})
	}
}

func TestTheSourceIsThePeerUnlessAProxyThatIsTrustedSaysOtherwise(t *testing.T) {
	keys := newKeys(t)
	prefixes := func(texts ...string) (all []netip.Prefix) {
		for _, s := range texts {
			all = append(all, netip.MustParsePrefix(s))
		}
		return all
	}
	for name, test := range map[string]struct {
		proxies   []netip.Prefix
		peer      string
		forwarded []string
		want      int
	}{
		"Telegram itself":                  {nil, "91.108.6.7:1", nil, 200},
		"its other network":                {nil, "149.154.175.255:1", nil, 200},
		"one next to it":                   {nil, "149.154.176.0:1", nil, 403},
		"as IPv6 writes it":                {nil, "[::ffff:91.108.6.7]:1", nil, 200},
		"a proxy that is not trusted":      {nil, "10.0.0.1:1", []string{"91.108.6.7"}, 403},
		"a proxy that is":                  {prefixes("10.0.0.0/8"), "10.0.0.1:1", []string{"91.108.6.7"}, 200},
		"a proxy that writes it as IPv6":   {prefixes("10.0.0.0/8"), "10.0.0.1:1", []string{"::ffff:91.108.6.7, ::ffff:10.0.0.2"}, 200},
		"what the client put on the left":  {prefixes("10.0.0.0/8"), "10.0.0.1:1", []string{"91.108.6.7, 8.8.8.8"}, 403},
		"and what it put into lines above": {prefixes("10.0.0.0/8"), "10.0.0.1:1", []string{"91.108.6.7", "8.8.8.8"}, 403},
		"two proxies":                      {prefixes("10.0.0.0/8"), "10.0.0.1:1", []string{"1.1.1.1, 91.108.6.7, 10.0.0.2"}, 200},
		"two proxies in two lines":         {prefixes("10.0.0.0/8"), "10.0.0.1:1", []string{"1.1.1.1, 91.108.6.7", "10.0.0.2"}, 200},
		"a proxy that does not say":        {prefixes("10.0.0.0/8"), "10.0.0.1:1", nil, 403},
		"a proxy that says nonsense":       {prefixes("10.0.0.0/8"), "10.0.0.1:1", []string{"91.108.6.7, unknown"}, 403},
		"nothing but proxies":              {prefixes("10.0.0.0/8"), "10.0.0.1:1", []string{strings.Repeat("10.0.0.2,", 5000) + "91.108.6.7"}, 200},
		"no end of proxies":                {prefixes("10.0.0.0/8"), "10.0.0.1:1", []string{"91.108.6.7" + strings.Repeat(",10.0.0.2", 5000)}, 403},
		"Telegram, with a header":          {prefixes("10.0.0.0/8"), "91.108.6.7:1", []string{"8.8.8.8"}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			rc := newReceiver(t, newMemory(t, inbox.MemoryConfig{}), keys, webhook.Config{Networks: webhook.TelegramNetworks(), TrustedProxies: test.proxies})
			r := request(keys, "a", body(1))
			r.RemoteAddr = test.peer
			r.Header["X-Forwarded-For"] = test.forwarded
			before := fmt.Sprint(test.forwarded)
			assert.Equal(t, test.want, serve(rc, r).Code)
			assert.Equal(t, before, fmt.Sprint(r.Header["X-Forwarded-For"]), "the request is as it was")
		})
	}
}

func TestAFullInboxAsksTelegramToComeBack(t *testing.T) {
	keys := newKeys(t)
	rc := newReceiver(t, newMemory(t, inbox.MemoryConfig{MaxPerTenant: 1, RetryAfter: 90500 * time.Millisecond}), keys, webhook.Config{})
	assert.Equal(t, http.StatusOK, serve(rc, request(keys, "a", body(1))).Code)
	w := serve(rc, request(keys, "a", body(2)))
	assert.Equal(t, http.StatusTooManyRequests, w.Code)
	assert.Equal(t, "91", w.Header().Get("Retry-After"))
	assert.Equal(t, http.StatusOK, serve(rc, request(keys, "b", body(1))).Code)
	assert.Equal(t, http.StatusOK, serve(rc, request(keys, "a", body(1))).Code)
	assert.Equal(t, uint64(1), rc.Stats().Full)
}

// Telegram honours an hour at most, and takes no Retry-After for "at once".
func TestRetryAfterIsBoundedBothWays(t *testing.T) {
	keys := newKeys(t)
	for name, test := range map[string]struct {
		err  error // of the inbox
		code int
		want string
	}{
		"full, and it does not say till when":  {inbox.Full("a", errors.ScopeTenant, 0), 429, "1"},
		"full, for a moment":                   {inbox.Full("a", errors.ScopeTenant, time.Millisecond), 429, "1"},
		"full, for more than a second":         {inbox.Full("a", errors.ScopeTenant, time.Second+1), 429, "2"},
		"full, for an hour":                    {inbox.Full("a", errors.ScopeTenant, time.Hour), 429, "3600"},
		"full, for longer than Telegram waits": {inbox.Full("a", errors.ScopeTenant, 25*time.Hour), 429, "3600"},
		"broken":                               {errors.New("x"), 503, "7"},
		"broken, for less than we say":         {&errors.Error{Kind: errors.StoreUnavailable, RetryAfter: 3 * time.Second}, 503, "7"},
		"broken, for more than we say":         {&errors.Error{Kind: errors.StoreUnavailable, RetryAfter: 30 * time.Second}, 503, "30"},
		"broken, for longer than it waits":     {&errors.Error{Kind: errors.StoreUnavailable, RetryAfter: 2 * time.Hour}, 503, "3600"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, whole := range []bool{true, false} { // the Put failed, or its outcome
				rc := newReceiver(t, putFunc(func(context.Context, []inbox.Update) ([]inbox.Outcome, error) {
					if whole {
						return nil, test.err
					}
					return []inbox.Outcome{{Err: test.err}}, nil
				}), keys, webhook.Config{RetryAfter: 7 * time.Second})
				w := serve(rc, request(keys, "a", body(1)))
				assert.Equal(t, test.code, w.Code)
				assert.Equal(t, test.want, w.Header().Get("Retry-After"))
			}
		})
	}
}

// putFunc is an inbox that does what a test wants.
type putFunc func(ctx context.Context, batch []inbox.Update) ([]inbox.Outcome, error)

func (f putFunc) Put(ctx context.Context, batch []inbox.Update) ([]inbox.Outcome, error) {
	return f(ctx, batch)
}

func TestABrokenInboxConfirmsNothing(t *testing.T) {
	keys := newKeys(t)
	var logs bytes.Buffer
	for name, in := range map[string]putFunc{
		"an error":        func(context.Context, []inbox.Update) ([]inbox.Outcome, error) { return nil, errors.New("disk on fire") },
		"a closed one":    func(context.Context, []inbox.Update) ([]inbox.Outcome, error) { return nil, errors.Closed },
		"a panic":         func(context.Context, []inbox.Update) ([]inbox.Outcome, error) { panic("secret") },
		"too few answers": func(context.Context, []inbox.Update) ([]inbox.Outcome, error) { return nil, nil },
		"an unknown answer": func(context.Context, []inbox.Update) ([]inbox.Outcome, error) {
			return []inbox.Outcome{{Err: errors.New("?")}}, nil
		},
	} {
		rc := newReceiver(t, in, keys, webhook.Config{RetryAfter: 7 * time.Second, Logger: slog.New(slog.NewTextHandler(&logs, nil))})
		for range 3 {
			w := serve(rc, request(keys, "a", body(1)))
			assert.Equal(t, http.StatusServiceUnavailable, w.Code, name)
			assert.Equal(t, "7", w.Header().Get("Retry-After"), name)
		}
		assert.Equal(t, uint64(3), rc.Stats().Failed, name)
	}
	assert.Equal(t, 5, strings.Count(logs.String(), "inbox failed"), "each once, not for every request")
	assert.NotContains(t, logs.String(), "secret")
	assert.NotContains(t, logs.String(), "fire")
}

func TestAnInboxThatHangsIsBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		rc := newReceiver(t, putFunc(func(ctx context.Context, _ []inbox.Update) ([]inbox.Outcome, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}), keys, webhook.Config{PutTimeout: 3 * time.Second})
		start := time.Now()
		assert.Equal(t, http.StatusServiceUnavailable, serve(rc, request(keys, "a", body(1))).Code)
		assert.Equal(t, 3*time.Second, time.Since(start))
	})
}

// A connection carries updates again after the inbox has ended a request's
// goroutine, and nobody waits for ever.
func TestAPutThatEndsItsGoroutineWedgesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		var calls atomic.Int64
		gate := make(chan struct{})
		rc := newReceiver(t, putFunc(func(_ context.Context, batch []inbox.Update) ([]inbox.Outcome, error) {
			if calls.Add(1) == 1 {
				<-gate
				runtime.Goexit()
			}
			return make([]inbox.Outcome, len(batch)), nil
		}), keys, webhook.Config{})
		var ok atomic.Int64
		var wg sync.WaitGroup
		for id := range int64(5) {
			wg.Go(func() {
				if serve(rc, request(keys, "a", body(id+1))).Code == http.StatusOK {
					ok.Add(1)
				}
			})
			synctest.Wait()
		}
		close(gate)
		wg.Wait()
		assert.Equal(t, int64(4), ok.Load())
		assert.Equal(t, http.StatusOK, serve(rc, request(keys, "a", body(9))).Code)
	})
}

func TestUpdatesThatComeTogetherAreStoredTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		var sizes []int
		var order []int64
		rc := newReceiver(t, putFunc(func(_ context.Context, batch []inbox.Update) ([]inbox.Outcome, error) {
			time.Sleep(time.Second)
			sizes = append(sizes, len(batch))
			outcomes := make([]inbox.Outcome, len(batch))
			for i, u := range batch {
				order = append(order, u.ID)
				outcomes[i].Duplicate = u.ID%2 == 0
				if u.ID == 7 {
					outcomes[i].Err = inbox.Full(u.Tenant, errors.ScopeTenant, time.Second)
				}
			}
			return outcomes, nil
		}), keys, webhook.Config{MaxBatch: 4})
		codes := make([]int, 11)
		var wg sync.WaitGroup
		for id := range int64(10) {
			wg.Go(func() { codes[id+1] = serve(rc, request(keys, "a", body(id+1))).Code })
			synctest.Wait()
		}
		wg.Wait()
		assert.Equal(t, []int{1, 4, 4, 1}, sizes)
		assert.Equal(t, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, order, "in the order they came")
		assert.Equal(t, []int{0, 200, 200, 200, 200, 200, 200, 429, 200, 200, 200}, codes, "each with its own outcome")
		assert.Equal(t, [2]uint64{4, 5}, [2]uint64{rc.Stats().Received, rc.Stats().Duplicates})
	})
}

// The first of a batch puts for all; that it goes away must not fail them.
func TestARequestThatGoesAwayTakesNoOthersUpdateWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		m := newMemory(t, inbox.MemoryConfig{})
		rc := newReceiver(t, putFunc(func(ctx context.Context, batch []inbox.Update) ([]inbox.Outcome, error) {
			time.Sleep(time.Second)
			return m.Put(ctx, batch)
		}), keys, webhook.Config{})
		ctx, cancel := context.WithCancel(bg)
		var wg sync.WaitGroup
		wg.Go(func() { serve(rc, request(keys, "a", body(1)).WithContext(ctx)) })
		synctest.Wait()
		var code int
		wg.Go(func() { serve(rc, request(keys, "a", body(2)).WithContext(ctx)) })
		synctest.Wait()
		wg.Go(func() { code = serve(rc, request(keys, "a", body(3))).Code })
		synctest.Wait()
		cancel()
		wg.Wait()
		assert.Equal(t, http.StatusOK, code)
		assert.Equal(t, 3, depth(t, m))
	})
}

func record(t *testing.T, s *tenant.MemoryStore, id string, botID int64, status tenant.Status) tenant.Record {
	t.Helper()
	token, err := session.ParseToken(fmt.Sprintf("%d:AAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", botID))
	require.NoError(t, err)
	r, err := s.Put(bg, tenant.Record{ID: id, BotID: botID, Token: token, Status: status})
	require.NoError(t, err)
	return r
}

func TestUpdatesThatAreNotWantedStayWithTelegram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, keys := tenant.NewMemoryStore(), newKeys(t)
		a := record(t, store, "a", 1, tenant.Active)
		record(t, store, "suspended", 2, tenant.Suspended)
		record(t, store, "quarantined", 3, tenant.Quarantined)
		m := newMemory(t, inbox.MemoryConfig{})
		rc := newReceiver(t, m, keys, webhook.Config{Tenants: store, SuspendedRetryAfter: 20 * time.Minute})
		answer := func(id string) [2]string {
			w := serve(rc, request(keys, id, body(1)))
			return [2]string{fmt.Sprint(w.Code), w.Header().Get("Retry-After")}
		}
		assert.Equal(t, [2]string{"200", ""}, answer("a"))
		assert.Equal(t, [2]string{"503", "1200"}, answer("suspended"))
		assert.Equal(t, [2]string{"503", "1200"}, answer("quarantined"))
		assert.Equal(t, [2]string{"404", "3600"}, answer("gone"), "they are the bot's owner's")
		assert.Equal(t, 1, depth(t, m))
		assert.Equal(t, uint64(3), rc.Stats().Unwanted)

		a.Status = tenant.Suspended
		_, err := store.Put(bg, a)
		require.NoError(t, err)
		time.Sleep(11 * time.Second)
		assert.Equal(t, [2]string{"503", "1200"}, answer("a"), "what is known is known for a while only")
	})
}

// flaky is a store that fails.
type flaky struct {
	*tenant.MemoryStore
	broken bool
	asked  int
}

func (f *flaky) Get(ctx context.Context, id string) (tenant.Record, error) {
	f.asked++
	if f.broken {
		return tenant.Record{}, errors.New("no connection")
	}
	return f.MemoryStore.Get(ctx, id)
}

func TestWhatWasLastKnownOfATenantDoesWhileTheStoreIsBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flaky{MemoryStore: tenant.NewMemoryStore()}
		record(t, f.MemoryStore, "a", 1, tenant.Active)
		record(t, f.MemoryStore, "b", 2, tenant.Active)
		keys := newKeys(t)
		rc := newReceiver(t, newMemory(t, inbox.MemoryConfig{}), keys, webhook.Config{Tenants: f})
		for id := range int64(50) {
			assert.Equal(t, http.StatusOK, serve(rc, request(keys, "a", body(id+1))).Code)
		}
		assert.Equal(t, 1, f.asked, "it is not asked for every update")
		f.broken = true
		time.Sleep(time.Hour)
		assert.Equal(t, http.StatusOK, serve(rc, request(keys, "a", body(100))).Code)
		w := serve(rc, request(keys, "b", body(1)))
		assert.Equal(t, http.StatusServiceUnavailable, w.Code, "of this one nothing is known")
		assert.Equal(t, "5", w.Header().Get("Retry-After"))
	})
}

func TestItWorksOverHTTP2(t *testing.T) {
	keys := newKeys(t)
	m := newMemory(t, inbox.MemoryConfig{})
	mux := http.NewServeMux()
	rc := newReceiver(t, m, keys, webhook.Config{})
	mux.Handle("POST /webhook/{opaque}", rc)
	server := httptest.NewUnstartedServer(mux)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	send := func(secret string, id int64) *http.Response {
		r, err := http.NewRequest(http.MethodPost, server.URL+"/webhook/"+keys.Path("a"), strings.NewReader(body(id)))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set(secretHeader, secret)
		resp, err := client.Do(r)
		require.NoError(t, err)
		resp.Body.Close()
		return resp
	}
	for id := range int64(3) {
		resp := send(keys.Secret("a"), id+1)
		assert.Equal(t, 2, resp.ProtoMajor)
		assert.Equal(t, http.StatusOK, resp.StatusCode)
	}
	assert.Equal(t, http.StatusUnauthorized, send("wrong", 4).StatusCode)
	assert.Equal(t, http.StatusOK, send(keys.Secret("a"), 5).StatusCode)
	assert.Equal(t, 4, depth(t, m))
}

func TestBadConfigurationIsReportedAtOnce(t *testing.T) {
	_, err := webhook.NewReceiver(nil, nil, webhook.Config{
		MaxBody: -1, MaxBatch: -1, RetryAfter: -1, SuspendedRetryAfter: 2 * time.Hour, ReplyWithin: time.Hour,
		Networks: []netip.Prefix{{}}, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")},
	})
	for _, want := range []string{"inbox is nil", "keys are nil", "MaxBody", "MaxBatch", "RetryAfter", "SuspendedRetryAfter", "ReplyWithin", "Networks[0]", "TrustedProxies[0]"} {
		assert.ErrorContains(t, err, want)
	}
}

func TestABodyIsBoundedByWhatFitsIntoMemory(t *testing.T) {
	for most, ok := range map[int64]bool{1 << 30: true, 1<<30 + 1: false, math.MaxInt64: false} {
		_, err := webhook.NewReceiver(newMemory(t, inbox.MemoryConfig{}), newKeys(t), webhook.Config{MaxBody: most})
		assert.Equal(t, ok, err == nil, "%d: %v", most, err)
	}
}

func FuzzBody(f *testing.F) {
	for _, b := range []string{"", "{}", body(1), body(0), strings.Repeat("[", 3000), `{"update_id":1e9}`, "\xff\xfe", body(1) + body(2), `{"update_id":1,"message":{"chat":{"id":1},"text":"` + strings.Repeat("a", 5000) + `"}}`} {
		f.Add([]byte(b), int64(len(b)))
		f.Add([]byte(b), int64(-1))
	}
	keys, err := webhook.NewKeys(webhook.Key{Master: master})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, b []byte, length int64) {
		m := newMemory(t, inbox.MemoryConfig{})
		rc := newReceiver(t, m, keys, webhook.Config{MaxBody: 4096})
		r := request(keys, "a", "")
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), length
		code := serve(rc, r).Code
		stored := depth(t, m)
		if (code == http.StatusOK) != (stored == 1) || stored > 1 {
			t.Fatalf("%d, and %d stored", code, stored)
		}
		if code != http.StatusOK && code/100 != 4 || code == http.StatusGone {
			t.Fatalf("answer %d", code)
		}
		if code == http.StatusOK && (length >= 0 && length != int64(len(b)) || len(b) > 4096) {
			t.Fatalf("took %d bytes that were to be %d", len(b), length)
		}
	})
}

func FuzzHeaders(f *testing.F) {
	keys, err := webhook.NewKeys(webhook.Key{Master: master})
	require.NoError(f, err)
	f.Add("POST", keys.Secret("a"), "application/json", "", "91.108.6.7:1", "")
	f.Add("POST", "", ";", "gzip", "", ",")
	f.Add("GET", keys.Secret("a"), "application/json; charset=utf-8", "", "[::1]:99999", "91.108.6.7, ::ffff:1.2.3.4%eth0,,")
	f.Fuzz(func(t *testing.T, method, secret, kind, encoding, peer, forwarded string) {
		m := newMemory(t, inbox.MemoryConfig{})
		rc := newReceiver(t, m, keys, webhook.Config{Networks: webhook.TelegramNetworks(), TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
		r := request(keys, "a", body(1))
		r.Method, r.RemoteAddr = method, peer
		r.Header.Set(secretHeader, secret)
		r.Header.Set("Content-Type", kind)
		r.Header.Set("Content-Encoding", encoding)
		r.Header.Set("X-Forwarded-For", forwarded)
		code := serve(rc, r).Code
		if right := method == http.MethodPost && secret == keys.Secret("a") && encoding == ""; code == http.StatusOK && !right {
			t.Fatal("taken")
		}
		if (code == http.StatusOK) != (depth(t, m) == 1) {
			t.Fatalf("answer %d", code)
		}
	})
}
