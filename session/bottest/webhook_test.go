package bottest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
)

// hook is a webhook that remembers what it got and answers as it is told.
type hook struct {
	mu     sync.Mutex
	got    []gotgbot.Update
	at     []time.Time
	heads  []http.Header
	answer func(n int, w http.ResponseWriter, u gotgbot.Update) // n counts from 0
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var u gotgbot.Update
	_ = json.Unmarshal(body, &u)
	h.mu.Lock()
	n := len(h.got)
	h.got, h.at, h.heads = append(h.got, u), append(h.at, time.Now()), append(h.heads, r.Header)
	h.mu.Unlock()
	if h.answer != nil {
		h.answer(n, w, u)
	}
}

func (h *hook) texts() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, u := range h.got {
		switch {
		case u.Message != nil:
			all = append(all, u.Message.Text)
		case u.CallbackQuery != nil:
			all = append(all, u.CallbackQuery.Data)
		}
	}
	return all
}

// gaps are the seconds between one delivery and the next.
func (h *hook) gaps() []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []int
	for i := 1; i < len(h.at); i++ {
		all = append(all, int(h.at[i].Sub(h.at[i-1]).Seconds()))
	}
	return all
}

func (h *hook) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.got)
}

// hooked runs a test with a bot whose updates go to h.
func hooked(t *testing.T, h *hook, params []any, test func(t *testing.T, srv *bottest.Server, bot *bottest.Bot, ann *bottest.User)) {
	t.Helper()
	cfg := bottest.Config{WebhookTransport: bottest.HandlerTransport(h), Limits: bottest.NoLimits()}
	virtual(t, cfg, func(t *testing.T, srv *bottest.Server) {
		bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
		params := append([]any{"url", "https://example.com/hook"}, params...)
		require.True(t, call(t, srv, bot.Token(), "setWebhook", params...).OK)
		test(t, srv, bot, ann)
	})
}

func info(t *testing.T, srv *bottest.Server, bot *bottest.Bot) gotgbot.WebhookInfo {
	t.Helper()
	var w gotgbot.WebhookInfo
	require.NoError(t, json.Unmarshal(call(t, srv, bot.Token(), "getWebhookInfo").Result, &w))
	return w
}

func TestWebhookDelivery(t *testing.T) {
	h := &hook{}
	hooked(t, h, []any{"secret_token", "s3cret_-"}, func(t *testing.T, srv *bottest.Server, bot *bottest.Bot, ann *bottest.User) {
		ann.Write(bot, "one")
		ann.Write(bot, "two")
		synctest.Wait()
		require.Equal(t, []string{"one", "two"}, h.texts())
		require.Equal(t, h.got[0].UpdateId+1, h.got[1].UpdateId)
		require.Equal(t, "s3cret_-", h.heads[0].Get("X-Telegram-Bot-Api-Secret-Token"))
		require.Equal(t, "application/json", h.heads[0].Get("Content-Type"))
		require.Zero(t, bot.Pending())
		require.Equal(t, gotgbot.WebhookInfo{Url: "https://example.com/hook", IpAddress: "<unknown>", MaxConnections: 40}, info(t, srv, bot))
	})
}

func TestWebhookRetrySchedule(t *testing.T) {
	tests := []struct {
		name   string
		answer func(n int, w http.ResponseWriter)
		want   []int // the first gaps, in seconds
		after  int   // each later gap is from this to its double
	}{
		{"at once, then 2, 4, 8 s and so on up to a random 60 to 120 s",
			func(_ int, w http.ResponseWriter) { w.WriteHeader(500) }, []int{0, 2, 4, 8, 16, 32}, 60},
		{"a redirect is a failure", func(_ int, w http.ResponseWriter) { w.WriteHeader(302) }, []int{0, 2, 4}, 0},
		{"Retry-After is honoured", func(_ int, w http.ResponseWriter) {
			w.Header().Set("Retry-After", "100")
			w.WriteHeader(429)
		}, []int{100, 100, 100, 100}, 0},
		{"Retry-After is honoured up to an hour", func(_ int, w http.ResponseWriter) {
			w.Header().Set("Retry-After", "9999")
			w.WriteHeader(503)
		}, []int{3600, 3600}, 0},
		{"Retry-After delays no later tries", func(n int, w http.ResponseWriter) {
			if n == 0 {
				w.Header().Set("Retry-After", "50")
			}
			w.WriteHeader(503)
		}, []int{50, 2, 4}, 0},
		{"any 2xx confirms", func(n int, w http.ResponseWriter) { w.WriteHeader([]int{500, 299}[min(n, 1)]) }, []int{0}, 0},
		{"a panic breaks the connection", func(n int, _ http.ResponseWriter) {
			if n < 2 {
				panic("oops")
			}
		}, []int{0, 2}, 0},
		{"so does a handler that ends its goroutine", func(n int, _ http.ResponseWriter) {
			if n < 2 {
				runtime.Goexit()
			}
		}, []int{0, 2}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := &hook{answer: func(n int, w http.ResponseWriter, _ gotgbot.Update) { test.answer(n, w) }}
			hooked(t, h, nil, func(t *testing.T, _ *bottest.Server, bot *bottest.Bot, ann *bottest.User) {
				ann.Write(bot, "hi")
				time.Sleep(20 * time.Hour)
				gaps := h.gaps()
				require.GreaterOrEqual(t, len(gaps), len(test.want))
				require.Equal(t, test.want, gaps[:len(test.want)])
				if test.after == 0 {
					return
				}
				for _, gap := range gaps[len(test.want):] {
					require.GreaterOrEqual(t, gap, test.after)
					require.LessOrEqual(t, gap, 2*test.after)
				}
				time.Sleep(5 * time.Hour)
				require.Zero(t, bot.Pending(), "the update has expired")
				n := h.count()
				time.Sleep(5 * time.Hour)
				require.Equal(t, n, h.count())
			})
		})
	}
}

