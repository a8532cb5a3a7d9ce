package health_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
)

// told is a handler that remembers.
type told struct {
	mu     sync.Mutex
	alerts []health.Alert
}

func (h *told) Handle(_ context.Context, a health.Alert) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.alerts = append(h.alerts, a)
	return nil
}

func (h *told) all() []health.Alert {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]health.Alert(nil), h.alerts...)
}

// fleetFor lets n tenants each make a call every 5 s for a time. kind says what
// becomes of a tenant's call at a time.
func fleetFor(m *health.Monitor, d time.Duration, n int, kind func(tenant int, at time.Duration) errors.Kind) {
	for start := time.Now(); time.Since(start) < d; {
		for i := range n {
			m.Observe(fmt.Sprintf("t%04d", i), health.Outcome{Kind: kind(i, time.Since(start)), Latency: 60 * time.Millisecond})
		}
		time.Sleep(5 * time.Second)
	}
}

func TestWhichAlertsFireWhenAndHowMany(t *testing.T) {
	const (
		fleet = 500
		ok    = errors.None
		begin = 10 * time.Minute
	)
	type want struct {
		at                 time.Duration // within 10 s
		group              string
		worst              health.Status
		failing, recovered int
	}
	between := func(at, from, to time.Duration) bool { return at >= from && at < to }
	for _, c := range []struct {
		name string
		kind func(i int, at time.Duration) errors.Kind
		want []want
	}{
		{"a fleet that is well: none", func(int, time.Duration) errors.Kind { return ok }, nil},
		{"an outage of Telegram: one when it begins and one when it is over",
			func(_ int, at time.Duration) errors.Kind {
				if between(at, begin, begin+30*time.Minute) {
					return errors.Unavailable
				}
				return ok
			}, []want{
				{begin + 50*time.Second, "platform", health.Unhealthy, fleet, 0},
				{begin + 37*time.Minute + 55*time.Second, "platform", 0, 0, fleet},
			}},
		{"an outage that shows in many ways is still one",
			func(i int, at time.Duration) errors.Kind {
				if between(at, begin, begin+30*time.Minute) {
					return []errors.Kind{errors.Unavailable, errors.Timeout, errors.ConnectionFailed, errors.BadReply}[i%4]
				}
				return ok
			}, []want{
				{begin + 50*time.Second, "platform", health.Unhealthy, fleet, 0},
				{begin + 37*time.Minute + 55*time.Second, "platform", 0, 0, fleet},
			}},
		{"a single bot whose token was revoked: one, and one when it is back",
			func(i int, at time.Duration) errors.Kind {
				if i == 7 && between(at, begin, begin+20*time.Minute) {
					return errors.Unauthorized
				}
				return ok
			}, []want{
				{begin + 50*time.Second, "unauthorized", health.Unhealthy, 1, 0},
				{begin + 27*time.Minute + 55*time.Second, "unauthorized", 0, 0, 1},
			}},
		{"a single bot and then an outage: the outage does not wait for the bot's cool-down",
			func(i int, at time.Duration) errors.Kind {
				if i == 7 && between(at, begin, begin+20*time.Minute) || between(at, begin+2*time.Minute, begin+20*time.Minute) {
					return errors.Timeout
				}
				return ok
			}, []want{
				{begin + 50*time.Second, "platform", health.Unhealthy, 1, 0},
				{begin + 2*time.Minute + 50*time.Second, "platform", health.Unhealthy, fleet - 1, 0},
				{begin + 27*time.Minute + 55*time.Second, "platform", 0, 0, fleet},
			}},
		{"a second outage soon after the first does not wait for the end of a cool-down",
			func(_ int, at time.Duration) errors.Kind {
				if between(at, begin, begin+5*time.Minute) || between(at, begin+14*time.Minute, begin+20*time.Minute) {
					return errors.Unavailable
				}
				return ok
			}, []want{
				{begin + 50*time.Second, "platform", health.Unhealthy, fleet, 0},
				{begin + 13*time.Minute, "platform", 0, 0, fleet},
				{begin + 14*time.Minute + 50*time.Second, "platform", health.Unhealthy, fleet, 0},
				{begin + 28*time.Minute, "platform", 0, 0, fleet},
			}},
		{"bots that fail one after the other: one for each cool-down",
			func(i int, at time.Duration) errors.Kind {
				if i < 60 && at >= begin+time.Duration(i)*10*time.Second {
					return errors.Unauthorized
				}
				return ok
			}, []want{
				{begin + 50*time.Second, "unauthorized", health.Unhealthy, 4, 0},
				{begin + 5*time.Minute + 50*time.Second, "unauthorized", health.Unhealthy, 30, 0},
				{begin + 10*time.Minute + 50*time.Second, "unauthorized", health.Unhealthy, 26, 0},
			}},
		{"a bot that fails and recovers all the time is told of once each cool-down at most",
			func(i int, at time.Duration) errors.Kind {
				if i == 7 && at >= begin && (at/time.Minute)%8 < 1 {
					return errors.Unauthorized
				}
				return ok
			}, []want{
				{16*time.Minute + 50*time.Second, "unauthorized", health.Unhealthy, 1, 0},
				{22*time.Minute + 20*time.Second, "unauthorized", health.Healthy, 0, 1},
				{27*time.Minute + 20*time.Second, "unauthorized", health.Degraded, 1, 0}, // fell and is on its way back
				{32*time.Minute + 50*time.Second, "unauthorized", health.Unhealthy, 1, 0},
				{38*time.Minute + 20*time.Second, "unauthorized", health.Healthy, 0, 1},
				{43*time.Minute + 20*time.Second, "unauthorized", health.Degraded, 1, 0},
				{48*time.Minute + 50*time.Second, "unauthorized", health.Unhealthy, 1, 0},
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &told{}
				// Calls are 5 s apart, and nothing else is to happen when one is made.
				m := newMonitor(t, health.Config{Alerts: health.AlertConfig{Handlers: []health.AlertHandler{h}, GroupWait: 32 * time.Second}})
				require.NoError(t, m.Start(t.Context()))
				start := time.Now()
				fleetFor(m, 50*time.Minute, fleet, c.kind)
				got := h.all()
				for i, a := range got {
					t.Logf("%v %s %v failing %d recovered %d: %s", a.At.Sub(start), a.Group, a.Worst, a.Failing, a.Recovered, a.Text(1))
					if i < len(c.want) {
						w := c.want[i]
						assert.InDelta(t, w.at, a.At.Sub(start), float64(10*time.Second), "alert %d", i)
						assert.Equal(t, []any{w.group, w.worst, w.failing, w.recovered}, []any{a.Group, a.Worst, a.Failing, a.Recovered}, "alert %d", i)
					}
				}
				assert.Len(t, got, len(c.want))
				require.NoError(t, m.Stop(t.Context()))
			})
		})
	}
}

