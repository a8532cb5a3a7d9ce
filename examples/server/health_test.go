package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
)

// site is a fleet on a fake Telegram, and its web pages.
type site struct {
	*fleet
	t   *testing.T
	srv *bottest.Server
	web http.Handler
	log syncLog
}

// byWebhook and byPolling are the two ways that updates come.
var (
	byWebhook = options{publicURL: "https://bots.example.com"}
	byPolling = options{polling: true}
)

func newSite(t *testing.T, o options) *site {
	s := &site{t: t}
	s.srv = bottest.New(bottest.Config{
		Limits:           bottest.NoLimits(),
		WebhookTransport: bottest.HandlerTransport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.web.ServeHTTP(w, r) })),
	})
	t.Cleanup(s.srv.Close)
	s.start(o)
	if o.webhooks() { // the first run, which finds nobody
		require.Eventually(t, func() bool { return strings.Contains(s.log.String(), "webhooks reconciled") }, 10*time.Second, time.Millisecond)
	}
	return s
}

// start starts the fleet on the site's fake Telegram.
func (s *site) start(o options) {
	var err error
	s.fleet, err = newFleet(s.t.Context(), o, session.Config{Transport: s.srv.Transport()},
		session.LimitConfig{ColdStarts: []ratelimit.Limit{}}, slog.New(slog.NewTextHandler(&s.log, nil)))
	require.NoError(s.t, err)
	s.t.Cleanup(func() {
		s.close(context.Background())
		assert.NotContains(s.t, s.log.String(), "not closed cleanly")
	})
	require.NoError(s.t, s.startSource(s.t.Context(), o))
	s.web, err = s.handler()
	require.NoError(s.t, err)
}

