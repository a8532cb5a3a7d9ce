package session_test

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// A server of one's own speaks HTTP/1.1, where a poll has a connection for
// itself.
func TestLongPollsLeaveTheConnectionsToOtherCalls(t *testing.T) {
	const polls = 50
	release := make(chan struct{})
	var arrived, done sync.WaitGroup
	arrived.Add(polls)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.HasSuffix(r.URL.Path, "/getUpdates") && strings.Contains(string(body), "timeout") {
			arrived.Done()
			<-release
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"ok":true,"result":[]}`)
	}))
	defer srv.Close()
	s, err := session.New(session.Config{APIURL: srv.URL, MaxConns: 3, MaxConnsPerHost: 2})
	require.NoError(t, err)
	token, err := session.ParseToken("123456:secret-of-a-bot-that-is-not-there-1")
	require.NoError(t, err)
	bot := s.Bot("shop", token, gotgbot.User{Id: 123456})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for range polls {
		done.Go(func() {
			_, err := bot.RequestWithContext(ctx, "getUpdates", map[string]any{"timeout": int64(50)}, nil)
			assert.NoError(t, err)
		})
	}
	all := make(chan struct{})
	go func() {
		arrived.Wait()
		close(all)
	}()
	select {
	case <-all:
	case <-ctx.Done():
		close(release)
		t.Fatal("the polls wait for each other")
	}
	for range 5 {
		_, err = bot.RequestWithContext(ctx, "sendMessage", map[string]any{"chat_id": int64(1), "text": "hello"}, nil)
		require.NoError(t, err)
		_, err = bot.RequestWithContext(ctx, "getUpdates", map[string]any{"offset": int64(7)}, nil)
		require.NoError(t, err, "one that does not wait is a call like others")
	}
	stats := s.Stats()
	assert.Equal(t, polls, stats.InFlight)
	assert.Equal(t, polls+1, stats.Open, "calls one after the other need one")
	close(release)
	done.Wait()
	require.NoError(t, s.Close(context.Background()))
	assert.Zero(t, s.Stats().Open)
}

// They find no connection when they begin together, as after an outage, and
// each would make one.
func TestLongPollsThatBeginTogetherShareConnections(t *testing.T) {
	const polls = 1000
	release := make(chan struct{})
	var arrived, done sync.WaitGroup
	arrived.Add(polls)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if strings.HasSuffix(r.URL.Path, "/getUpdates") {
			arrived.Done()
			<-release
		}
		_, _ = io.WriteString(w, `{"ok":true,"result":[]}`)
	}))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that nobody needed in the end
	srv.StartTLS()
	defer srv.Close()
	cfg := &tls.Config{RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	s, err := session.New(session.Config{APIURL: srv.URL, TLS: cfg})
	require.NoError(t, err)
	bot := s.Bot("shop", mustToken(t, canary), gotgbot.User{})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for range polls {
		done.Go(func() {
			_, err := bot.RequestWithContext(ctx, "getUpdates", map[string]any{"timeout": int64(50)}, nil)
			assert.NoError(t, err)
		})
	}
	done.Go(func() { // at the same time, over the other connections
		_, err := bot.RequestWithContext(ctx, "getMe", nil, nil)
		assert.NoError(t, err)
	})
	all := make(chan struct{})
	go func() {
		arrived.Wait()
		close(all)
	}()
	select {
	case <-all:
	case <-ctx.Done():
		t.Error("the polls did not arrive")
	}
	dialed := s.Stats().Dialed
	t.Logf("%d polls dialed %d times", polls, dialed)
	assert.Less(t, dialed, polls/2)
	close(release)
	done.Wait()
	require.NoError(t, s.Close(context.Background()))
	assert.Empty(t, cfg.NextProtos, "the caller's configuration is as it was")
}

func TestALongPollThatWaitsForAConnectionEndsWithItsContext(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // and nobody accepts
	require.NoError(t, err)
	defer silent.Close()
	s, err := session.New(session.Config{APIURL: "https://" + silent.Addr().String()})
	require.NoError(t, err)
	bot := s.Bot("shop", mustToken(t, canary), gotgbot.User{})
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	for range 100 {
		done.Go(func() {
			_, err := bot.RequestWithContext(ctx, "getUpdates", map[string]any{"timeout": int64(50)}, nil)
			assert.ErrorIs(t, err, errors.Canceled)
			e, ok := errors.AsType[*errors.Error](err)
			assert.True(t, ok && e.Delivery == errors.NotDelivered, "%v", err)
		})
	}
	require.Eventually(t, func() bool { return s.Stats().InFlight == 100 }, time.Minute, time.Millisecond)
	cancel()
	done.Wait()
	require.NoError(t, s.Close(context.Background()))
	assert.Zero(t, s.Stats().Open)
}
