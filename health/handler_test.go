package health_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
)

func ask(h http.Handler, method, target string) (*httptest.ResponseRecorder, map[string]any) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	var body map[string]any
	_ = json.Unmarshal(w.Body.Bytes(), &body)
	return w, body
}

func TestReadinessIsAllChecksAndShowsNoErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ok := health.Check{Name: "fine", Check: func(context.Context) error { return nil }}
		w, body := ask(health.ReadyHandler(ok), "GET", "/readyz")
		assert.Equal(t, 200, w.Code)
		assert.Equal(t, map[string]any{"status": "ok", "checks": map[string]any{"fine": "ok"}}, body)

		start := time.Now()
		w, body = ask(health.ReadyHandler(ok,
			health.Check{Name: "broken", Check: func(context.Context) error { return errors.New("password=s3cret") }},
			health.Check{Name: "hangs", Check: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
			health.Check{Name: "panics", Check: func(context.Context) error { panic("s3cret") }},
		), "GET", "/readyz")
		assert.Equal(t, 503, w.Code)
		assert.Equal(t, map[string]any{"fine": "ok", "broken": "internal", "hangs": "timeout", "panics": "internal"}, body["checks"])
		assert.NotContains(t, w.Body.String(), "s3cret")
		assert.Equal(t, 5*time.Second, time.Since(start))

		w, _ = ask(health.LiveHandler(), "GET", "/healthz")
		assert.Equal(t, 200, w.Code)
		w, _ = ask(health.LiveHandler(), "POST", "/healthz")
		assert.Equal(t, 405, w.Code)
		assert.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
		assert.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	})
}

func TestFleetAndTenantAsJSON(t *testing.T) {
	m := newMonitor(t, health.Config{})
	for i := range 150 {
		for range 5 {
			m.Observe(fmt.Sprintf("t%03d", i), health.Outcome{Kind: errors.Timeout})
		}
	}
	m.Observe("well", health.Outcome{})
	all := func(*http.Request) error { return nil }
	fleet := health.FleetHandler(m, all)
	w, body := ask(fleet, "GET", "/")
	require.Equal(t, 200, w.Code)
	assert.Len(t, body["unhealthy"], 100)
	assert.EqualValues(t, 150, body["fleet"].(map[string]any)["unhealthy"])
	_, body = ask(fleet, "GET", "/?limit=3")
	assert.Len(t, body["unhealthy"], 3)
	_, body = ask(health.FleetHandler(newMonitor(t, health.Config{}), all), "GET", "/")
	assert.Equal(t, []any{}, body["unhealthy"])

	tenant := func(r *http.Request) (string, error) {
		switch id := r.URL.Query().Get("id"); id {
		case "other":
			return "", errors.Forbidden
		default:
			return id, nil
		}
	}
	w, body = ask(health.TenantHandler(m, tenant), "GET", "/?id=t007")
	require.Equal(t, 200, w.Code)
	assert.Equal(t, "unhealthy", body["status"])
	assert.EqualValues(t, 5, body["consecutive_failures"])

	for name, c := range map[string]struct {
		h      http.Handler
		method string
		target string
		status int
	}{
		"nobody's tenant":    {health.TenantHandler(m, tenant), "GET", "/?id=nobody", 404},
		"another's tenant":   {health.TenantHandler(m, tenant), "GET", "/?id=other", 403},
		"no authorisation":   {health.TenantHandler(m, nil), "GET", "/?id=t007", 403},
		"none for the fleet": {health.FleetHandler(m, nil), "GET", "/", 403},
		"a refusal":          {health.FleetHandler(m, func(*http.Request) error { return errors.Unauthorized }), "GET", "/", 422},
		"a word for a limit": {fleet, "GET", "/?limit=many", 400},
		"a huge limit":       {fleet, "GET", "/?limit=1001", 400},
		"a negative limit":   {fleet, "GET", "/?limit=-1", 400},
		"a delete":           {fleet, "DELETE", "/", 405},
	} {
		w, body := ask(c.h, c.method, c.target)
		assert.Equal(t, c.status, w.Code, name)
		assert.Equal(t, "application/problem+json", w.Header().Get("Content-Type"), name)
		assert.EqualValues(t, c.status, body["status"], name)
	}
}

