package health_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"pgregory.net/rapid"
)

func get(t require.TestingT, m *health.Monitor, tenant string) health.Report {
	r, found := m.Get(tenant)
	require.True(t, found, tenant)
	return r
}

// calls reports n calls of a kind, a tenth of a second apart.
func calls(m *health.Monitor, tenant string, n int, kind errors.Kind) {
	for range n {
		time.Sleep(100 * time.Millisecond)
		m.Observe(tenant, health.Outcome{Kind: kind, Latency: 50 * time.Millisecond})
	}
}

func TestStatusFollowsFromWhatHappens(t *testing.T) {
	const ok = errors.None
	for _, c := range []struct {
		name   string
		do     func(m *health.Monitor)
		want   health.Status
		reason string // a part of it
	}{
		{"a tenant without failures is healthy", func(m *health.Monitor) { calls(m, "a", 20, ok) }, health.Healthy, ""},
		{"four failures in a row are not enough", func(m *health.Monitor) { calls(m, "a", 4, errors.Timeout) }, health.Healthy, ""},
		{"five failures in a row are unhealthy, whatever the traffic", func(m *health.Monitor) { calls(m, "a", 5, errors.Timeout) },
			health.Unhealthy, "the last 5 calls failed, the last one: timed out"},
		{"a high share of few calls says nothing", func(m *health.Monitor) {
			calls(m, "a", 4, errors.Timeout)
			calls(m, "a", 5, ok)
		}, health.Healthy, ""},
		{"a fifth of enough calls is degraded", func(m *health.Monitor) {
			for range 4 {
				calls(m, "a", 1, errors.Unavailable)
				calls(m, "a", 4, ok)
			}
		}, health.Degraded, "20 % of 20 calls"},
		{"a third of them is degraded, and says so while they fail", func(m *health.Monitor) {
			for range 10 {
				calls(m, "a", 2, ok)
				calls(m, "a", 1, errors.Unavailable)
			}
		}, health.Degraded, "33 % of 30 calls within 5 min failed, the last one: Telegram unavailable"},
		{"half of them is unhealthy", func(m *health.Monitor) {
			for range 10 {
				calls(m, "a", 1, ok)
				calls(m, "a", 1, errors.Unauthorized)
			}
		}, health.Unhealthy, "50 % of 20 calls"},
		{"what Telegram rejects says nothing of the bot", func(m *health.Monitor) {
			calls(m, "a", 20, errors.Blocked)
			calls(m, "a", 20, errors.BadRequest)
		}, health.Healthy, ""},
		{"what was held back here says nothing either", func(m *health.Monitor) {
			calls(m, "a", 20, errors.Throttled)
			calls(m, "a", 20, errors.BreakerOpen)
			calls(m, "a", 20, errors.Canceled)
		}, health.Healthy, ""},
		{"a bot that makes ten calls in an hour is judged by the hour", func(m *health.Monitor) {
			for range 5 {
				calls(m, "a", 1, errors.Timeout)
				time.Sleep(5 * time.Minute)
				calls(m, "a", 1, ok)
				time.Sleep(5 * time.Minute)
			}
		}, health.Degraded, "50 % of 10 calls within 1 h failed"},
		{"suspended stays suspended, whatever succeeds", func(m *health.Monitor) {
			m.Suspend("a", "unpaid")
			calls(m, "a", 100, ok)
			time.Sleep(time.Hour)
		}, health.Suspended, "suspended: unpaid"},
		{"quarantined is suspended and says why", func(m *health.Monitor) { m.Quarantine("a", "") }, health.Suspended,
			"quarantined, since Telegram does not accept the token"},
		{"resumed begins anew", func(m *health.Monitor) {
			calls(m, "a", 30, errors.Unauthorized)
			m.Quarantine("a", "")
			m.Resume("a")
		}, health.Healthy, ""},
		{"to resume what is not suspended changes nothing", func(m *health.Monitor) {
			calls(m, "a", 5, errors.Timeout)
			m.Resume("a")
		}, health.Unhealthy, ""},
		{"updates that pile up are degraded", func(m *health.Monitor) {
			for _, n := range []int{0, 60, 130} {
				time.Sleep(time.Minute)
				m.SetWebhook("a", health.WebhookInfo{Pending: n})
			}
		}, health.Degraded, "130 wait, after 60 the time before"},
		{"updates that come and go do not pile up", func(m *health.Monitor) {
			for _, n := range []int{500, 400, 450, 300, 350} {
				time.Sleep(time.Minute)
				m.SetWebhook("a", health.WebhookInfo{Pending: n})
			}
		}, health.Healthy, ""},
		{"a webhook that fails is degraded, without the token", func(m *health.Monitor) {
			m.SetWebhook("a", health.WebhookInfo{Set: true, LastErrorAt: time.Now().Add(-time.Minute),
				LastError: "Wrong response from 123456789:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr: 500\nInternal"})
		}, health.Degraded, "can't deliver updates to the webhook: Wrong response from 123456789:***: 500 Internal"},
		{"a webhook's error of long ago is no news", func(m *health.Monitor) {
			m.SetWebhook("a", health.WebhookInfo{Set: true, LastErrorAt: time.Now().Add(-time.Hour), LastError: "x"})
			time.Sleep(time.Hour)
			m.SetWebhook("a", health.WebhookInfo{Set: true, LastErrorAt: time.Now().Add(-2 * time.Hour), LastError: "x"})
		}, health.Healthy, ""},
		{"an older look does not count", func(m *health.Monitor) {
			now := time.Now()
			m.SetWebhook("a", health.WebhookInfo{At: now, Pending: 0})
			m.SetWebhook("a", health.WebhookInfo{At: now.Add(-time.Minute), Pending: 500})
			m.SetWebhook("a", health.WebhookInfo{At: now.Add(-time.Second), Pending: 900})
		}, health.Healthy, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMonitor(t, health.Config{})
				c.do(m)
				r := get(t, m, "a")
				assert.Equal(t, c.want, r.Status, r.Reason)
				assert.Contains(t, r.Reason, c.reason)
				if c.want == health.Healthy {
					assert.Empty(t, r.Reason)
				}
				f := m.Fleet()
				assert.Equal(t, 1, f.Tenants)
				assert.Equal(t, 1, []int{f.Healthy, f.Degraded, f.Unhealthy, f.Suspended}[c.want])
			})
		})
	}
}