func TestWebhookErrorsAreTold(t *testing.T) {
	h := &hook{answer: func(n int, w http.ResponseWriter, _ gotgbot.Update) {
		if n < 3 {
			w.WriteHeader(http.StatusBadGateway)
		}
	}}
	hooked(t, h, nil, func(t *testing.T, srv *bottest.Server, bot *bottest.Bot, ann *bottest.User) {
		ann.Write(bot, "one")
		ann.Write(bot, "two")
		synctest.Wait()
		got := info(t, srv, bot)
		require.Equal(t, "Wrong response from the webhook: 502 Bad Gateway", got.LastErrorMessage)
		require.Equal(t, time.Now().Unix(), got.LastErrorDate)
		require.EqualValues(t, 2, got.PendingUpdateCount, "the second message waits behind the first")
		time.Sleep(time.Minute)
		require.Equal(t, []string{"one", "one", "one", "one", "two"}, h.texts())
		require.Zero(t, info(t, srv, bot).PendingUpdateCount)
	})
}

func TestWebhookOrderHoldsWithinAChatOnly(t *testing.T) {
	h := &hook{}
	h.answer = func(n int, w http.ResponseWriter, u gotgbot.Update) {
		if u.Message != nil && u.Message.From.FirstName == "Ann" && n < 10 {
			w.WriteHeader(500)
		}
	}
	hooked(t, h, nil, func(t *testing.T, srv *bottest.Server, bot *bottest.Bot, ann *bottest.User) {
		ben := srv.NewUser("Ben")
		ann.Write(bot, "ann 1")
		ann.Write(bot, "ann 2")
		sent := call(t, srv, bot.Token(), "sendMessage", "chat_id", ann.ID, "text", "press").message(t)
		ann.Press(&sent, "ann's button")
		for i := range 3 {
			ben.Write(bot, fmt.Sprint("ben ", i+1))
		}
		time.Sleep(time.Hour)
		var order []string
		for _, text := range h.texts() {
			if text != "ann 1" {
				order = append(order, text)
			}
		}
		require.ElementsMatch(t, []string{"ann's button", "ben 1", "ben 2", "ben 3", "ann 2"}, order)
		require.Equal(t, "ann 2", order[4], "only Ann's chat waits for Ann's message")
		ben1, ben3 := strings.Index(fmt.Sprint(order), "ben 1"), strings.Index(fmt.Sprint(order), "ben 3")
		require.Less(t, ben1, ben3)
	})
}

func TestWebhookMaxConnections(t *testing.T) {
	var mu sync.Mutex
	now, most := 0, 0
	h := &hook{answer: func(int, http.ResponseWriter, gotgbot.Update) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		time.Sleep(time.Second)
		mu.Lock()
		now--
		mu.Unlock()
	}}
	hooked(t, h, []any{"max_connections", 3}, func(t *testing.T, srv *bottest.Server, bot *bottest.Bot, _ *bottest.User) {
		for range 30 {
			srv.NewUser("Ann").Write(bot, "hi")
		}
		time.Sleep(10*time.Second + time.Millisecond)
		require.Equal(t, 30, h.count())
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, 3, most)
	})
}

