package health_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
)

func TestFailuresInARowSayWhatTheyCan(t *testing.T) {
	const ok, bad = errors.None, errors.ConnectionFailed
	type some struct {
		n    int
		kind errors.Kind
		then time.Duration
	}
	for _, c := range []struct {
		name  string
		span  time.Duration
		calls []some
		want  health.Status
	}{
		{"five at one moment and nothing else", 0, []some{{5, bad, 0}}, health.Unhealthy},
		{"five at one moment after few that were well", 0, []some{{4, ok, 0}, {5, bad, 0}}, health.Unhealthy},
		{"four", 0, []some{{4, bad, 0}}, health.Healthy},
		{"five at one moment among many that were well", 0, []some{{100, ok, 0}, {5, bad, 0}}, health.Healthy},
		{"five at one moment that are a good part of all", 0, []some{{15, ok, 0}, {5, bad, 0}}, health.Degraded},
		{"as many at one moment as were well", 0, []some{{10, ok, 0}, {10, bad, 0}}, health.Unhealthy},
		{"five within less than two seconds", 0, []some{{100, ok, 0}, {4, bad, 1500 * time.Millisecond}, {1, bad, 0}}, health.Healthy},
		{"five within two seconds", 0, []some{{100, ok, 0}, {4, bad, 1600 * time.Millisecond}, {1, bad, 0}}, health.Unhealthy},
		{"one moment and another, with a success between", 0, []some{{100, ok, 0}, {5, bad, 3 * time.Second}, {1, ok, 0}, {5, bad, 0}}, health.Healthy},
		{"what was well is long ago", 0, []some{{100, ok, 6 * time.Minute}, {5, bad, 0}}, health.Unhealthy},
		{"a span of one's own", time.Minute, []some{{100, ok, 0}, {4, bad, 59 * time.Second}, {1, bad, 0}}, health.Healthy},
		{"no span", 1, []some{{100, ok, 0}, {4, bad, 1}, {1, bad, 0}}, health.Unhealthy},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMonitor(t, health.Config{Thresholds: health.Thresholds{Span: c.span}})
				for _, s := range c.calls {
					calls(m, "a", s.n, s.kind)
					time.Sleep(s.then)
				}
				assert.Equal(t, c.want, get(t, m, "a").Status, get(t, m, "a").Reason)
			})
		})
	}
}

// A burst that said nothing then says nothing later by itself.
func TestSilenceAfterABurstMakesNothingWorse(t *testing.T) {
	for name, event := range map[string]func(*health.Monitor){
		"a call that was held back": func(m *health.Monitor) { m.Observe("a", health.Outcome{Kind: errors.BreakerOpen}) },
		"a look at the webhook":     func(m *health.Monitor) { m.SetWebhook("a", health.WebhookInfo{Set: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMonitor(t, health.Config{})
				calls(m, "a", 100, errors.None)
				calls(m, "a", 5, errors.ConnectionFailed)
				time.Sleep(6 * time.Minute)
				event(m)
				assert.Equal(t, health.Healthy, get(t, m, "a").Status, get(t, m, "a").Reason)
				calls(m, "a", 1, errors.ConnectionFailed)
				assert.Equal(t, health.Unhealthy, get(t, m, "a").Status)
				time.Sleep(6 * time.Minute)
				event(m)
				assert.Equal(t, health.Unhealthy, get(t, m, "a").Status)
				assert.Equal(t, "the last 6 calls failed, the last one: "+errors.ConnectionFailed.Error(), get(t, m, "a").Reason)
			})
		})
	}
	t.Run("nor makes it better", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newMonitor(t, health.Config{})
			calls(m, "a", 5, errors.Timeout) // of one moment, and all that there is
			time.Sleep(6 * time.Minute)
			m.Observe("a", health.Outcome{Kind: errors.BreakerOpen})
			assert.Equal(t, health.Unhealthy, get(t, m, "a").Status)
			assert.Contains(t, get(t, m, "a").Reason, "the last 5 calls failed")
		})
	})
}

// Those that end at the same time are told of in any order.
func TestFailuresInARowMayBeToldInAnyOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{})
		calls(m, "a", 100, errors.None)
		time.Sleep(10 * time.Second)
		for i := range 5 {
			m.Observe("a", health.Outcome{At: time.Now().Add(-time.Duration(i) * time.Second), Kind: errors.Timeout})
		}
		assert.Equal(t, health.Unhealthy, get(t, m, "a").Status)
	})
}