// Two pollers of one token end each other's calls, and both get updates now and
// then: each looks connected, and loses.
func TestABotThatLosesA409RaceIsNotHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{})
		for range 30 {
			calls(m, "a", 20, errors.None) // it sends as well as ever
			m.Observe("a", health.Outcome{Kind: errors.Conflict, Poll: true})
			time.Sleep(10 * time.Second)
			m.Observe("a", health.Outcome{Poll: true, Latency: 8 * time.Second})
		}
		r := get(t, m, "a")
		assert.Equal(t, health.Degraded, r.Status)
		assert.Contains(t, r.Reason, "another program takes the bot's updates")
		assert.Less(t, r.Window.ErrorRate, 0.2, "by the share of failures alone it is well")
		assert.Less(t, r.Latency.P99, time.Second, "long polls are no latency")

		time.Sleep(40 * time.Minute) // the other program ends
		calls(m, "a", 5, errors.None)
		assert.Equal(t, health.Healthy, get(t, m, "a").Status)
	})
}

func TestUnhealthyRecoversByDegreesAndDoesNotFlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{})
		calls(m, "a", 30, errors.ConnectionFailed)
		require.Equal(t, health.Unhealthy, get(t, m, "a").Status)

		time.Sleep(2 * time.Hour)
		r := get(t, m, "a")
		assert.Equal(t, health.Unhealthy, r.Status, "silence is no sign of health")
		calls(m, "a", 2, errors.None)
		r = get(t, m, "a")
		assert.Equal(t, health.Unhealthy, r.Status, "two successes are a weak one")
		assert.Equal(t, "recovering: healthy once 1 more calls succeed", r.Reason)
		calls(m, "a", 1, errors.None)
		assert.Equal(t, health.Healthy, get(t, m, "a").Status)

		// One that fails every other time, around the thresholds, changes once.
		changes, last := 0, health.Healthy
		for range 600 {
			time.Sleep(time.Second)
			calls(m, "a", 4, errors.None)
			calls(m, "a", 1, errors.Timeout)
			time.Sleep(time.Second)
			calls(m, "a", 5, errors.None) // 10 %: 20 % at times
			if s := get(t, m, "a").Status; s != last {
				changes, last = changes+1, s
			}
		}
		assert.LessOrEqual(t, changes, 2)
	})
}

