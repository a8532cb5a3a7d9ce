package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/session/bottest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheDemoEndsByItself(t *testing.T) {
	for _, more := range [][]string{nil, {"-polling"}} {
		var out, log bytes.Buffer
		args := append([]string{"-demo", "-tenants", "10", "-for", "2s", "-listen", "127.0.0.1:0"}, more...)
		code := run(context.Background(), args, &out, &log)
		assert.Equal(t, 0, code, "%v: %s", more, log.String())
		// How far it came in that time is the machine's matter; that all tenants take
		// part, another test shows.
		assert.Regexp(t, regexp.MustCompile(`^demo: \d+ tenants, \d+ calls, 0 errors, 0 refused with 429, fairness [\d.]+, \d+ connections, p50 [\d.]+ms, p99 [\d.]+ms\n$`), out.String())
	}
}

func TestBadArguments(t *testing.T) {
	for _, args := range [][]string{
		{"-tenants", "0"}, {"-for", "-1s"}, {"-x"}, {"left", "over"}, {"-tenants", "many"},
		{"-public-url", "https://bots.example.com", "-demo"}, {"-public-url", "https://bots.example.com", "-polling"},
		{"-public-url", "https://bots.example.com", "-listen", ""}, {"-demo", "-require-verified"},
	} {
		assert.Equal(t, 2, run(context.Background(), args, io.Discard, io.Discard), "%v", args)
	}
	assert.Equal(t, 0, run(context.Background(), []string{"-h"}, io.Discard, io.Discard))
	t.Setenv("BOT_TOKENS", "")
	assert.Equal(t, 1, run(context.Background(), nil, io.Discard, io.Discard), "no tokens")
	t.Setenv("BOT_TOKENS", "1:x")
	args := []string{"-public-url", "http://bots.example.com", "-listen", "127.0.0.1:0"}
	assert.Equal(t, 1, run(context.Background(), args, io.Discard, io.Discard), "no https")
}

func TestANewServiceWaitsForItsFirstBot(t *testing.T) {
	t.Setenv("BOT_TOKENS", "")
	t.Setenv(database.KeysVariable, "")
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	url, err := srv.Start()
	require.NoError(t, err)
	args := []string{"-db", filepath.Join(t.TempDir(), "fleet.db"), "-polling", "-api", url}
	assert.Equal(t, 1, run(t.Context(), append(args, "-listen", ""), io.Discard, io.Discard), "nobody could register one")

	ctx, stop := context.WithCancel(t.Context())
	var log syncLog
	done := make(chan int)
	go func() { done <- run(ctx, append(args, "-listen", "127.0.0.1:0"), io.Discard, &log) }()
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "no bots yet") }, 20*time.Second, 5*time.Millisecond)
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	at := pages.FindStringSubmatch(log.String())
	require.NotNil(t, at)
	r, err := client.Post("http://"+at[1]+"/api/bots", "application/json", strings.NewReader(`{"id":"shop","token":"`+bot.Token()+`"}`))
	require.NoError(t, err)
	require.NoError(t, r.Body.Close())
	assert.Equal(t, http.StatusCreated, r.StatusCode)
	ann.Write(bot, "hello")
	assert.Eventually(t, func() bool { return srv.CallCount("sendMessage") == 1 }, 20*time.Second, 5*time.Millisecond)
	stop()
	assert.Equal(t, 0, <-done)
}

func TestItServesTheTokensOfAFile(t *testing.T) {
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	url, err := srv.Start()
	require.NoError(t, err)
	shop, news, ann := srv.NewBot("shop_bot"), srv.NewBot("news_bot"), srv.NewUser("Ann")
	file := filepath.Join(t.TempDir(), "tokens")
	text := "# our bots\nshop " + shop.Token() + "\n\n" + news.Token() + "\nwrong 123:nobody\n"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var log bytes.Buffer
	done := make(chan int)
	go func() {
		done <- run(ctx, []string{"-tokens", file, "-api", url, "-listen", ""}, io.Discard, &log)
	}()
	ann.Write(shop, "to shop")
	ann.Write(news, "to news")
	deadline := time.After(20 * time.Second)
	for srv.CallCount("sendMessage") < 2 {
		select {
		case <-deadline:
			t.Fatal("no answers")
		case <-time.After(5 * time.Millisecond):
		}
	}
	stop()
	assert.Equal(t, 0, <-done)
	assert.Contains(t, log.String(), "not registered")
	assert.NotContains(t, log.String(), shop.Token())
	assert.NotContains(t, log.String(), "123:nobody")
}

func TestReadAccounts(t *testing.T) {
	all, err := readAccounts("", "a 1:x, 2:y")
	require.NoError(t, err)
	assert.Equal(t, []account{{"a", "1:x"}, {"bot-2", "2:y"}}, all)
	_, err = readAccounts("", "a b c")
	assert.ErrorContains(t, err, "line 1")
	_, err = readAccounts("/nowhere", "")
	assert.Error(t, err)
}