// What the operator wrote, and what Telegram says of the operator's server, is
// not for the tenant's people.
func TestATenantsReportHasNoWordsForTheOperator(t *testing.T) {
	const secret = "chargeback by jane@example.com"
	for _, c := range []struct {
		name   string
		do     func(m *health.Monitor)
		reason string
		kind   errors.Kind
	}{
		{"suspended", func(m *health.Monitor) { m.Suspend("a", secret) }, errors.Friendly(errors.Suspended, "en"), errors.Suspended},
		{"quarantined", func(m *health.Monitor) { m.Quarantine("a", secret) }, errors.Friendly(errors.Unauthorized, "en"), errors.Unauthorized},
		{"the webhook fails", func(m *health.Monitor) {
			m.SetWebhook("a", health.WebhookInfo{Set: true, LastErrorAt: time.Now(), LastError: secret})
		}, "Telegram can't deliver updates to the webhook", errors.None},
		{"the webhook fails and so do calls", func(m *health.Monitor) {
			m.SetWebhook("a", health.WebhookInfo{Set: true, LastErrorAt: time.Now(), LastError: secret})
			calls(m, "a", 5, errors.Timeout)
		}, "the last 5 calls failed, the last one: timed out", errors.Timeout},
		{"suspended, and the webhook fails", func(m *health.Monitor) {
			m.SetWebhook("a", health.WebhookInfo{Set: true, LastErrorAt: time.Now(), LastError: secret})
			m.Suspend("a", secret)
		}, errors.Friendly(errors.Suspended, "en"), errors.Suspended},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMonitor(t, health.Config{})
				c.do(m)
				w, body := ask(health.TenantHandler(m, func(*http.Request) (string, error) { return "a", nil }), "GET", "/")
				require.Equal(t, 200, w.Code)
				assert.NotContains(t, w.Body.String(), "jane")
				assert.Equal(t, []any{c.reason, c.kind.String()}, []any{body["reason"], body["kind"]})
				w, _ = ask(health.FleetHandler(m, func(*http.Request) error { return nil }), "GET", "/")
				if r := get(t, m, "a"); r.Status != health.Suspended {
					assert.Contains(t, w.Body.String(), "jane", "the operator has it")
				} else {
					assert.Contains(t, r.Reason, "jane")
				}
				assert.NotNil(t, get(t, m, "a"))
			})
		})
	}
	m := newMonitor(t, health.Config{})
	m.Suspend("a", secret)
	german := errors.Texts{Catalogues: map[string]errors.Catalogue{"de": errors.CatalogueFunc(
		func(k errors.Kind, _ errors.Scope, _ time.Duration) (string, bool) {
			return "gesperrt", k == errors.Suspended
		})}}
	assert.Equal(t, "gesperrt", get(t, m, "a").ForTenant(german, "de").Reason)
}

func TestABadLimitIsNamed(t *testing.T) {
	fleet := health.FleetHandler(newMonitor(t, health.Config{}), func(*http.Request) error { return nil })
	for query, detail := range map[string]string{
		"limit=many":         "The parameter limit must be a whole number from 0 to 1000.",
		"limit=1001":         "The parameter limit must be a whole number from 0 to 1000.",
		"limit=1&limit=2":    "The parameter limit is given more than once.",
		"limit=%zz":          "The part of the address after the question mark can't be read.",
		"limit=1;drop=table": "The part of the address after the question mark can't be read.",
	} {
		w, body := ask(fleet, "GET", "/?"+query)
		assert.Equal(t, 400, w.Code, query)
		assert.Equal(t, []any{detail, "bad_request"}, []any{body["detail"], body["kind"]}, query)
	}
}