func TestAStatusLastsAMinuteBeforeItGetsBetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{})
		for i := range 100 { // five down, five up, for ever: one change
			calls(m, "a", 5, errors.Timeout)
			require.Equal(t, health.Unhealthy, get(t, m, "a").Status, i)
			calls(m, "a", 5, errors.None)
		}
		assert.Equal(t, time.Now().Add(-100*time.Second+500*time.Millisecond).UTC(), get(t, m, "a").Since)
	})
}

func TestThresholdsAreOnesOwnAndAreChecked(t *testing.T) {
	m := newMonitor(t, health.Config{Thresholds: health.Thresholds{Consecutive: 2, MinCalls: 4, Degraded: 0.1, Unhealthy: 1}})
	for range 2 {
		m.Observe("a", health.Outcome{Kind: errors.Timeout})
	}
	assert.Equal(t, health.Unhealthy, get(t, m, "a").Status)
	for _, k := range []errors.Kind{0, 0, errors.Timeout, 0} {
		m.Observe("b", health.Outcome{Kind: k})
	}
	assert.Equal(t, health.Degraded, get(t, m, "b").Status, "also where a success makes the calls enough")

	_, err := health.New(health.Config{
		Thresholds: health.Thresholds{Degraded: 2, Unhealthy: math.NaN(), Consecutive: -1, MinCalls: -1, Recovery: -1, Successes: -1, Span: -1, Hold: -1, Conflicts: 1000, Pending: -1},
		Window:     time.Millisecond, LongWindow: -1, MaxTenants: -1, SaveEvery: -1, SaveBatch: -1,
		Alerts: health.AlertConfig{Handlers: []health.AlertHandler{nil}, GroupWait: -1, CoolDown: -1},
	})
	for _, field := range []string{"Degraded", "Unhealthy", "Consecutive", "MinCalls", "Recovery", "Successes", "Span", "Hold", "Conflicts", "Pending",
		"Window", "LongWindow", "MaxTenants", "SaveEvery", "SaveBatch", "Handlers[0]", "GroupWait", "CoolDown"} {
		assert.ErrorContains(t, err, field)
	}
	_, err = health.New(health.Config{Thresholds: health.Thresholds{Degraded: 0.9}})
	assert.ErrorContains(t, err, "Degraded is above Unhealthy")
}

