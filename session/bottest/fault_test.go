package bottest_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
)

// outcome is what a client sees of one sendMessage.
type outcome struct {
	err    error
	status int
	header http.Header
	body   string
}

func send(ctx context.Context, rt http.RoundTripper, base, token, chat string) outcome {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/bot"+token+"/sendMessage",
		strings.NewReader(`{"chat_id":"`+chat+`","text":"hi"}`))
	if err != nil {
		return outcome{err: err}
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := rt.RoundTrip(r)
	if err != nil {
		return outcome{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return outcome{err: err, status: resp.StatusCode, header: resp.Header, body: string(body)}
}

// ways are the ways to reach a server.
func ways(t *testing.T, srv *bottest.Server) map[string]func() (http.RoundTripper, string) {
	return map[string]func() (http.RoundTripper, string){
		"in memory": func() (http.RoundTripper, string) { return srv.Transport(), "https://api.telegram.org" },
		"over a socket": func() (http.RoundTripper, string) {
			url, err := srv.Start()
			require.NoError(t, err)
			rt := &http.Transport{}
			t.Cleanup(rt.CloseIdleConnections)
			return rt, url
		},
	}
}

func TestFaults(t *testing.T) {
	reset := func(t *testing.T, o outcome) { require.ErrorIs(t, o.err, syscall.ECONNRESET) }
	says := func(status int, text string) func(t *testing.T, o outcome) {
		return func(t *testing.T, o outcome) {
			require.NoError(t, o.err)
			require.Equal(t, status, o.status)
			require.Contains(t, o.body, text)
		}
	}
	tests := []struct {
		do       bottest.Action
		executed bool
		sees     func(t *testing.T, o outcome)
	}{
		{bottest.ResetBefore(), false, reset},
		{bottest.ResetAfter(), true, reset},
		{bottest.CutJSON(), true, func(t *testing.T, o outcome) {
			require.ErrorIs(t, o.err, io.ErrUnexpectedEOF)
			require.True(t, strings.HasPrefix(o.body, `{"ok":true,"result":{`), o.body)
		}},
		{bottest.HTML502(), false, says(502, "<html>")},
		{bottest.Restart500(), false, says(500, `"description":"Internal Server Error: restart"`)},
		{bottest.NoOK(), false, says(200, `{"result":true}`)},
		{bottest.EmptyBody(), false, func(t *testing.T, o outcome) {
			require.NoError(t, o.err)
			require.Equal(t, 200, o.status)
			require.Empty(t, o.body)
		}},
		{bottest.Unauthorized401(), false, says(401, `"description":"Unauthorized"`)},
		{bottest.Forbidden403("bot was blocked by the user"), false, says(403, `"Forbidden: bot was blocked by the user"`)},
		{bottest.BadRequest400("Bad Request: chat not found"), false, says(400, `"Bad Request: chat not found"`)},
		{bottest.Conflict409(), false, says(409, "terminated by other getUpdates")},
		{bottest.TooManyRequests(90*time.Minute - time.Millisecond), false, func(t *testing.T, o outcome) {
			says(429, `"parameters":{"retry_after":5400}`)(t, o)
			require.Equal(t, "5400", o.header.Get("Retry-After"))
		}},
		{bottest.Respond(418, "text/plain", "short and stout"), false, says(418, "short and stout")},
		{bottest.SlowAnswer(time.Millisecond), true, says(200, `"ok":true`)},
		{bottest.Latency(time.Millisecond), true, says(200, `"ok":true`)},
	}
	for _, test := range tests {
		t.Run(test.do.String(), func(t *testing.T) {
			srv := newServer(t, bottest.Config{})
			bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
			ann.Write(bot, "/start")
			chat := strings.TrimSpace(itoa(ann.ID))
			for name, way := range ways(t, srv) {
				t.Run(name, func(t *testing.T) {
					rt, url := way()
					before := len(srv.Messages(ann.ID))
					srv.Reset()
					srv.Fail(bottest.Fault{Method: "sendmessage", Times: 1, Do: test.do})
					test.sees(t, send(t.Context(), rt, url, bot.Token(), chat))
					calls := srv.Calls()
					require.Len(t, calls, 1)
					require.Equal(t, test.do.String(), calls[0].Fault)
					require.Equal(t, test.executed, calls[0].Executed)
					require.Equal(t, test.executed, len(srv.Messages(ann.ID)) > before)
					require.Equal(t, 200, send(t.Context(), rt, url, bot.Token(), chat).status, "the fault has passed")
				})
			}
		})
	}
}

func TestHangLastsUntilTheClientGivesUp(t *testing.T) {
	tests := []struct {
		do       bottest.Action
		executed bool
	}{{bottest.Hang(), false}, {bottest.HangAfter(), true}, {bottest.Latency(time.Hour), false}}
	for _, test := range tests {
		t.Run(test.do.String(), func(t *testing.T) {
			virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
				bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
				ann.Write(bot, "/start")
				srv.Fail(bottest.Fault{Bot: bot, Do: test.do})
				ctx, cancel := context.WithTimeout(t.Context(), 7*time.Minute)
				defer cancel()
				var o outcome
				took := elapsed(func() { o = send(ctx, srv.Transport(), "http://x", bot.Token(), itoa(ann.ID)) })
				require.Equal(t, 7*time.Minute, took)
				require.ErrorIs(t, o.err, context.DeadlineExceeded)
				require.Equal(t, test.executed, len(srv.Messages(ann.ID)) == 2)
			})
		})
	}
}

func TestCloseEndsWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{})
		bot := srv.NewBot("shop_bot")
		srv.Fail(bottest.Fault{Do: bottest.Hang()})
		done := make(chan outcome)
		go func() { done <- send(context.Background(), srv.Transport(), "http://x", bot.Token(), "1") }()
		synctest.Wait()
		require.Equal(t, 1, srv.Connections().Open)
		srv.Close()
		require.Error(t, (<-done).err)
		srv.Close()
		require.Zero(t, srv.Connections().Open)
		require.ErrorIs(t, send(context.Background(), srv.Transport(), "http://x", bot.Token(), "1").err, syscall.ECONNREFUSED)
	})
}

func TestFaultsSelect(t *testing.T) {
	two := func(f bottest.Fault) func(*bottest.Server, *bottest.Bot, *bottest.Bot) bottest.Fault {
		return func(*bottest.Server, *bottest.Bot, *bottest.Bot) bottest.Fault { return f }
	}
	tests := []struct {
		name  string
		fault func(srv *bottest.Server, a, b *bottest.Bot) bottest.Fault
		want  string // one letter per call of getMe by a, b, a, b, ...: x fails
	}{
		{"every call", two(bottest.Fault{}), "xxxxxxxx"},
		{"another method", two(bottest.Fault{Method: "sendMessage"}), "........"},
		{"the method in any case", two(bottest.Fault{Method: "GETME"}), "xxxxxxxx"},
		{"the nth", two(bottest.Fault{Nth: 3}), "..x....."},
		{"the first n", two(bottest.Fault{Times: 3}), "xxx....."},
		{"every third", two(bottest.Fault{Every: 3}), "..x..x.."},
		{"every third, once", two(bottest.Fault{Every: 3, Times: 1}), "..x....."},
		{"one bot's", func(_ *bottest.Server, _, b *bottest.Bot) bottest.Fault { return bottest.Fault{Bot: b} }, ".x.x.x.x"},
		{"one token's second", func(_ *bottest.Server, a, _ *bottest.Bot) bottest.Fault {
			return bottest.Fault{Token: a.Token(), Nth: 2}
		}, "..x....."},
		{"a function's", func(_ *bottest.Server, a, _ *bottest.Bot) bottest.Fault {
			return bottest.Fault{When: func(c bottest.Call) bool { return c.Bot == a && c.Params["n"] != "4" }}
		}, "x.x...x."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			srv := newServer(t, bottest.Config{})
			a, b := srv.NewBot("a_bot"), srv.NewBot("b_bot")
			f := test.fault(srv, a, b)
			f.Do = bottest.Restart500()
			remove := srv.Fail(f)
			got := ""
			for i := range 8 {
				if call(t, srv, []*bottest.Bot{a, b}[i%2].Token(), "getMe", "n", i).OK {
					got += "."
				} else {
					got += "x"
				}
			}
			require.Equal(t, test.want, got)
			remove()
			remove()
			require.True(t, call(t, srv, a.Token(), "getMe").OK)
		})
	}
}