// Whatever fails and in which groups, each handler hears of each transition
// once, and of a tenant's in the order in which they happened.
func TestTransitionsAreToldOnceAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &told{}
		slow := &told{}
		m := newMonitor(t, health.Config{
			Thresholds: health.Thresholds{Hold: time.Second},
			Alerts: health.AlertConfig{CoolDown: time.Minute, Handlers: []health.AlertHandler{h,
				health.AlertFunc(func(ctx context.Context, a health.Alert) error {
					time.Sleep(7 * time.Second)
					return slow.Handle(ctx, a)
				}),
				health.AlertFunc(func(context.Context, health.Alert) error { panic("no") }),
				health.AlertFunc(func(context.Context, health.Alert) error { return errors.New("no") }),
			}},
		})
		m.Suspend("early", "before the start")
		require.NoError(t, m.Start(t.Context()))
		kinds := []errors.Kind{errors.Timeout, errors.Unauthorized, errors.Conflict, errors.None, errors.None, errors.None}
		for i := range 3000 {
			tenant := fmt.Sprint(i * i % 23)
			calls(m, tenant, 6, kinds[(i/7+i%5)%len(kinds)])
			if i%50 == 0 {
				m.Suspend(tenant, "why")
			}
			if i%50 == 20 {
				m.Resume(tenant)
			}
		}
		require.NoError(t, m.Stop(t.Context()))
		last := map[string]health.Transition{}
		total := 0
		ids := map[string]bool{}
		for _, a := range h.all() {
			assert.False(t, ids[a.ID])
			ids[a.ID] = true
			for _, tr := range a.Transitions {
				before, seen := last[tr.Tenant]
				if seen {
					require.Equal(t, before.To, tr.From, "%s", tr.Tenant)
					require.False(t, tr.At.Before(before.At))
				} else {
					require.Equal(t, health.Healthy, tr.From)
				}
				require.NotEqual(t, tr.From, tr.To)
				last[tr.Tenant] = tr
				total++
			}
		}
		assert.Greater(t, total, 200)
		assert.Equal(t, h.all(), slow.all())
		for tenant, tr := range last {
			assert.Equal(t, get(t, m, tenant).Status, tr.To, tenant)
		}
		assert.Equal(t, health.Suspended, last["early"].To)
	})
}

func TestStopWaitsForHandlersAsLongAsItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entered := make(chan error, 1)
		m := newMonitor(t, health.Config{Alerts: health.AlertConfig{Handlers: []health.AlertHandler{
			health.AlertFunc(func(ctx context.Context, _ health.Alert) error {
				<-ctx.Done()
				entered <- context.Cause(ctx)
				return ctx.Err()
			})}}})
		require.NoError(t, m.Stop(t.Context()), "without Start")
		require.ErrorIs(t, m.Start(t.Context()), errors.Closed)

		m = newMonitor(t, health.Config{Alerts: health.AlertConfig{Handlers: []health.AlertHandler{
			health.AlertFunc(func(ctx context.Context, _ health.Alert) error {
				<-ctx.Done()
				entered <- ctx.Err()
				return ctx.Err()
			})}}})
		require.NoError(t, m.Start(t.Context()))
		require.ErrorIs(t, m.Start(t.Context()), errors.Exists)
		m.Suspend("a", "")
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		require.ErrorIs(t, m.Stop(ctx), errors.Timeout)
		require.Error(t, <-entered)
		assert.Equal(t, 5*time.Second, time.Since(start))
		require.NoError(t, m.Stop(t.Context()), "again")
	})
}

func TestAMonitorThatIsNotStartedKeepsABoundedNumberOfTransitions(t *testing.T) {
	var log bytes.Buffer
	h := &told{}
	m := newMonitor(t, health.Config{Alerts: health.AlertConfig{Handlers: []health.AlertHandler{h}}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 60_000 {
		m.Suspend("a", "")
		m.Resume("a")
	}
	require.NoError(t, m.Start(t.Context()))
	require.NoError(t, m.Stop(t.Context()))
	assert.Contains(t, log.String(), "dropped=20000")
	require.Len(t, h.all(), 1)
	assert.Len(t, h.all()[0].Transitions, 100_000)
}

func TestTextsOfAlerts(t *testing.T) {
	at := time.Now()
	a := health.Alert{Group: "platform", Failing: 2, Recovered: 1, Worst: health.Unhealthy, Transitions: []health.Transition{
		{Tenant: "a", To: health.Degraded, At: at, Reason: "old"}, {Tenant: "b", To: health.Degraded, At: at, Reason: "slow"},
		{Tenant: "a", From: health.Degraded, To: health.Unhealthy, At: at, Reason: "down"}, {Tenant: "c", From: health.Degraded, At: at},
	}}
	assert.Equal(t, "2 bots unhealthy (platform), 1 recovered\na: unhealthy, down\nb: degraded, slow\nand 1 more", a.Text(2))
	assert.Equal(t, "2 bots unhealthy (platform), 1 recovered\na: unhealthy, down\nb: degraded, slow\nc: healthy", a.Text(3))
	assert.Equal(t, "1 bot recovered (conflict)", health.Alert{Group: "conflict", Recovered: 1}.Text(5))

	var log bytes.Buffer
	require.NoError(t, health.LogAlerts(slog.New(slog.NewTextHandler(&log, nil))).Handle(t.Context(), a))
	assert.Contains(t, log.String(), "level=ERROR")
	assert.Contains(t, log.String(), `failing=2 recovered=1 worst=unhealthy`)

	var sent string
	for range 1000 {
		a.Transitions = append(a.Transitions, health.Transition{Tenant: strings.Repeat("ж", 600), Reason: strings.Repeat("x", 600)})
		a.Transitions[len(a.Transitions)-1].Tenant += fmt.Sprint(len(a.Transitions))
	}
	require.NoError(t, health.MessageAlerts(func(_ context.Context, text string) error { sent = text; return nil }).Handle(t.Context(), a))
	assert.LessOrEqual(t, len([]rune(sent)), 4000)
}