// Every figure of a report is what a model counts from the same outcomes.
func TestAReportIsWhatAModelCounts(t *testing.T) {
	kinds := append(errors.Kinds(), errors.None, errors.None, errors.None, errors.None, errors.None, errors.None)
	rapid.Check(t, func(t *rapid.T) {
		m := newMonitorIn(t, health.Config{})
		now := time.Now().Add(-3 * time.Hour) // all of it is in the past
		var want health.Report
		var ema float32
		var latencies []time.Duration
		for range rapid.IntRange(1, 80).Draw(t, "n") {
			now = now.Add(time.Duration(rapid.IntRange(1, 120).Draw(t, "pause")) * time.Second)
			o := health.Outcome{
				At:      now,
				Kind:    rapid.SampledFrom(kinds).Draw(t, "kind"),
				Latency: time.Duration(rapid.IntRange(10, 1000).Draw(t, "ms")) * time.Millisecond,
				Poll:    rapid.IntRange(0, 5).Draw(t, "poll") == 0,
			}
			if o.Kind == errors.RateLimited {
				o.RetryAfter = time.Hour * 24 * 365 // still to come
			}
			m.Observe("a", o)
			switch fault := o.Kind.Fault(); {
			case o.Kind == errors.Canceled:
				continue
			case fault == errors.FaultLocal, o.Kind == errors.BreakerOpen, o.Kind == errors.Suspended, o.Kind == errors.Unverified:
				want.Refused++
				continue
			case fault == errors.FaultTenant, fault == errors.FaultPlatform:
				want.Failures++
				want.ConsecutiveFailures++
				want.LastFailure, want.LastFailureKind = now, o.Kind
				if o.Kind == errors.RateLimited {
					want.RateLimitedUntil = now.Add(o.RetryAfter)
				}
			default:
				want.ConsecutiveFailures, want.LastSuccess = 0, now
				if fault == errors.FaultCaller {
					want.Rejected++
				} else {
					want.Successes++
				}
			}
			want.Requests++
			if !o.Poll {
				latencies = append(latencies, o.Latency)
				if ema == 0 {
					ema = float32(o.Latency)
				} else {
					ema = 0.3*float32(o.Latency) + 0.7*ema
				}
			}
		}
		got, found := m.Get("a")
		if want.Requests+want.Refused == 0 {
			if found {
				t.Fatal("found what was never seen")
			}
			return
		}
		equal := func(name string, want, got any) {
			if want != got {
				t.Fatalf("%s is %v and not %v", name, got, want)
			}
		}
		equal("Requests", want.Requests, got.Requests)
		equal("Successes", want.Successes, got.Successes)
		equal("Failures", want.Failures, got.Failures)
		equal("Rejected", want.Rejected, got.Rejected)
		equal("Refused", want.Refused, got.Refused)
		equal("ConsecutiveFailures", want.ConsecutiveFailures, got.ConsecutiveFailures)
		equal("LastFailureKind", want.LastFailureKind, got.LastFailureKind)
		for name, times := range map[string][2]time.Time{
			"LastSuccess": {want.LastSuccess, got.LastSuccess}, "LastFailure": {want.LastFailure, got.LastFailure},
			"RateLimitedUntil": {want.RateLimitedUntil, got.RateLimitedUntil},
		} {
			equal(name, true, near(times[0], times[1]))
		}
		if want.Requests > 0 {
			equal("ErrorRate", float64(want.Failures)/float64(want.Requests), got.ErrorRate)
		}
		if len(latencies) > 0 {
			if off := math.Abs(float64(got.Latency.Average)/float64(ema) - 1); off > 1e-4 {
				t.Fatalf("average is %v and not %v", got.Latency.Average, time.Duration(ema))
			}
			for q, got := range map[float64]time.Duration{0.5: got.Latency.P50, 0.95: got.Latency.P95, 0.99: got.Latency.P99} {
				if off := math.Abs(float64(got)/float64(exact(latencies, q)) - 1); off > 0.02 {
					t.Fatalf("percentile %v is %v and not %v", q, got, exact(latencies, q))
				}
			}
		}
	})
}

func newMonitorIn(t *rapid.T, cfg health.Config) *health.Monitor {
	m, err := health.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// near is equality but for what passes between two readings of the clock.
func near(t, u time.Time) bool {
	return t.IsZero() == u.IsZero() && t.Sub(u).Abs() < 100*time.Millisecond
}

func TestAWindowForgetsAndALifetimeDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{})
		calls(m, "a", 100, errors.None)
		time.Sleep(24 * time.Hour)
		calls(m, "a", 40, errors.Timeout)
		r := get(t, m, "a")
		assert.InDelta(t, 40.0/140, r.ErrorRate, 1e-9, "by the average of its life it is nearly well")
		assert.Equal(t, health.Rate{Within: 5 * time.Minute, Requests: 40, Failures: 40, ErrorRate: 1}, r.Window)
		time.Sleep(6 * time.Minute)
		r = get(t, m, "a")
		assert.Zero(t, r.Window.Requests)
		assert.EqualValues(t, 40, r.LongWindow.Failures)
		time.Sleep(time.Hour)
		assert.Zero(t, get(t, m, "a").LongWindow.Requests)
		assert.Zero(t, m.Fleet().Window.Requests)
		assert.EqualValues(t, 140, m.Fleet().Requests)
	})
}