func (s *site) get(path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.web.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// read answers a request's JSON.
func read[T any](s *site, path string) (v T) {
	s.t.Helper()
	w := s.get(path)
	require.Equal(s.t, http.StatusOK, w.Code, "%s: %s", path, w.Body)
	assert.Equal(s.t, "application/json", w.Header().Get("Content-Type"))
	require.NoError(s.t, json.Unmarshal(w.Body.Bytes(), &v))
	return v
}

// problem asks for what is answered with a problem document.
func (s *site) problem(path string, status int, kind errors.Kind) {
	s.t.Helper()
	w := s.get(path)
	assert.Equal(s.t, status, w.Code, path)
	assert.Equal(s.t, "application/problem+json", w.Header().Get("Content-Type"), path)
	assert.Contains(s.t, w.Body.String(), `"kind":"`+kind.String()+`"`, path)
}

// traffic is known: nine messages arrive, one is blocked, the fate of one is not
// known, and one that Ann wrote is answered.
func (s *site) traffic(id string) (ann *bottest.User) {
	bot := s.srv.NewBot(id + "_bot")
	ann, bob := s.srv.NewUser("Ann"), s.srv.NewUser("Bob")
	ann.Start(bot, "")
	bob.Start(bot, "")
	bob.Block(bot)
	_, err := s.manager.Register(s.t.Context(), id, bot.Token())
	require.NoError(s.t, err)
	send := func(chat int64) (err error) {
		return s.pool.Do(s.t.Context(), id, func(ctx context.Context, t *tenant.Tenant) error {
			_, err := t.Bot.SendLocationWithContext(ctx, chat, 1, 1, nil)
			return err
		})
	}
	limits := session.Limits{Private: ratelimit.Unlimited}
	_, err = s.manager.SetLimits(s.t.Context(), id, limits)
	require.NoError(s.t, err)
	for range 9 {
		require.NoError(s.t, send(ann.ID))
	}
	require.ErrorIs(s.t, send(bob.ID), errors.Blocked)
	lost := s.srv.Fail(bottest.Fault{Method: "sendLocation", Do: bottest.ResetAfter()})
	require.ErrorIs(s.t, send(ann.ID), errors.OutcomeUnknown)
	lost()
	answers := s.srv.CallCount("sendMessage")
	ann.Write(bot, "hello")
	require.Eventually(s.t, func() bool {
		r, _ := s.monitor.Get(id)
		return r.Webhook != nil && r.Webhook.Set && bot.Pending() == 0 && s.waiting(s.t.Context()) == 0 &&
			s.srv.CallCount("sendMessage") == answers+1
	}, 10*time.Second, time.Millisecond)
	require.NoError(s.t, s.recorder.Flush(s.t.Context()))
	return ann
}

func TestTheHealthOfABot(t *testing.T) {
	s := newSite(t, byWebhook)
	s.traffic("shop")
	var r struct {
		Status, Reason, Breaker string
		Requests                int       `json:"total_requests"`
		Successes               int       `json:"successful_requests"`
		Failures                int       `json:"failed_requests"`
		Rejected                int       `json:"rejected_requests"`
		Refused                 int       `json:"refused_requests"`
		LastUpdate              time.Time `json:"last_update"`
		LastFailureKind         string    `json:"last_failure_kind"`
		Webhook                 *health.WebhookInfo
	}
	get := func() {
		t.Helper()
		r.Reason = ""
		require.NoError(t, json.Unmarshal(s.get("/api/bots/shop/health").Body.Bytes(), &r))
	}
	get()
	assert.Equal(t, []any{"healthy", "", "closed"}, []any{r.Status, r.Reason, r.Breaker})
	assert.Equal(t, []int{14, 12, 1, 1, 0}, []int{r.Requests, r.Successes, r.Failures, r.Rejected, r.Refused})
	assert.Equal(t, "outcome_unknown", r.LastFailureKind)
	assert.WithinDuration(t, time.Now(), r.LastUpdate, time.Minute)
	require.NotNil(t, r.Webhook)
	assert.True(t, r.Webhook.Set)
	assert.Positive(t, r.Webhook.Pending, "what had waited when it was set")

	_, err := s.manager.SetLimits(t.Context(), "shop", session.Limits{Private: ratelimit.Limit{Burst: 1}}) // one message, ever
	require.NoError(t, err)
	for range 3 {
		_ = s.pool.Do(t.Context(), "shop", func(ctx context.Context, t *tenant.Tenant) error {
			_, err := t.Bot.SendLocationWithContext(ctx, 7, 1, 1, nil)
			return err
		})
	}
	get()
	assert.Equal(t, []int{15, 2}, []int{r.Requests, r.Refused}, "what was held back here is apart")

	_, err = s.manager.Suspend(t.Context(), "shop", "unpaid")
	require.NoError(t, err)
	get()
	assert.Equal(t, []string{"suspended", "This bot is suspended. Please contact support to have it resumed."}, []string{r.Status, r.Reason},
		"the operator's words are not the tenant's")
	require.NoError(t, s.manager.Remove(t.Context(), "shop"))
	s.problem("/api/bots/shop/health", http.StatusNotFound, errors.NotFound)
}

func TestTheHealthOfTheFleet(t *testing.T) {
	s := newSite(t, byWebhook)
	s.traffic("shop")
	s.traffic("news")
	assert.Equal(t, map[string]any{"status": "ok"}, read[map[string]any](s, "/healthz"))
	assert.Equal(t, map[string]any{"status": "ok", "checks": map[string]any{"health": "ok", "database": "ok", "inbox": "ok"}}, read[map[string]any](s, "/readyz"))
	type fleet struct {
		Fleet struct {
			Tenants, Healthy, Unhealthy int
			Requests                    int    `json:"total_requests"`
			Failures                    int    `json:"failed_requests"`
			Breaker                     string `json:"platform_breaker"`
		}
		Unhealthy []struct{ Tenant, Reason string }
	}
	all := read[fleet](s, "/api/health")
	assert.Equal(t, []int{2, 2, 0, 28, 2}, []int{all.Fleet.Tenants, all.Fleet.Healthy, all.Fleet.Unhealthy, all.Fleet.Requests, all.Fleet.Failures})
	assert.Equal(t, "closed", all.Fleet.Breaker)
	assert.Empty(t, all.Unhealthy)

	for i := range 5 {
		s.monitor.Observe("news", health.Outcome{At: time.Now().Add(time.Duration(i-4) * time.Second), Kind: errors.Timeout})
	}
	all = read[fleet](s, "/api/health")
	require.Len(t, all.Unhealthy, 1)
	assert.Equal(t, "news", all.Unhealthy[0].Tenant)
	assert.Equal(t, "the last 5 calls failed, the last one: timed out", all.Unhealthy[0].Reason)
	s.problem("/api/health?limit=many", http.StatusBadRequest, errors.BadRequest)
	s.close(t.Context()) // which tells what is still to be told
	assert.Contains(t, s.log.String(), `msg="health alert"`)
	assert.Contains(t, s.log.String(), "failing=1")
	assert.Equal(t, http.StatusOK, s.get("/healthz").Code)
	w := s.get("/readyz")
	assert.Equal(t, http.StatusServiceUnavailable, w.Code)
	assert.Contains(t, w.Body.String(), `"health":"ok"`)
}

func TestTheAnalyticsOfABot(t *testing.T) {
	s := newSite(t, byWebhook)
	ann := s.traffic("shop")
	s.traffic("news")
	r := read[usage.Report](s, "/api/bots/shop/analytics?days=7")
	assert.Equal(t, "shop", r.Tenant)
	assert.Equal(t, "healthy", r.Status)
	assert.EqualValues(t, 14, r.Requests)
	assert.EqualValues(t, 12, r.Successes)
	assert.EqualValues(t, 2, r.Failures, "for the owner, the one that was blocked is one too")
	assert.InDelta(t, 100*2/14.0, r.ErrorRate, 0.01)
	assert.Len(t, r.Days, 7)
	assert.ElementsMatch(t, []usage.KindCount{{Kind: errors.Blocked, Count: 1}, {Kind: errors.OutcomeUnknown, Count: 1}}, r.Kinds)
	assert.Equal(t, usage.MethodCount{Method: "sendLocation", Requests: 11, Failures: 2}, r.Methods[0])
	require.NotEmpty(t, r.Chats)
	assert.Equal(t, usage.Chat{ID: ann.ID}, r.Chats[0].Chat)
	assert.EqualValues(t, 11, r.Chats[0].Out)
	assert.EqualValues(t, 2, r.Chats[0].In, "/start and hello")

	w := s.get("/api/bots/shop/analytics?days=1&format=csv")
	assert.Equal(t, http.StatusOK, w.Code)
	assert.Equal(t, "text/csv; charset=utf-8", w.Header().Get("Content-Type"))
	lines, err := csv.NewReader(w.Body).ReadAll()
	require.NoError(t, err)
	require.Len(t, lines, 2)
	assert.Equal(t, []string{"date", "total_requests", "successful_requests", "failed_requests"}, lines[0][:4])
	assert.Equal(t, []string{"14", "12", "2"}, lines[1][1:4])

	for _, query := range []string{"days=0", "days=-1", "days=401", "days=week", "zone=Mars/Base", "format=pdf"} {
		s.problem("/api/bots/shop/analytics?"+query, http.StatusBadRequest, errors.BadRequest)
	}
	for _, id := range []string{"nobody", "%00", "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr"} {
		s.problem("/api/bots/"+id+"/analytics", http.StatusNotFound, errors.NotFound)
		s.problem("/api/bots/"+id+"/health", http.StatusNotFound, errors.NotFound)
	}
	assert.Equal(t, 2, s.monitor.Fleet().Tenants, "who asks makes nobody known")
}

// The prober goes the way of all calls, so what it finds counts.
func TestTheProberFindsATokenThatIsNoLongerAccepted(t *testing.T) {
	s := newSite(t, byWebhook)
	s.receiving.Store(false) // nobody else calls
	for _, id := range []string{"shop", "news"} {
		_, err := s.manager.Register(t.Context(), id, s.srv.NewBot(id+"_bot").Token())
		require.NoError(t, err)
	}
	ids, err := s.active(t.Context(), "")
	require.NoError(t, err)
	assert.Equal(t, []string{"news", "shop"}, ids)
	require.NoError(t, s.askMe(t.Context(), "shop"))
	info, err := s.askWebhook(t.Context(), "shop")
	require.NoError(t, err)
	assert.False(t, info.Set)

	record, err := s.manager.Get(t.Context(), "news")
	require.NoError(t, err)
	s.srv.Fail(bottest.Fault{Token: record.Token.Reveal(), Do: bottest.Respond(401, "application/json", `{"ok":false,"error_code":401,"description":"Unauthorized"}`)})
	s.manager.Stop() // which would ask again for an hour
	require.ErrorIs(t, s.askMe(t.Context(), "news"), errors.Unauthorized)
	r, _ := s.monitor.Get("news")
	assert.Equal(t, health.Suspended, r.Status)
	assert.Contains(t, r.Reason, "quarantined")
	ids, err = s.active(t.Context(), "news")
	require.NoError(t, err)
	assert.Equal(t, []string{"shop"}, ids)
	ids, err = s.active(t.Context(), "shop")
	require.NoError(t, err)
	assert.Empty(t, ids)
}
