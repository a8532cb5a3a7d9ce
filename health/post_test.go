package health_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
)

// receiver answers with one status after the other, and keeps what it got.
type receiver struct {
	answers []string // "503", or "429 after 7"
	got     []*http.Request
	bodies  [][]byte
	at      []time.Time
}

func (r *receiver) RoundTrip(q *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(q.Body)
	r.got, r.bodies, r.at = append(r.got, q), append(r.bodies, body), append(r.at, time.Now())
	answer := r.answers[min(len(r.got), len(r.answers))-1]
	if answer == "broken" {
		return nil, errors.New("connection refused")
	}
	status, after, _ := strings.Cut(answer, " after ")
	var code int
	fmt.Sscan(status, &code)
	return &http.Response{StatusCode: code, Header: http.Header{"Retry-After": {after}}, Body: io.NopCloser(strings.NewReader("no")), Request: q}, nil
}

var alertForPost = health.Alert{ID: "id-1", Group: "platform", Failing: 3, Worst: health.Unhealthy, Transitions: []health.Transition{
	{Tenant: "a", To: health.Unhealthy, Kind: errors.Timeout}, {Tenant: "b", To: health.Unhealthy}, {Tenant: "c", To: health.Unhealthy},
}}

func TestAnAlertIsPostedUntilItIsTaken(t *testing.T) {
	secret := []byte("0123456789abcdef")
	for _, c := range []struct {
		name     string
		answers  []string
		attempts int
		err      string
		least    time.Duration
	}{
		{"taken at once", []string{"204"}, 1, "", 0},
		{"a broken connection and a server error are tried again", []string{"broken", "503", "200"}, 3, "", 1500 * time.Millisecond},
		{"what Retry-After says is a floor", []string{"429 after 600", "200"}, 2, "", 10 * time.Minute},
		{"a Retry-After of a day is given up", []string{"429 after 86400"}, 1, "status 429", 0},
		{"a refusal is final", []string{"400"}, 1, "answered with status 400", 0},
		{"a redirect is not followed", []string{"302"}, 1, "answered with status 302", 0},
		{"six attempts are enough", []string{"500"}, 6, "post alert to example.com, attempt 6: answered with status 500", 15 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &receiver{answers: c.answers}
				h, err := health.PostAlerts(health.PostConfig{URL: "https://example.com/hook/s3cret", Secret: secret, Client: &http.Client{
					Transport: r, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, Transitions: 2})
				require.NoError(t, err)
				start := time.Now()
				err = h.Handle(t.Context(), alertForPost)
				if c.err == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, c.err)
					assert.NotContains(t, err.Error(), "s3cret")
				}
				require.Len(t, r.got, c.attempts)
				assert.GreaterOrEqual(t, time.Since(start), c.least)
				for i, q := range r.got {
					assert.Equal(t, "id-1", q.Header.Get("webhook-id"))
					require.NoError(t, health.VerifyAlert(secret, q.Header, r.bodies[i], r.at[i]))
					var a health.Alert
					require.NoError(t, json.Unmarshal(r.bodies[i], &a))
					assert.Len(t, a.Transitions, 2)
					assert.Equal(t, 3, a.Failing)
				}
			})
		})
	}
}

func TestAPostEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := health.PostAlerts(health.PostConfig{URL: "http://example.com", Client: &http.Client{Transport: &receiver{answers: []string{"429 after 60"}}}})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		err = h.Handle(ctx, alertForPost)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorContains(t, err, "status 429", "the last error is not lost")
		assert.Equal(t, 10*time.Second, time.Since(start))
	})
}