func TestTheFleetIsTheSumOfItsTenants(t *testing.T) {
	m := newMonitor(t, health.Config{})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 4000 {
				id := fmt.Sprintf("t%d", (i+w)%50)
				kind := []errors.Kind{errors.None, errors.None, errors.Timeout, errors.Blocked, errors.Throttled}[(i/50+w)%5]
				m.Observe(id, health.Outcome{Kind: kind, Latency: time.Duration(i) * time.Millisecond})
				switch i % 97 {
				case 0:
					m.Update(id, time.Time{})
				case 1:
					m.SetBreaker(id, health.BreakerOpen)
				case 2:
					m.SetWebhook(id, health.WebhookInfo{Pending: i})
				case 3:
					m.Suspend(id, "why")
				case 4:
					m.Resume(id)
				case 5:
					m.Fleet()
					m.Unhealthy()
				}
			}
		})
	}
	wg.Wait()
	f := m.Fleet()
	assert.Equal(t, 50, f.Tenants)
	assert.Equal(t, 50, f.Healthy+f.Degraded+f.Unhealthy+f.Suspended)
	var sum health.Fleet
	ill := 0
	for i := range 50 {
		r := get(t, m, fmt.Sprintf("t%d", i))
		sum.Requests += r.Requests
		sum.Successes += r.Successes
		sum.Failures += r.Failures
		sum.Rejected += r.Rejected
		sum.Refused += r.Refused
		if r.Status == health.Degraded || r.Status == health.Unhealthy {
			ill++
		}
	}
	assert.EqualValues(t, 8*4000, f.Requests+f.Refused)
	assert.Equal(t, []uint64{sum.Requests, sum.Successes, sum.Failures, sum.Rejected, sum.Refused},
		[]uint64{f.Requests, f.Successes, f.Failures, f.Rejected, f.Refused})
	list := m.Unhealthy()
	assert.Len(t, list, ill)
	for i := 1; i < len(list); i++ {
		a, b := list[i-1], list[i]
		assert.True(t, a.Status > b.Status || a.Status == b.Status && a.Tenant < b.Tenant)
	}
}

func TestThereIsNoRoomForMoreThanMaxTenants(t *testing.T) {
	m := newMonitor(t, health.Config{MaxTenants: 10})
	for i := range 25 {
		m.Observe(fmt.Sprint(i), health.Outcome{})
		m.Update(fmt.Sprint(i), time.Time{})
	}
	f := m.Fleet()
	assert.Equal(t, 10, f.Tenants)
	assert.Equal(t, 10, f.Healthy)
	assert.EqualValues(t, 25, f.Requests)
	assert.EqualValues(t, 15, f.Untracked)
	require.NoError(t, m.Forget(t.Context(), "3"))
	require.NoError(t, m.Forget(t.Context(), "nobody"))
	m.Observe("new", health.Outcome{})
	assert.Equal(t, 10, m.Fleet().Tenants)
	_, found := m.Get("3")
	assert.False(t, found)
}

func TestAClockThatStepsBackHarmsNothing(t *testing.T) {
	m := newMonitor(t, health.Config{})
	now := time.Now().Round(0) // the wall clock's alone
	for i := range 50 {
		m.Observe("a", health.Outcome{At: now.Add(-time.Duration(i) * time.Hour), Kind: errors.Timeout})
	}
	m.Observe("a", health.Outcome{At: now.Add(-100 * 365 * 24 * time.Hour)})
	r := get(t, m, "a")
	assert.True(t, near(now, r.LastFailure))
	assert.EqualValues(t, 51, r.Requests)
	assert.Less(t, r.Window.Requests, uint64(3))
}

func TestATimeThatHasNotComeKeepsNothingOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{})
		future := time.Now().Add(1000 * time.Hour)
		m.Observe("a", health.Outcome{At: future, RetryAfter: math.MaxInt64, Kind: errors.RateLimited})
		m.Update("a", future)
		m.SetWebhook("a", health.WebhookInfo{At: future, Pending: 1})
		time.Sleep(time.Minute)
		calls(m, "a", 9, errors.None)
		m.SetWebhook("a", health.WebhookInfo{Pending: 2})
		r := get(t, m, "a")
		assert.EqualValues(t, 10, r.Window.Requests)
		assert.EqualValues(t, 2, r.Webhook.Pending)
		assert.False(t, r.LastUpdate.After(time.Now()))
		assert.False(t, r.LastFailure.After(time.Now()))
		assert.False(t, r.RateLimitedUntil.IsZero())
	})
}

