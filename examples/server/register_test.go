package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
)

// syncLog is a log that is read while others write.
type syncLog struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *syncLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *syncLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestRegistrationsAreLimitedToFiveAMinuteForEachClient(t *testing.T) {
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	var log syncLog
	f, err := newFleet(context.Background(), options{}, session.Config{Transport: srv.Transport()}, session.LimitConfig{ColdStarts: []ratelimit.Limit{}},
		slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	ctx := context.Background()
	defer f.close(ctx)
	require.NoError(t, f.startSource(ctx, options{}))
	require.NoError(t, f.serveWeb(ctx, "127.0.0.1:0"))
	_, url, _ := strings.Cut(log.String(), "url=")
	url, _, _ = strings.Cut(url, "/status")
	url += "/api/bots"
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	post := func(body string) (int, string, http.Header) {
		r, err := client.Post(url, "application/json", strings.NewReader(body))
		require.NoError(t, err)
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		return r.StatusCode, string(text), r.Header
	}
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	status, text, _ := post(`{"id":"shop","token":"` + bot.Token() + `"}`)
	assert.Equal(t, http.StatusCreated, status, text)
	assert.Contains(t, text, `"username":"shop_bot"`)
	assert.NotContains(t, text, bot.Token())
	status, _, _ = post(`{"id":"shop","token":"` + bot.Token() + `"}`)
	assert.Equal(t, http.StatusOK, status, "again: it runs already")
	status, text, _ = post(`{"id":"other","token":"` + bot.Token() + `"}`)
	assert.Equal(t, http.StatusConflict, status, text)
	status, text, h := post(`{"id":"x","token":"123:nobody"}`)
	assert.GreaterOrEqual(t, status, 400)
	assert.Less(t, status, 500, text)
	assert.Equal(t, "application/problem+json", h.Get("Content-Type"))
	assert.NotContains(t, text, "nobody")
	status, text, _ = post(`{"id":"x","token":"` + bot.Token())
	assert.Equal(t, http.StatusBadRequest, status)
	assert.NotContains(t, text, bot.Token())
	status, text, h = post(`{}`)
	assert.Equal(t, http.StatusTooManyRequests, status)
	assert.Equal(t, "application/problem+json", h.Get("Content-Type"))
	assert.NotEmpty(t, h.Get("Retry-After"))
	assert.Contains(t, text, `"kind":"throttled"`)

	ann.Write(bot, "hello")
	assert.Eventually(t, func() bool { return srv.CallCount("sendMessage") == 1 }, 10*time.Second, 5*time.Millisecond)
	f.close(ctx)
	assert.NotContains(t, log.String(), bot.Token())
}
