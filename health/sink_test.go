package health_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf16"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
)

func TestAMessageIsSentOnceTelegramIsBack(t *testing.T) {
	for _, c := range []struct {
		name  string
		err   func(call int) error
		calls int // at least
		ok    bool
		took  time.Duration // at least
	}{
		{"sent at once", func(int) error { return nil }, 1, true, 0},
		{"Telegram is out for a while", func(n int) error {
			if n < 8 {
				return errors.Unavailable
			}
			return nil
		}, 8, true, 30 * time.Second},
		{"Telegram says when", func(n int) error {
			if n == 1 {
				return &errors.Error{Kind: errors.RateLimited, RetryAfter: 3 * time.Minute}
			}
			return nil
		}, 2, true, 3 * time.Minute},
		{"Telegram stays out", func(int) error { return errors.ConnectionFailed }, 15, false, 10 * time.Minute},
		{"the chat is gone", func(int) error { return errors.BadRequest }, 1, false, 0},
		{"the message was sent and deleted at once", func(int) error { return errors.ResultLost }, 1, false, 0},
		{"the token is not accepted", func(int) error { return errors.Unauthorized }, 1, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, start := 0, time.Now()
				h := health.MessageAlerts(func(context.Context, string) error { n++; return c.err(n) })
				err := h.Handle(t.Context(), alertForPost)
				assert.Equal(t, c.ok, err == nil, err)
				assert.GreaterOrEqual(t, n, c.calls)
				assert.GreaterOrEqual(t, time.Since(start), c.took)
				assert.LessOrEqual(t, time.Since(start), 15*time.Minute)
				if c.calls == 1 {
					assert.Equal(t, 1, n)
				}
			})
		})
	}
}

func TestAMessageFitsAsTelegramCounts(t *testing.T) {
	var sent string
	h := health.MessageAlerts(func(_ context.Context, text string) error { sent = text; return nil })
	a := health.Alert{Failing: 1, Transitions: []health.Transition{{Tenant: strings.Repeat("🎉", 5000)}}}
	require.NoError(t, h.Handle(t.Context(), a))
	assert.LessOrEqual(t, len(utf16.Encode([]rune(sent))), 4000)
	assert.Greater(t, len(utf16.Encode([]rune(sent))), 3900)
}

func monitorWith(t *testing.T, log *bytes.Buffer, cfg health.AlertConfig) *health.Monitor {
	m := newMonitor(t, health.Config{Alerts: cfg, Logger: slog.New(slog.NewTextHandler(log, nil))})
	require.NoError(t, m.Start(t.Context()))
	return m
}

func TestAHandlerThatHangsDoesNotHoldStopAndIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		hangs := health.AlertFunc(func(context.Context, health.Alert) error { <-release; return nil })
		h := &told{}
		var log bytes.Buffer
		m := monitorWith(t, &log, health.AlertConfig{Handlers: []health.AlertHandler{h, hangs}})
		m.Suspend("a", "")
		start := time.Now()
		err := m.Stop(t.Context())
		require.ErrorIs(t, err, errors.Timeout)
		assert.ErrorContains(t, err, "Handlers[1]")
		assert.Less(t, time.Since(start), 2*time.Minute)
		assert.Len(t, h.all(), 1)
		close(release)
	})
}

func TestAHandlerThatIsSlowIsWaitedForAMinuteAtStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		m := monitorWith(t, &log, health.AlertConfig{Handlers: []health.AlertHandler{
			health.MessageAlerts(func(context.Context, string) error { return errors.Unavailable })}})
		m.Suspend("a", "")
		start := time.Now()
		require.NoError(t, m.Stop(t.Context()))
		assert.InDelta(t, time.Minute, time.Since(start), float64(5*time.Second))
		assert.Contains(t, log.String(), "alert not handled")
	})
}

func TestAHandlerThatEndsItsGoroutineHearsOfTheNextAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		var log bytes.Buffer
		m := monitorWith(t, &log, health.AlertConfig{Handlers: []health.AlertHandler{
			health.AlertFunc(func(context.Context, health.Alert) error { n++; runtime.Goexit(); return nil })}})
		for i := range 3 {
			m.Suspend(fmt.Sprint(i), "")
			time.Sleep(time.Hour)
		}
		require.NoError(t, m.Stop(t.Context()))
		assert.Equal(t, 3, n)
		assert.Contains(t, log.String(), "ended its goroutine")
	})
}

func TestOnlyTheReplicaThatIsEnabledTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leader := false
		h := &told{}
		var log bytes.Buffer
		m := monitorWith(t, &log, health.AlertConfig{Handlers: []health.AlertHandler{h}, Enabled: func() bool { return leader }})
		m.Suspend("a", "")
		time.Sleep(time.Hour)
		synctest.Wait()
		leader = true
		m.Suspend("b", "")
		require.NoError(t, m.Stop(t.Context()))
		require.Len(t, h.all(), 1)
		assert.Equal(t, "b", h.all()[0].Transitions[0].Tenant)
	})
}

func TestAMissingSecretVerifiesNothing(t *testing.T) {
	for _, secret := range [][]byte{nil, {}, []byte("short")} {
		_, err := health.PostAlerts(health.PostConfig{URL: "https://example.com", Secret: append([]byte{}, secret...)})
		assert.ErrorContains(t, err, "Secret")
		err = health.VerifyAlert(secret, http.Header{"Webhook-Id": {"1"}, "Webhook-Timestamp": {"1"}}, nil, time.Unix(1, 0))
		assert.ErrorContains(t, err, "shorter than 16 bytes")
	}
}

// slow is a store whose pages come late.
type slow struct{ health.Store }

func (s slow) Load(ctx context.Context, after string, limit int) ([]health.Snapshot, error) {
	list, err := s.Store.Load(ctx, after, limit)
	time.Sleep(10 * time.Second)
	return list, err
}

func TestATenantForgottenWhileAllIsLoadedStaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := slow{health.NewMemoryStore()}
		require.NoError(t, store.Merge(t.Context(), health.Flush{Writer: "w", Seq: 1}, []health.Snapshot{{Tenant: "gone", Requests: 1}, {Tenant: "stays", Requests: 1}}))
		m := newMonitor(t, health.Config{Store: store})
		require.NoError(t, m.Start(t.Context()))
		time.Sleep(time.Second)
		require.NoError(t, m.Forget(t.Context(), "gone"))
		time.Sleep(time.Minute)
		_, found := m.Get("gone")
		assert.False(t, found)
		assert.EqualValues(t, 1, get(t, m, "stays").Requests)
		require.NoError(t, m.Stop(t.Context()))
		assert.NotContains(t, stored(t, store), "gone")
	})
}

func TestALoggedAlertGivesTheReasonOfWhatIsWorst(t *testing.T) {
	var log bytes.Buffer
	a := health.Alert{Failing: 1, Recovered: 1, Worst: health.Unhealthy, Transitions: []health.Transition{
		{Tenant: "a", To: health.Unhealthy, Reason: "down"}, {Tenant: "b", To: health.Healthy}}}
	require.NoError(t, health.LogAlerts(slog.New(slog.NewTextHandler(&log, nil))).Handle(t.Context(), a))
	assert.Contains(t, log.String(), "reason=down")
}