func TestAReasonIsShortAndOneLine(t *testing.T) {
	m := newMonitor(t, health.Config{})
	m.Suspend("a", strings.Repeat("ü", 500)+"\n\x00")
	r := get(t, m, "a")
	assert.LessOrEqual(t, len(r.Reason), health.MaxTextLen+len("suspended: "))
	assert.True(t, strings.HasSuffix(r.Reason, "…"))
	m.Suspend("b", "a\nb\xff 123456789:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr")
	assert.Equal(t, "suspended: a b? 123456789:***", get(t, m, "b").Reason)
}

func TestAReportAsJSONHasTheNamesThatPagesRead(t *testing.T) {
	m := newMonitor(t, health.Config{})
	m.Observe("a", health.Outcome{Latency: 1500 * time.Microsecond})
	text, err := json.Marshal(get(t, m, "a"))
	require.NoError(t, err)
	var got map[string]any
	require.NoError(t, json.Unmarshal(text, &got))
	assert.Equal(t, "healthy", got["status"])
	assert.EqualValues(t, 1, got["total_requests"])
	assert.EqualValues(t, 1.5, got["latency"].(map[string]any)["average_ms"])
	assert.EqualValues(t, 300, got["window"].(map[string]any)["within_s"])
	assert.Equal(t, "closed", got["breaker"])
	assert.NotContains(t, got, "last_failure")

	fleet, err := json.Marshal(m.Fleet())
	require.NoError(t, err)
	got = nil
	require.NoError(t, json.Unmarshal(fleet, &got))
	assert.NotContains(t, got["latency"], "average_ms", "a fleet has none, and it is not 0")
	assert.Contains(t, got["latency"], "p50_ms")
}

func TestAFleetsLatencyHasTheSameNamesBeforeItsFirstCall(t *testing.T) {
	m, err := health.New(health.Config{})
	require.NoError(t, err)
	fleet, err := json.Marshal(m.Fleet())
	require.NoError(t, err)
	assert.Contains(t, string(fleet), `"latency":{"p50_ms":0,"p95_ms":0,"p99_ms":0}`)
	one, err := json.Marshal(health.Report{})
	require.NoError(t, err)
	assert.Contains(t, string(one), `"latency":{"average_ms":0,"p50_ms":0,`, "a tenant has one")
}

func TestNamesOfStatesReadBack(t *testing.T) {
	for _, s := range []health.Status{health.Healthy, health.Degraded, health.Unhealthy, health.Suspended} {
		text, _ := s.MarshalText()
		var back health.Status
		require.NoError(t, back.UnmarshalText(text))
		assert.Equal(t, s, back)
	}
	for _, b := range []health.Breaker{health.BreakerClosed, health.BreakerHalfOpen, health.BreakerOpen} {
		text, _ := b.MarshalText()
		var back health.Breaker
		require.NoError(t, back.UnmarshalText(text))
		assert.Equal(t, b, back)
	}
	var s health.Status
	assert.Error(t, s.UnmarshalText([]byte("fine")))
	assert.Equal(t, "Status(9)", health.Status(9).String())
}

func TestWhatIsSaidTwiceDecidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := health.NewMemoryStore()
		m, err := health.New(health.Config{Store: store})
		require.NoError(t, err)
		require.NoError(t, m.Start(t.Context()))
		start := time.Now()
		m.Suspend("shop", "unpaid")
		time.Sleep(time.Hour)
		m.Suspend("shop", "unpaid")
		require.NoError(t, m.Stop(t.Context()))
		all, err := store.Load(t.Context(), "", 0)
		require.NoError(t, err)
		require.Len(t, all, 1)
		assert.Equal(t, start.UTC(), all[0].Suspension.At)
		m.Quarantine("shop", "unpaid")
		assert.Contains(t, get(t, m, "shop").Reason, "quarantined")
	})
}

func TestABreakerThatClosesMakesNobodyKnown(t *testing.T) {
	m, err := health.New(health.Config{})
	require.NoError(t, err)
	m.SetBreaker("gone", health.BreakerClosed)
	_, found := m.Get("gone")
	assert.False(t, found)
	m.Resume("new")
	assert.Equal(t, health.Healthy, get(t, m, "new").Status)
}
