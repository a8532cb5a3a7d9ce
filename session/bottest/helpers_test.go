package bottest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
)

func newServer(t testing.TB, cfg bottest.Config) *bottest.Server {
	t.Helper()
	srv := bottest.New(cfg)
	t.Cleanup(srv.Close)
	return srv
}

// client is what a bot's code holds: the real gotgbot over the in-memory
// transport.
func client(t testing.TB, srv *bottest.Server, bot *bottest.Bot) *gotgbot.Bot {
	t.Helper()
	b, err := gotgbot.NewBot(bot.Token(), &gotgbot.BotOpts{BotClient: &gotgbot.BaseBotClient{
		Client:             http.Client{Transport: srv.Transport()},
		DefaultRequestOpts: &gotgbot.RequestOpts{Timeout: -1},
	}})
	require.NoError(t, err)
	return b
}

// reply is an answer as it came over the wire.
type reply struct {
	Status      int
	Header      http.Header
	OK          bool            `json:"ok"`
	Result      json.RawMessage `json:"result"`
	ErrorCode   int             `json:"error_code"`
	Description string          `json:"description"`
	Parameters  struct {
		RetryAfter      int   `json:"retry_after"`
		MigrateToChatID int64 `json:"migrate_to_chat_id"`
	} `json:"parameters"`
}

func (r reply) message(t testing.TB) gotgbot.Message {
	t.Helper()
	require.True(t, r.OK, r.Description)
	var m gotgbot.Message
	require.NoError(t, json.Unmarshal(r.Result, &m))
	return m
}

func (r reply) updates(t testing.TB) []gotgbot.Update {
	t.Helper()
	require.True(t, r.OK, r.Description)
	var all []gotgbot.Update
	require.NoError(t, json.Unmarshal(r.Result, &all))
	return all
}

// call posts a form, given as names and values in turn.
func call(t testing.TB, srv *bottest.Server, token, method string, params ...any) reply {
	t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		form.Set(params[i].(string), fmt.Sprint(params[i+1]))
	}
	r, err := http.NewRequest(http.MethodPost, "https://api.telegram.org/bot"+token+"/"+method, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return do(t, srv, r)
}

func do(t testing.TB, srv *bottest.Server, r *http.Request) reply {
	t.Helper()
	resp, err := srv.Transport().RoundTrip(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	got := reply{Status: resp.StatusCode, Header: resp.Header}
	require.NoError(t, json.Unmarshal(body, &got), "%s", body)
	if !got.OK {
		require.Equal(t, got.Status, got.ErrorCode, "the HTTP status is the error code")
	}
	return got
}

// virtual runs a test in a bubble whose clock jumps, with a server that is
// closed at the end.
func virtual(t *testing.T, cfg bottest.Config, test func(t *testing.T, srv *bottest.Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(cfg)
		defer srv.Close()
		test(t, srv)
	})
}

// elapsed is how long do takes.
func elapsed(do func()) time.Duration {
	start := time.Now()
	do()
	return time.Since(start)
}

func itoa(n int64) string { return fmt.Sprint(n) }

func sleepMinutes(n int) { time.Sleep(time.Duration(n) * time.Minute) }