func TestWebhookTimesOutAfterAMinute(t *testing.T) {
	h := &hook{answer: func(n int, _ http.ResponseWriter, _ gotgbot.Update) {
		if n == 0 {
			time.Sleep(2 * time.Minute)
		}
	}}
	hooked(t, h, nil, func(t *testing.T, srv *bottest.Server, bot *bottest.Bot, ann *bottest.User) {
		ann.Write(bot, "hi")
		time.Sleep(61 * time.Second)
		require.Equal(t, []int{60}, h.gaps())
		require.Equal(t, "Read timeout expired", info(t, srv, bot).LastErrorMessage)
		time.Sleep(2 * time.Minute)
	})
}

func TestWebhookIsDeletedAfterADayOf410(t *testing.T) {
	h := &hook{answer: func(_ int, w http.ResponseWriter, _ gotgbot.Update) { w.WriteHeader(http.StatusGone) }}
	hooked(t, h, nil, func(t *testing.T, srv *bottest.Server, bot *bottest.Bot, ann *bottest.User) {
		for range 50 {
			ann.Write(bot, "hi")
			time.Sleep(30 * time.Minute)
			if info(t, srv, bot).Url == "" {
				break
			}
		}
		require.Empty(t, info(t, srv, bot).Url)
		require.Greater(t, h.at[len(h.at)-1].Sub(h.at[0]), 23*time.Hour)
	})
}

func TestReplyInTheWebhooksAnswer(t *testing.T) {
	tests := []struct {
		name, kind, body string
		method           string // "" if nothing is executed
	}{
		{"JSON", "application/json", `{"method":"sendMessage","chat_id":%d,"text":"pong"}`, "sendMessage"},
		{"JSON in any case", "application/json; charset=utf-8", `{"method":"SENDMESSAGE","chat_id":"%d","text":"pong"}`, "sendMessage"},
		{"a form", "application/x-www-form-urlencoded", `method=sendMessage&chat_id=%d&text=pong`, "sendMessage"},
		{"a get method", "application/json", `{"method":"getChat","chat_id":%d}`, ""},
		{"deleteWebhook", "application/json", `{"method":"deleteWebhook","chat_id":%d}`, ""},
		{"logOut", "application/json", `{"method":"logOut","chat_id":%d}`, ""},
		{"no method", "application/json", `{"chat_id":%d}`, ""},
		{"nonsense", "application/json", `<%d>`, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := &hook{answer: func(_ int, w http.ResponseWriter, u gotgbot.Update) {
				w.Header().Set("Content-Type", test.kind)
				fmt.Fprintf(w, test.body, u.Message.Chat.Id)
			}}
			hooked(t, h, nil, func(t *testing.T, srv *bottest.Server, bot *bottest.Bot, ann *bottest.User) {
				srv.Reset()
				ann.Write(bot, "ping")
				synctest.Wait()
				require.Zero(t, bot.Pending())
				if test.method == "" {
					require.Zero(t, srv.CallCount(""))
					return
				}
				calls := srv.Calls()
				require.Len(t, calls, 1)
				require.Equal(t, test.method, calls[0].Method)
				require.Equal(t, "webhook", calls[0].Remote)
				require.Equal(t, "pong", srv.Messages(ann.ID)[1].Text)
			})
		})
	}
}

func TestSetWebhookChecks(t *testing.T) {
	tests := []struct {
		name   string
		any    bool
		params []any
		want   string // "" is ok
	}{
		{"https", false, []any{"url", "https://example.com/x"}, ""},
		{"https on 8443", false, []any{"url", "https://example.com:8443/x"}, ""},
		{"a bare host", false, []any{"url", "example.com/x"}, ""},
		{"loopback", false, []any{"url", "http://127.0.0.1:1234/x"}, ""},
		{"plain http", false, []any{"url", "http://example.com/x"}, "Bad Request: bad webhook: An HTTPS URL must be provided for webhook"},
		{"plain http, if any will do", true, []any{"url", "http://example.com:81/x"}, ""},
		{"another port", false, []any{"url", "https://example.com:8080/x"},
			"Bad Request: bad webhook: Webhook can be set up only on ports 80, 88, 443 or 8443"},
		{"a private address", false, []any{"url", "https://10.1.2.3/x"}, "Bad Request: bad webhook: IP address 10.1.2.3 is reserved"},
		{"a private ip_address", false, []any{"url", "https://example.com", "ip_address", "192.168.1.1"},
			"Bad Request: bad webhook: IP address 192.168.1.1 is reserved"},
		{"IPv6", false, []any{"url", "https://[2001:db8::1]/x"}, "Bad Request: bad webhook: IPv6-only addresses are not allowed"},
		{"no URL", true, []any{"url", "https://"}, "Bad Request: invalid webhook URL specified"},
		{"another scheme", true, []any{"url", "ftp://example.com"}, "Bad Request: invalid webhook URL specified"},
		{"the longest secret", false, []any{"url", "https://example.com", "secret_token", strings.Repeat("a", 256)}, ""},
		{"a longer secret", false, []any{"url", "https://example.com", "secret_token", strings.Repeat("a", 257)},
			"Bad Request: secret token is too long"},
		{"a secret with other characters", false, []any{"url", "https://example.com", "secret_token", "a b"},
			"Bad Request: secret token contains unallowed characters"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			srv := newServer(t, bottest.Config{AnyWebhookURL: test.any})
			got := call(t, srv, srv.NewBot("shop_bot").Token(), "setWebhook", test.params...)
			require.Equal(t, test.want, got.Description[:len(test.want)])
			require.Equal(t, test.want == "", got.OK)
		})
	}
}