func TestLatencyAndAnotherFaultCombine(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
		token := srv.NewBot("a_bot").Token()
		srv.Fail(bottest.Fault{Do: bottest.Latency(2 * time.Second)})
		srv.Fail(bottest.Fault{Do: bottest.Latency(time.Second)})
		srv.Fail(bottest.Fault{Times: 1, Do: bottest.Restart500()})
		var got reply
		require.Equal(t, 3*time.Second, elapsed(func() { got = call(t, srv, token, "getMe") }))
		require.Equal(t, 500, got.Status)
		require.True(t, call(t, srv, token, "getMe").OK)
	})
}

func TestRefuse(t *testing.T) {
	for name := range ways(t, nil) {
		t.Run(name, func(t *testing.T) {
			srv := newServer(t, bottest.Config{})
			bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
			ann.Write(bot, "/start")
			rt, url := ways(t, srv)[name]()
			require.NoError(t, send(t.Context(), rt, url, bot.Token(), itoa(ann.ID)).err)
			require.NoError(t, srv.Refuse(true))
			o := send(t.Context(), rt, url, bot.Token(), itoa(ann.ID))
			for !errors.Is(o.err, syscall.ECONNREFUSED) { // the kept connection may be found dead first
				require.Error(t, o.err)
				o = send(t.Context(), rt, url, bot.Token(), itoa(ann.ID))
			}
			var dial *net.OpError
			require.ErrorAs(t, o.err, &dial)
			require.Equal(t, "dial", dial.Op)
			require.Zero(t, srv.Connections().Open)
			require.NoError(t, srv.Refuse(false))
			require.NoError(t, srv.Refuse(false))
			require.Equal(t, 200, send(t.Context(), rt, url, bot.Token(), itoa(ann.ID)).status)
			require.Equal(t, bottest.ConnStats{Opened: 2, Open: 1}, srv.Connections())
		})
	}
}

func TestFaultsOverHTTP2(t *testing.T) {
	srv := newServer(t, bottest.Config{})
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	ann.Write(bot, "/start")
	url, err := srv.StartTLS()
	require.NoError(t, err)
	rt := &http.Transport{TLSClientConfig: srv.TLSConfig(), ForceAttemptHTTP2: true}
	t.Cleanup(rt.CloseIdleConnections)
	for _, do := range []bottest.Action{bottest.ResetBefore(), bottest.ResetAfter(), bottest.CutJSON()} {
		srv.Fail(bottest.Fault{Times: 1, Do: do})
		require.Error(t, send(t.Context(), rt, url, bot.Token(), itoa(ann.ID)).err, do)
	}
	resp, err := (&http.Client{Transport: rt}).Get(url + "/bot" + bot.Token() + "/getMe")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, 2, resp.ProtoMajor)
	require.Len(t, srv.Messages(ann.ID), 3)
	_, err = srv.Start()
	require.Error(t, err, "it cannot listen both ways")
	_, err = tls.Dial("tcp", strings.TrimPrefix(url, "https://"), &tls.Config{})
	require.Error(t, err, "only TLSConfig trusts the certificate")
}
