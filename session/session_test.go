package session_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

func TestNewReportsEveryBadField(t *testing.T) {
	_, err := session.New(session.Config{
		APIURL: "ftp://x/" + canary, DialTimeout: -1, MaxConns: -1, MaxReplyBytes: -1, DNSTTL: -1,
	})
	require.Error(t, err)
	for _, field := range []string{"APIURL", "DialTimeout", "MaxConns", "MaxReplyBytes", "DNSTTL"} {
		assert.Contains(t, err.Error(), field)
	}
	assert.NotContains(t, err.Error(), canarySecret)
}

func TestTheChainReadsInTheOrderCallsPassIt(t *testing.T) {
	var order []string
	mark := func(name string) session.Middleware {
		return func(next session.Invoker) session.Invoker {
			order = append(order, "build "+name)
			return session.InvokerFunc(func(ctx context.Context, call *session.Call) (json.RawMessage, error) {
				order = append(order, name)
				defer func() { order = append(order, "after "+name) }()
				return next.Invoke(ctx, call)
			})
		}
	}
	s := newSession(t, session.Config{Transport: newMemoryWire(), Middleware: []session.Middleware{mark("a"), nil, mark("b")}})
	for range 2 {
		_, err := s.Client("k").RequestWithContext(context.Background(), canary, "getMe", nil, nil)
		require.NoError(t, err)
	}
	assert.Equal(t, []string{"build b", "build a", "a", "b", "after b", "after a", "a", "b", "after b", "after a"}, order)
}

func TestObserveSeesEveryAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []session.Observation
		calls := 0
		wire := roundTrip(func(r *http.Request) (*http.Response, error) {
			calls++
			time.Sleep(time.Duration(calls) * time.Second)
			if calls == 1 {
				return answer(r, 429, `{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 1","parameters":{"retry_after":1}}`), nil
			}
			return answer(r, 200, `{"ok":true,"result":true}`), nil
		})
		again := func(next session.Invoker) session.Invoker {
			return session.InvokerFunc(func(ctx context.Context, call *session.Call) (json.RawMessage, error) {
				if _, err := next.Invoke(ctx, call); err == nil {
					t.Error("the first attempt should fail")
				}
				return next.Invoke(ctx, call.Next())
			})
		}
		observe := session.Observe(session.ObserverFunc(func(_ context.Context, o session.Observation) { seen = append(seen, o) }))
		s := newSession(t, session.Config{Transport: wire, Middleware: []session.Middleware{again, observe}})
		start := time.Now()
		_, err := s.Client("shop").RequestWithContext(context.Background(), canary, "sendMessage", map[string]any{"chat_id": "@news"}, nil)
		require.NoError(t, err)
		require.Len(t, seen, 2)
		assert.ErrorIs(t, seen[0].Err, errors.RateLimited)
		seen[0].Err = nil
		assert.Equal(t, session.Observation{
			Key: "shop", Method: "sendMessage", Canonical: "sendMessage", Chat: session.ChatID{Username: "@news"}, Attempt: 1,
			Sent: 19, Received: 109, Start: start, Latency: time.Second, Kind: errors.RateLimited,
		}, seen[0])
		assert.Equal(t, session.Observation{
			Key: "shop", Method: "sendMessage", Canonical: "sendMessage", Chat: session.ChatID{Username: "@news"}, Attempt: 2,
			Sent: 19, Received: 25, Start: start.Add(time.Second), Latency: 2 * time.Second, Kind: errors.None,
		}, seen[1])
	})
}

// A middleware may make two attempts of a call side by side.
func TestCloseEndsEachOfTwoAttemptsSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hedge := func(next session.Invoker) session.Invoker {
			return session.InvokerFunc(func(ctx context.Context, call *session.Call) (json.RawMessage, error) {
				first := make(chan error, 1)
				go func() {
					_, err := next.Invoke(ctx, call)
					first <- err
				}()
				time.Sleep(time.Second)
				second, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				_, err := next.Invoke(second, call.Next())
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				return nil, <-first
			})
		}
		s, err := session.New(session.Config{Transport: roundTrip(hangs), Timeout: -1, FirstByteTimeout: -1, Middleware: []session.Middleware{hedge}})
		require.NoError(t, err)
		var all sync.WaitGroup
		all.Go(func() {
			_, err := s.Client("shop").RequestWithContext(context.Background(), canary, "sendMessage", nil, nil)
			assert.Equal(t, errors.Closed, errors.KindOf(err))
		})
		time.Sleep(5 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begin := time.Now()
		assert.Error(t, s.Close(ctx))
		assert.Zero(t, time.Since(begin))
		all.Wait()
	})
}

func TestCloseWaitsForCallsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := roundTrip(func(r *http.Request) (*http.Response, error) {
			time.Sleep(10 * time.Second)
			return answer(r, 200, `{"ok":true,"result":true}`), nil
		})
		s, err := session.New(session.Config{Transport: slow})
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				_, err := s.Client("k").RequestWithContext(context.Background(), canary, "sendMessage", nil, nil)
				assert.NoError(t, err)
			})
		}
		synctest.Wait()
		assert.Equal(t, 5, s.Stats().InFlight)
		start := time.Now()
		for range 3 { // more than one may close, and all wait
			wg.Go(func() {
				assert.NoError(t, s.Close(context.Background()))
				assert.Equal(t, 10*time.Second, time.Since(start))
			})
		}
		synctest.Wait()
		_, err = s.Client("k").RequestWithContext(context.Background(), canary, "getMe", nil, nil)
		assert.ErrorIs(t, err, errors.Closed)
		assert.True(t, errors.SafeToRepeat(err))
		wg.Wait()
		require.NoError(t, s.Close(context.Background()))
	})
}

func TestCloseWithADeadlineCancelsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := session.New(session.Config{Transport: hang})
		require.NoError(t, err)
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := s.Client("k").RequestWithContext(context.Background(), canary, "getMe", nil, nil)
			assert.ErrorIs(t, err, errors.Closed)
		})
		wg.Go(func() {
			_, err := s.Client("k").RequestWithContext(context.Background(), canary, "sendMessage", nil, nil)
			assert.ErrorIs(t, err, errors.OutcomeUnknown, "it was written already")
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		start := time.Now()
		assert.ErrorIs(t, s.Close(ctx), context.DeadlineExceeded)
		assert.Equal(t, 3*time.Second, time.Since(start))
		wg.Wait()
		require.NoError(t, s.Close(context.Background()))
	})
}

func TestCloseDoesNotWaitForEverForWhoIgnoresItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		deaf := roundTrip(func(*http.Request) (*http.Response, error) {
			<-release
			return nil, io.EOF
		})
		s, err := session.New(session.Config{Transport: deaf})
		require.NoError(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = s.Client("k").RequestWithContext(context.Background(), canary, "getMe", nil, nil)
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		err = s.Close(ctx)
		assert.ErrorIs(t, err, context.Canceled)
		assert.Contains(t, err.Error(), "still running")
		close(release)
		<-done
		require.NoError(t, s.Close(context.Background()))
	})
}

func TestCloseLeavesNoConnection(t *testing.T) {
	var open atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"ok":true,"result":true}`)
	}))
	closed := make(chan struct{}, 100)
	srv.Config.ConnState = trackConns(&open, closed)
	srv.Start()
	t.Cleanup(srv.Close)
	s, err := session.New(session.Config{APIURL: srv.URL, MaxConnsPerHost: 4})
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			_, err := s.Client("k").RequestWithContext(context.Background(), canary, "getMe", nil, nil)
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	stats := s.Stats()
	assert.LessOrEqual(t, stats.Dialed, 4, "the bound per host holds")
	assert.Positive(t, stats.Open)
	require.NoError(t, s.Close(context.Background()))
	assert.Equal(t, session.Stats{Dialed: stats.Dialed}, s.Stats())
	for open.Load() > 0 {
		<-closed
	}
}

func trackConns(open *atomic.Int64, closed chan<- struct{}) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
			closed <- struct{}{}
		}
	}
}

// One connection carries all bots' calls where the server speaks HTTP/2.
func TestOneConnectionForAHundredBotsOverHTTP2(t *testing.T) {
	var protos sync.Map
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protos.Store(r.Proto, true)
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"ok":true,"result":{"message_id":1,"date":1,"chat":{"id":1,"type":"private"}}}`)
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	s := newSession(t, session.Config{APIURL: srv.URL, TLS: srv.Client().Transport.(*http.Transport).TLSClientConfig})
	for i := range 100 {
		bot := s.Bot("k", mustToken(t, canary), gotgbot.User{})
		var err error
		if i%10 == 0 {
			_, err = bot.SendDocument(1, file("a", strings.Repeat("A", 100_000)), nil)
		} else {
			_, err = bot.SendMessage(1, "hi", nil)
		}
		require.NoError(t, err)
	}
	assert.Equal(t, 1, s.Stats().Dialed)
	_, h2 := protos.Load("HTTP/2.0")
	assert.True(t, h2)
}
