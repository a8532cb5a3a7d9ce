package session_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/breaker"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/retry"
	"github.com/tgfleet/tgfleet/session"
)

func newMonitor(t testing.TB) *health.Monitor {
	m, err := health.New(health.Config{})
	require.NoError(t, err)
	return m
}

func newRecorder(t testing.TB) (*usage.Recorder, *usage.MemoryStore) {
	store := usage.NewMemoryStore()
	r, err := usage.New(usage.Config{Store: store})
	require.NoError(t, err)
	return r, store
}

func TestHealthAndUsageHearOfEveryAttempt(t *testing.T) {
	monitor := newMonitor(t)
	recorder, store := newRecorder(t)
	answers := map[string]http.RoundTripper{
		"sendMessage": answering(429, `{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 35","parameters":{"retry_after":35}}`),
		"getMe":       answering(200, `{"ok":true,"result":{"id":987654321,"is_bot":true,"first_name":"Shop"}}`),
		"getUpdates":  answering(409, `{"ok":false,"error_code":409,"description":"Conflict: terminated by other getUpdates request"}`),
	}
	s := newSession(t, session.Config{
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			for method, transport := range answers {
				if len(r.URL.Path) >= len(method) && r.URL.Path[len(r.URL.Path)-len(method):] == method {
					return transport.RoundTrip(r)
				}
			}
			panic(r.URL.Path)
		}),
		Middleware: []session.Middleware{session.Observe(session.Observers(session.HealthObserver(monitor), session.UsageObserver(recorder)))},
	})
	bot := s.Bot("shop", mustToken(t, canary), gotgbot.User{})
	ctx := t.Context()
	_, err := bot.SendMessageWithContext(ctx, -100123, "hello", nil)
	require.ErrorIs(t, err, errors.RateLimited)
	_, err = bot.GetMeWithContext(ctx, nil)
	require.NoError(t, err)
	for range 3 {
		_, err = bot.GetUpdatesWithContext(ctx, nil)
		require.ErrorIs(t, err, errors.Conflict)
	}
	r, found := monitor.Get("shop")
	require.True(t, found)
	assert.EqualValues(t, 5, r.Requests)
	assert.EqualValues(t, 4, r.Failures)
	assert.WithinDuration(t, time.Now().Add(35*time.Second), r.RateLimitedUntil, 5*time.Second)
	assert.Equal(t, health.Degraded, r.Status)

	require.NoError(t, recorder.Flush(ctx))
	rollups, err := store.Range(ctx, "shop", time.Now().Add(-2*time.Hour), time.Now().Add(time.Hour))
	require.NoError(t, err)
	var total usage.Rollup
	for i := range rollups {
		total.Merge(&rollups[i])
	}
	assert.EqualValues(t, 5, total.Requests)
	assert.EqualValues(t, 2, total.Timed, "long polls have no latency")
	assert.Equal(t, usage.Chat{ID: -100123}, total.Top.Chats(1)[0].Chat)
}

func TestACallersHasteIsNoFailureOfTheBot(t *testing.T) {
	for _, c := range []struct {
		name     string
		wait     func(context.Context) (context.Context, context.CancelFunc)
		failures int
	}{
		{"who gives up", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(8*time.Second, cancel)
			return ctx, cancel
		}, 0},
		{"who waits for a moment", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}, 0},
		{"who waits for long enough", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 8*time.Second)
		}, 1},
		{"who waits for as long as the session does", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithCancel(ctx)
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				monitor := newMonitor(t)
				s := newSession(t, session.Config{
					Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
						<-r.Context().Done()
						return nil, r.Context().Err()
					}),
					Middleware: []session.Middleware{session.Observe(session.HealthObserver(monitor))},
				})
				ctx, cancel := c.wait(t.Context())
				defer cancel()
				_, err := s.Bot("shop", mustToken(t, canary), gotgbot.User{}).GetMeWithContext(ctx, nil)
				require.Error(t, err)
				r, _ := monitor.Get("shop")
				assert.EqualValues(t, c.failures, r.Failures)
			})
		})
	}
}

func TestRefusalsAreToldOfOnceAndApart(t *testing.T) {
	guard, monitor, _, _ := watchedGuard(t, session.GuardConfig{
		Limit: session.LimitConfig{MaxWait: time.Nanosecond, Default: session.Limits{Private: ratelimit.Limit{Rate: 1e-9, Burst: 1}}},
	})
	s := newSession(t, session.Config{Transport: answering(200, okMessage), Guard: guard})
	bot := s.Bot("shop", mustToken(t, canary), gotgbot.User{})
	require.NoError(t, guard.Force("shop", breaker.ForcedOpen))
	for _, want := range []errors.Kind{errors.BreakerOpen, errors.None, errors.Throttled} {
		_, err := bot.SendMessage(1, "hi", nil)
		assert.Equal(t, want, errors.KindOf(err))
		require.NoError(t, guard.Force("shop", breaker.Closed))
	}
	r, _ := monitor.Get("shop")
	assert.EqualValues(t, 2, r.Refused)
	assert.EqualValues(t, 1, r.Requests)
}

// watchedGuard is a guard with a monitor and a recorder, as a service has it.
func watchedGuard(t *testing.T, cfg session.GuardConfig) (*session.Guard, *health.Monitor, *usage.Recorder, *usage.MemoryStore) {
	monitor := newMonitor(t)
	recorder, store := newRecorder(t)
	cfg.Health, cfg.Usage = monitor, recorder
	return newGuard(t, cfg), monitor, recorder, store
}

