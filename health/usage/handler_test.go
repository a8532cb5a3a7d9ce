package usage_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
)

func ask(h http.Handler, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func tenantA(*http.Request) (string, error) { return "a", nil }

func TestAnalyticsAsJSONHaveTheFiguresThatPagesShow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := usage.NewMemoryStore()
		r := newRecorder(t, usage.Config{Store: store})
		monitor, err := health.New(health.Config{})
		require.NoError(t, err)
		time.Sleep(36 * time.Hour) // it is noon of the second of January
		for i := range 4 {
			kind := errors.None
			if i == 3 {
				kind = errors.RateLimited
			}
			r.Observe("a", usage.Call{Method: "sendMessage", Chat: usage.Chat{ID: 5}, Kind: kind, Latency: 100 * time.Millisecond})
			monitor.Observe("a", health.Outcome{Kind: kind, RetryAfter: time.Minute})
		}
		for _, kind := range []errors.Kind{errors.Throttled, errors.BreakerOpen, errors.PoolFull, errors.Suspended, errors.Unverified} {
			r.Observe("a", usage.Call{Method: "sendPhoto", Chat: usage.Chat{ID: 6}, Kind: kind, Latency: time.Hour})
		}
		r.Update("a", usage.Update{Type: "message", Chat: usage.Chat{Username: "@news"}})
		require.NoError(t, r.Flush(t.Context()))

		h := usage.Handler(usage.NewReporter(store, monitor), tenantA)
		w := ask(h, "/?days=2&zone=Asia/Kolkata")
		require.Equal(t, 200, w.Code, w.Body)
		assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
		var got map[string]any
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
		for name, want := range map[string]any{
			"tenant": "a", "zone": "Asia/Kolkata", "from": "2000-01-01T00:00:00+05:30", "to": "2000-01-03T00:00:00+05:30",
			"total_requests": 4.0, "successful_requests": 3.0, "failed_requests": 1.0, "refused_requests": 5.0, "error_rate_percent": 25.0,
			"avg_response_time_ms": 100.0, "status": "healthy", "is_rate_limited": true, "last_active": "2000-01-02T12:00:00Z",
			"updates_received": 1.0, "unique_chats": 2.0,
		} {
			assert.Equal(t, want, got[name], name)
		}
		assert.Len(t, got["days"], 2)
		assert.Equal(t, []any{map[string]any{"weekday": "Sunday", "hour": 17.0, "requests": 4.0, "updates": 1.0}}, got["busiest_hours"])
		assert.Equal(t, []any{map[string]any{"kind": "rate_limited", "count": 1.0}}, got["failures_by_kind"])
		assert.Equal(t, "5", got["top_chats"].([]any)[0].(map[string]any)["chat"])
	})
}

func TestAnalyticsAsCSVHaveALineForEachDay(t *testing.T) {
	store := usage.NewMemoryStore()
	r := newRecorder(t, usage.Config{Store: store})
	r.Observe("a", usage.Call{Method: "sendMessage", Latency: 100 * time.Millisecond})
	r.Observe("a", usage.Call{Method: "sendMessage", Kind: errors.Throttled})
	require.NoError(t, r.Flush(t.Context()))
	h := usage.Handler(usage.NewReporter(store, nil), tenantA)
	for _, w := range []*httptest.ResponseRecorder{
		ask(h, "/?days=3&format=csv", "Accept", "application/json"),
		ask(h, "/?days=3", "Accept", "text/csv"),
	} {
		require.Equal(t, 200, w.Code)
		assert.Equal(t, "text/csv; charset=utf-8", w.Header().Get("Content-Type"))
		lines, err := csv.NewReader(w.Body).ReadAll()
		require.NoError(t, err)
		require.Len(t, lines, 4)
		assert.Equal(t, "date", lines[0][0])
		assert.Equal(t, []string{"0", "0", "0"}, lines[1][1:4])
		assert.Equal(t, []string{"1", "1", "0", "0", "100"}, lines[3][1:6])
		assert.Equal(t, "refused_requests", lines[0][11])
		assert.Equal(t, "1", lines[3][11])
	}
	w := ask(h, "/", "Accept", "text/csv, application/json")
	assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
	var got usage.Report
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
	assert.Len(t, got.Days, 7)
	assert.Empty(t, got.Status, "nobody knows")
}

func TestBadInputGetsAProblemDocument(t *testing.T) {
	reporter := usage.NewReporter(usage.NewMemoryStore(), nil)
	h := usage.Handler(reporter, tenantA)
	const (
		days   = "The parameter days must be a whole number from 1 to 400."
		zone   = "The parameter zone must be the name of a time zone, such as Europe/Berlin."
		format = "The parameter format must be json or csv."
		twice  = "The parameter days is given more than once."
		broken = "The part of the address after the question mark can't be read."
	)
	for target, detail := range map[string]string{
		"/?days=0": days, "/?days=401": days, "/?days=-1": days, "/?days=seven": days, "/?days=1e3": days, "/?days=99999999999999999999": days,
		"/?days=7.5": days, "/?days=+7": days, "/?days=%D9%A7": days,
		"/?zone=Mars/Olympus": zone, "/?zone=Local": zone, "/?zone=../../etc/passwd": zone, "/?zone=/etc/localtime": zone, "/?zone=%00": zone,
		"/?format=xml": format, "/?format=JSON": format,
		"/?days=1&days=2": twice, "/?days=%zz": broken, "/?days=1;zone=UTC": broken,
	} {
		w := ask(h, target)
		assert.Equal(t, 400, w.Code, target)
		assert.Equal(t, "application/problem+json", w.Header().Get("Content-Type"), target)
		var p errors.Problem
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
		assert.Equal(t, errors.Problem{Type: "about:blank", Title: "Bad Request", Status: 400, Detail: detail, Kind: errors.BadRequest}, p, target)
	}
	assert.Equal(t, 403, ask(usage.Handler(reporter, nil), "/").Code)
	refuse := func(*http.Request) (string, error) { return "", errors.NotFound }
	assert.Equal(t, 404, ask(usage.Handler(reporter, refuse), "/").Code)
	w := ask(usage.Handler(usage.NewReporter(failing{}, nil), tenantA), "/")
	assert.Equal(t, 500, w.Code)
	assert.NotContains(t, w.Body.String(), "s3cret")
}

