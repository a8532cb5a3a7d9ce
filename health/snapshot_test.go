package health_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"pgregory.net/rapid"
)

// What is written today must be read for ever.
func TestASnapshotsJSONIsFixed(t *testing.T) {
	at := time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC)
	s := health.Snapshot{
		Tenant: "a", Requests: 5, Failures: 4, Rejected: 3, Refused: 2,
		LastSuccess: at, LastFailure: at, LastFailureKind: errors.Timeout, LastUpdate: at, RateLimitedUntil: at,
		State:      health.State{At: at, Status: health.Degraded, Since: at, Cause: 2, Streak: -1, Average: 80 * time.Millisecond},
		Webhook:    &health.WebhookInfo{At: at, Set: true, Pending: 1, LastErrorAt: at, LastError: "x"},
		Suspension: &health.Suspension{Suspended: true, Quarantine: true, Reason: "why", At: at},
		Told:       &health.Told{At: at, Status: health.Unhealthy, Group: "platform"},
	}
	s.Latency.Add(80 * time.Millisecond)
	const want = `{"tenant":"a","requests":5,"failures":4,"rejected":3,"refused":2,"latency":"AQCrAQE","last_success":"2026-03-29T01:30:00Z",` +
		`"last_failure":"2026-03-29T01:30:00Z","last_failure_kind":"timeout","last_update":"2026-03-29T01:30:00Z","rate_limited_until":"2026-03-29T01:30:00Z",` +
		`"state":{"at":"2026-03-29T01:30:00Z","status":"degraded","since":"2026-03-29T01:30:00Z","cause":2,"streak":-1,"average":80000000},` +
		`"webhook":{"at":"2026-03-29T01:30:00Z","set":true,"pending":1,"last_error_at":"2026-03-29T01:30:00Z","last_error":"x"},` +
		`"suspension":{"suspended":true,"quarantine":true,"reason":"why","at":"2026-03-29T01:30:00Z"},` +
		`"told":{"at":"2026-03-29T01:30:00Z","status":"unhealthy","group":"platform"}}`
	got, err := json.Marshal(s)
	require.NoError(t, err)
	assert.Equal(t, want, string(got))
	var back health.Snapshot
	require.NoError(t, json.Unmarshal(got, &back))
	assert.Equal(t, s.Latency.Quantile(0.5), back.Latency.Quantile(0.5))
	s.Latency, back.Latency = health.Sketch{}, health.Sketch{}
	assert.Equal(t, s, back)

	empty, err := json.Marshal(health.Snapshot{Tenant: "a"})
	require.NoError(t, err)
	assert.Equal(t, `{"tenant":"a"}`, string(empty))
}

func TestTheOrderOfSnapshotsDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC)
		offsets := rapid.Permutation([]int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}).Draw(t, "times")
		at := func(i int) time.Time { return base.Add(time.Duration(offsets[i]) * time.Second) }
		var list []health.Snapshot
		for i := range 4 {
			s := health.Snapshot{Tenant: "a", Requests: uint64(rapid.IntRange(0, 9).Draw(t, "requests")), Failures: uint64(i)}
			for range rapid.IntRange(0, 20).Draw(t, "n") {
				s.Latency.Add(time.Duration(rapid.IntRange(1, 10_000).Draw(t, "ms")) * time.Millisecond)
			}
			if rapid.Bool().Draw(t, "failed") {
				s.LastFailure, s.LastFailureKind = at(i), errors.Kind(1+i)
			}
			if rapid.Bool().Draw(t, "state") {
				s.State = health.State{At: at(4 + i), Streak: int32(i)}
			}
			if rapid.Bool().Draw(t, "webhook") {
				s.Webhook = &health.WebhookInfo{At: at(8 + i), Pending: i}
			}
			if rapid.Bool().Draw(t, "suspension") {
				s.Suspension = &health.Suspension{At: at(12 + i), Suspended: i%2 == 0}
			}
			if rapid.Bool().Draw(t, "told") {
				s.Told = &health.Told{At: at(16 + i), Status: health.Status(i)}
			}
			list = append(list, s)
		}
		var one, other, nested, right health.Snapshot
		for _, s := range list {
			one.Merge(s)
		}
		for _, s := range slices.Backward(list) {
			other.Merge(s)
		}
		nested.Merge(list[0])
		nested.Merge(list[1])
		right.Merge(list[2])
		right.Merge(list[3])
		nested.Merge(right)
		text := func(s health.Snapshot) string {
			data, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			return string(data)
		}
		if text(one) != text(other) || text(one) != text(nested) {
			t.Fatalf("%s\n%s\n%s", text(one), text(other), text(nested))
		}
	})
}

func TestAHandlerMayAskAndTellTheMonitor(t *testing.T) {
	var m *health.Monitor
	var heard []string
	m = newMonitor(t, health.Config{Alerts: health.AlertConfig{Handlers: []health.AlertHandler{
		health.AlertFunc(func(_ context.Context, a health.Alert) error {
			for _, tr := range a.Transitions {
				r, _ := m.Get(tr.Tenant)
				heard = append(heard, fmt.Sprint(tr.Tenant, " ", r.Status))
				m.Suspend(tr.Tenant, "it failed")
			}
			m.Fleet()
			return nil
		}),
	}}})
	require.NoError(t, m.Start(t.Context()))
	for range 5 {
		m.Observe("a", health.Outcome{Kind: errors.Unauthorized})
	}
	require.NoError(t, m.Stop(t.Context()))
	assert.Equal(t, []string{"a unhealthy"}, heard)
	assert.Equal(t, health.Suspended, get(t, m, "a").Status)
}