func TestAGuardTellsOfAttemptsRefusalsAndBreakers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard []string
		guard, monitor, recorder, store := watchedGuard(t, session.GuardConfig{
			Retry: session.RetryConfig{Policy: retry.Config{Retries: -1}},
			Break: session.BreakerConfig{OnTenant: func(key string, c breaker.Change) { heard = append(heard, key+" "+c.To.String()) }},
		})
		accepted := false
		s := newSession(t, session.Config{
			Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				if accepted {
					return answering(200, `{"ok":true,"result":{"id":987654321,"is_bot":true,"first_name":"Shop"}}`).RoundTrip(r)
				}
				return answering(401, `{"ok":false,"error_code":401,"description":"Unauthorized"}`).RoundTrip(r)
			}),
			Guard: guard,
		})
		bot := s.Bot("shop", mustToken(t, canary), gotgbot.User{})
		for range 8 { // five fail, and three are refused
			_, err := bot.GetMeWithContext(t.Context(), nil)
			require.Error(t, err)
		}
		r, _ := monitor.Get("shop")
		assert.EqualValues(t, 5, r.Requests)
		assert.EqualValues(t, 5, r.Failures)
		assert.EqualValues(t, 3, r.Refused)
		assert.Equal(t, health.BreakerOpen, r.Breaker)
		assert.Equal(t, []string{"shop open"}, heard, "who hears already still does")

		accepted = true
		time.Sleep(2 * time.Minute)
		_, err := bot.GetMeWithContext(t.Context(), nil)
		require.NoError(t, err)
		r, _ = monitor.Get("shop")
		assert.Equal(t, health.BreakerHalfOpen, r.Breaker)
		_, err = bot.GetMeWithContext(t.Context(), nil)
		require.NoError(t, err)
		r, _ = monitor.Get("shop")
		assert.Equal(t, health.BreakerClosed, r.Breaker)

		require.NoError(t, guard.Force("shop", breaker.ForcedOpen))
		r, _ = monitor.Get("shop")
		assert.Equal(t, health.BreakerOpen, r.Breaker, "whoever opened it")
		require.NoError(t, guard.Force("shop", breaker.WatchOnly))
		r, _ = monitor.Get("shop")
		assert.Equal(t, health.BreakerClosed, r.Breaker, "it refuses nothing")
		require.NoError(t, guard.Force("", breaker.ForcedOpen))
		assert.Equal(t, health.BreakerOpen, monitor.Fleet().Breaker)
		require.NoError(t, guard.Force("", breaker.Closed))
		assert.Equal(t, health.BreakerClosed, monitor.Fleet().Breaker)
		require.NoError(t, guard.Force("nobody", breaker.Disabled))
		_, found := monitor.Get("nobody")
		assert.False(t, found)

		require.NoError(t, recorder.Flush(t.Context()))
		rollups, err := store.Range(t.Context(), "shop", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
		require.NoError(t, err)
		var total usage.Rollup
		for i := range rollups {
			total.Merge(&rollups[i])
		}
		assert.Equal(t, []uint64{7, 3}, []uint64{total.Requests, total.Refused}, "what was refused is apart")
	})
}

// A rate limit that is waited for inside the guard still shows.
func TestARateLimitShowsUntilItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard, monitor, _, _ := watchedGuard(t, session.GuardConfig{})
		n := 0
		s := newSession(t, session.Config{
			Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				if n++; n == 1 {
					return answering(429, `{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 35","parameters":{"retry_after":35}}`).RoundTrip(r)
				}
				return answering(200, `{"ok":true,"result":{"message_id":7,"date":1,"chat":{"id":42,"type":"private"}}}`).RoundTrip(r)
			}),
			Guard: guard,
		})
		start := time.Now()
		done := make(chan error)
		go func() {
			_, err := s.Bot("shop", mustToken(t, canary), gotgbot.User{}).SendMessageWithContext(t.Context(), 42, "hello", nil)
			done <- err
		}()
		time.Sleep(10 * time.Second)
		r, _ := monitor.Get("shop")
		assert.Equal(t, start.Add(35*time.Second).UTC(), r.RateLimitedUntil)
		require.NoError(t, <-done)
		r, _ = monitor.Get("shop")
		assert.Zero(t, r.RateLimitedUntil)
		assert.EqualValues(t, 2, r.Requests)
		assert.EqualValues(t, 1, r.Successes)
		assert.Zero(t, r.Refused)
	})
}

func TestATokenThatIsTriedSaysNothingOfTheTenant(t *testing.T) {
	guard, monitor, recorder, store := watchedGuard(t, session.GuardConfig{})
	s := newSession(t, session.Config{
		Transport: answering(401, `{"ok":false,"error_code":401,"description":"Unauthorized"}`),
		Guard:     guard,
	})
	for range 10 {
		_, err := s.NewBot(t.Context(), "a stranger's idea", mustToken(t, canary))
		require.ErrorIs(t, err, errors.Unauthorized)
	}
	_, found := monitor.Get("a stranger's idea")
	assert.False(t, found)
	assert.Zero(t, monitor.Fleet().Requests)
	require.NoError(t, recorder.Flush(t.Context()))
	rollups, err := store.Range(t.Context(), "a stranger's idea", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	require.NoError(t, err)
	assert.Empty(t, rollups)
}