func TestWebhookLife(t *testing.T) {
	h := &hook{}
	hooked(t, h, nil, func(t *testing.T, srv *bottest.Server, bot *bottest.Bot, ann *bottest.User) {
		token := bot.Token()
		require.Equal(t, "Webhook is already set", call(t, srv, token, "setWebhook", "url", "https://example.com/hook").Description)
		require.Equal(t, "Webhook was deleted", call(t, srv, token, "deleteWebhook").Description)
		require.Equal(t, "Webhook is already deleted", call(t, srv, token, "setWebhook", "url", "").Description)
		ann.Write(bot, "waits")
		require.Equal(t, 1, bot.Pending())
		got := call(t, srv, token, "setWebhook", "url", "https://example.com/2", "max_connections", 7, "ip_address", "203.0.113.5",
			"allowed_updates", `["message"]`)
		require.Equal(t, "Webhook was set", got.Description)
		synctest.Wait()
		require.Equal(t, []string{"waits"}, h.texts(), "what had waited is delivered")
		require.Equal(t, gotgbot.WebhookInfo{Url: "https://example.com/2", MaxConnections: 7, IpAddress: "203.0.113.5",
			AllowedUpdates: []string{"message"}}, info(t, srv, bot))
		require.True(t, call(t, srv, token, "setWebhook", "url", "https://203.0.113.7/2").OK)
		require.Equal(t, "203.0.113.7", info(t, srv, bot).IpAddress, "the one in use, fixed or not")
		h.answer = func(_ int, w http.ResponseWriter, _ gotgbot.Update) { w.WriteHeader(500) }
		ann.Write(bot, "fails")
		synctest.Wait()
		require.True(t, call(t, srv, token, "deleteWebhook", "drop_pending_updates", true).OK)
		require.Zero(t, bot.Pending())
	})
}

// The server keeps webhooks by token (telegram-bot-api, Client.cpp, save_webhook).
func TestAWebhookGoesWithItsToken(t *testing.T) {
	h := &hook{}
	hooked(t, h, nil, func(t *testing.T, srv *bottest.Server, bot *bottest.Bot, ann *bottest.User) {
		ann.Write(bot, "by the old one")
		synctest.Wait()
		fresh := bot.RotateToken()
		require.Equal(t, gotgbot.WebhookInfo{}, info(t, srv, bot))
		ann.Write(bot, "waits")
		synctest.Wait()
		require.Equal(t, 1, bot.Pending())
		require.True(t, call(t, srv, fresh, "setWebhook", "url", "https://example.com/hook").OK)
		synctest.Wait()
		require.Equal(t, []string{"by the old one", "waits"}, h.texts())
		bot.Revoke()
		ann.Write(bot, "for nobody")
		synctest.Wait()
		require.Len(t, h.texts(), 2)
		require.Equal(t, 1, bot.Pending())
	})
}

func TestWebhookOverASocket(t *testing.T) {
	got := make(chan string, 1)
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		got <- r.URL.Path + " " + user + ":" + password
	}))
	defer web.Close()
	srv := newServer(t, bottest.Config{})
	bot := srv.NewBot("shop_bot")
	at := strings.Replace(web.URL, "http://", "http://me:pw@", 1) + "/hook"
	require.True(t, call(t, srv, bot.Token(), "setWebhook", "url", at).OK)
	srv.NewUser("Ann").Write(bot, "hi")
	require.Equal(t, "/hook me:pw", <-got)
}

func TestCloseEndsDeliveries(t *testing.T) {
	in := make(chan struct{})
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(in)
		<-r.Context().Done()
	})
	srv := bottest.New(bottest.Config{WebhookTransport: bottest.HandlerTransport(h)})
	bot := srv.NewBot("shop_bot")
	require.True(t, call(t, srv, bot.Token(), "setWebhook", "url", "https://example.com").OK)
	srv.NewUser("Ann").Write(bot, "hi")
	<-in
	srv.Close()
	require.Equal(t, 1, bot.Pending(), "it was not confirmed")
}