type failing struct{ usage.Store }

func (failing) Range(context.Context, string, time.Time, time.Time) ([]usage.Rollup, error) {
	return nil, errors.New("dial postgres://u:s3cret@host")
}

func FuzzQuery(f *testing.F) {
	f.Add("days=7&zone=Europe/Berlin&format=csv", "text/csv")
	f.Add("days=007&zone=UTC%2F..", "")
	f.Add("days=%ff;zone", "*/*")
	f.Add("days=0&days=1&zone=Australia/Lord_Howe&format=", "text/csv, text/html")
	h := usage.Handler(usage.NewReporter(usage.NewMemoryStore(), nil), tenantA)
	f.Fuzz(func(t *testing.T, query, accept string) {
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/", RawQuery: query}, Header: http.Header{"Accept": {accept}}}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		switch w.Code {
		case 400:
			var p errors.Problem
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
			require.Equal(t, errors.BadRequest, p.Kind)
			require.Contains(t, p.Detail, "The pa", "it says which parameter it is, or that none can be read")
			require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
		case 200:
			values, err := url.ParseQuery(query)
			require.NoError(t, err)
			want := 7
			if text := values.Get("days"); text != "" {
				want, err = strconv.Atoi(text)
				require.NoError(t, err)
			}
			if w.Header().Get("Content-Type") != "application/json" {
				lines, err := csv.NewReader(w.Body).ReadAll()
				require.NoError(t, err)
				require.Len(t, lines, want+1)
				return
			}
			var rep usage.Report
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &rep))
			require.Len(t, rep.Days, want)
		default:
			t.Fatal(w.Code)
		}
	})
}

func TestReportsKeepToTheirZone(t *testing.T) {
	store := usage.NewMemoryStore()
	r := newRecorder(t, usage.Config{Store: store})
	at := func(text string) time.Time {
		u, err := time.Parse(time.RFC3339, text)
		require.NoError(t, err)
		return u
	}
	for _, text := range []string{
		"2026-03-28T22:59:00Z",                         // the 28th in Berlin
		"2026-03-28T23:00:00Z",                         // the 29th, which has 23 hours
		"2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z", // 1:30 and 3:30
		"2026-03-29T21:59:00Z", "2026-03-29T22:00:00Z", // the 29th and the 30th
	} {
		r.Observe("a", usage.Call{Method: "getMe", At: at(text)})
	}
	require.NoError(t, r.Flush(t.Context()))
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	from := time.Date(2026, 3, 28, 0, 0, 0, 0, berlin)
	rep, err := usage.NewReporter(store, nil).Report(t.Context(), "a", from, from.AddDate(0, 0, 3), berlin)
	require.NoError(t, err)
	var counts []uint64
	for _, d := range rep.Days {
		counts = append(counts, d.Requests)
	}
	assert.Equal(t, []uint64{1, 4, 1}, counts)
	assert.EqualValues(t, 1, rep.Hours[time.Sunday][1].Requests)
	assert.EqualValues(t, 0, rep.Hours[time.Sunday][2].Requests, "there was no such hour")
	assert.EqualValues(t, 1, rep.Hours[time.Sunday][3].Requests)
	require.Len(t, rep.Busiest, 5)

	_, err = usage.NewReporter(store, nil).Report(t.Context(), "a", from, from, nil)
	assert.ErrorIs(t, err, errors.BadRequest)
	_, err = usage.NewReporter(store, nil).Report(t.Context(), "a", from, from.AddDate(2, 0, 0), nil)
	assert.ErrorIs(t, err, errors.BadRequest)

	// Days of UTC count for the day of the zone that has their noon.
	for _, zone := range []string{"America/Los_Angeles", "Asia/Tokyo", "UTC"} {
		loc, err := time.LoadLocation(zone)
		require.NoError(t, err)
		days := usage.NewMemoryStore()
		require.NoError(t, days.Add(t.Context(), health.Flush{Writer: "w", Seq: 1}, []usage.Rollup{
			{Tenant: "a", Start: at("2026-01-05T00:00:00Z").UTC(), Daily: true, Requests: 5},
			{Tenant: "a", Start: at("2026-01-06T00:00:00Z").UTC(), Daily: true, Requests: 6},
			{Tenant: "a", Start: at("2026-01-07T00:00:00Z").UTC(), Daily: true, Requests: 7},
		}))
		from := time.Date(2026, 1, 6, 0, 0, 0, 0, loc)
		rep, err := usage.NewReporter(days, nil).Report(t.Context(), "a", from, from.AddDate(0, 0, 1), loc)
		require.NoError(t, err)
		assert.EqualValues(t, 6, rep.Requests, zone)
	}
}