func TestAnAlertThatIsForgedOrOldIsRefused(t *testing.T) {
	secret := []byte("0123456789abcdef")
	r := &receiver{answers: []string{"200"}}
	h, err := health.PostAlerts(health.PostConfig{URL: "http://example.com", Secret: secret, Client: &http.Client{Transport: r}})
	require.NoError(t, err)
	require.NoError(t, h.Handle(t.Context(), alertForPost))
	header, body, now := r.got[0].Header, r.bodies[0], r.at[0]
	changed := func(name, value string) http.Header {
		h := header.Clone()
		h.Set(name, value)
		return h
	}
	require.NoError(t, health.VerifyAlert(secret, header, body, now))
	require.NoError(t, health.VerifyAlert(secret, changed("webhook-signature", "v1,AAAA v2,x "+header.Get("webhook-signature")), body, now))
	for name, err := range map[string]error{
		"another secret":      health.VerifyAlert([]byte("another secret!!"), header, body, now),
		"another body":        health.VerifyAlert(secret, header, append([]byte(" "), body...), now),
		"another id":          health.VerifyAlert(secret, changed("webhook-id", "id-2"), body, now),
		"another time":        health.VerifyAlert(secret, changed("webhook-timestamp", fmt.Sprint(now.Unix()+1)), body, now),
		"no id":               health.VerifyAlert(secret, changed("webhook-id", ""), body, now),
		"no time":             health.VerifyAlert(secret, changed("webhook-timestamp", "soon"), body, now),
		"no signature":        health.VerifyAlert(secret, changed("webhook-signature", ""), body, now),
		"replayed":            health.VerifyAlert(secret, header, body, now.Add(6*time.Minute)),
		"from the future":     health.VerifyAlert(secret, header, body, now.Add(-6*time.Minute)),
		"of another version":  health.VerifyAlert(secret, changed("webhook-signature", strings.Replace(header.Get("webhook-signature"), "v1", "v2", 1)), body, now),
		"nothing but garbage": health.VerifyAlert(secret, changed("webhook-signature", "v1,%%%"), body, now),
	} {
		assert.ErrorIs(t, err, errors.Forbidden, name)
	}
}

func TestAPostsConfigIsChecked(t *testing.T) {
	_, err := health.PostAlerts(health.PostConfig{URL: "ftp://host/s3cret", Secret: []byte("short"), Attempts: -1, Transitions: -1})
	for _, field := range []string{"URL", "Secret", "Attempts", "Transitions"} {
		assert.ErrorContains(t, err, field)
	}
	assert.NotContains(t, err.Error(), "s3cret")
	h, err := health.PostAlerts(health.PostConfig{URL: "https://host/s3cret", Secret: []byte("0123456789abcdef")})
	require.NoError(t, err)
	assert.NotContains(t, fmt.Sprintf("%v %+v %#v", h, h, h), "s3cret")
}

func TestWhatIsPostedOfAnAlertThatIsTooLongIsHowItEnded(t *testing.T) {
	to := func(tenant string, s health.Status) health.Transition {
		return health.Transition{Tenant: tenant, To: s}
	}
	all := []health.Transition{
		to("a", health.Degraded), to("b", health.Unhealthy), to("a", health.Unhealthy), to("c", health.Degraded), to("b", health.Healthy),
	}
	for most, want := range map[int][]health.Transition{
		5: all,
		4: {to("a", health.Unhealthy), to("b", health.Healthy), to("c", health.Degraded)},
		3: {to("a", health.Unhealthy), to("b", health.Healthy), to("c", health.Degraded)},
		2: {to("a", health.Unhealthy), to("c", health.Degraded)},
		1: {to("a", health.Unhealthy)},
	} {
		r := &receiver{answers: []string{"200"}}
		h, err := health.PostAlerts(health.PostConfig{URL: "https://example.com", Client: &http.Client{Transport: r}, Transitions: most})
		require.NoError(t, err)
		alert := health.Alert{Failing: 2, Recovered: 1, Transitions: all}
		before := fmt.Sprint(all)
		require.NoError(t, h.Handle(t.Context(), alert))
		var got health.Alert
		require.NoError(t, json.Unmarshal(r.bodies[0], &got))
		assert.Equal(t, want, got.Transitions, most)
		assert.Equal(t, []int{2, 1}, []int{got.Failing, got.Recovered})
		assert.Equal(t, before, fmt.Sprint(all), "which handlers share")
	}
}
