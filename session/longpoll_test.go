package session_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
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
