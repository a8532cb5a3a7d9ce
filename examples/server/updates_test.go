package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// both runs a test with each way that updates come.
func both(t *testing.T, test func(t *testing.T, s *site)) {
	for name, o := range map[string]options{"webhook": byWebhook, "polling": byPolling} {
		t.Run(name, func(t *testing.T) { test(t, newSite(t, o)) })
	}
}

// add registers a bot by the page.
func (s *site) add(id string) *bottest.Bot {
	s.t.Helper()
	bot := s.srv.NewBot(id + "_bot")
	w := s.post("/api/bots", fmt.Sprintf(`{"id":%q,"token":%q}`, id, bot.Token()))
	require.Equal(s.t, http.StatusCreated, w.Code, w.Body)
	return bot
}

func (s *site) post(path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.web.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	return w
}

func decode(t *testing.T, w *httptest.ResponseRecorder, v any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), v), w.Body)
}

// texts are those that a bot and a user have exchanged.
func texts(bot *bottest.Bot, user *bottest.User) (all []string) {
	for _, m := range bot.Messages(user.ID) {
		all = append(all, m.Text)
	}
	return all
}

func TestWhatUsersWriteIsAnsweredInItsOrder(t *testing.T) {
	both(t, func(t *testing.T, s *site) {
		shop, news, ann := s.add("shop"), s.add("news"), s.srv.NewUser("Ann")
		for i := range 5 {
			ann.Write(shop, fmt.Sprint("shop ", i))
			ann.Write(news, fmt.Sprint("news ", i))
		}
		for name, bot := range map[string]*bottest.Bot{"shop": shop, "news": news} {
			require.Eventually(t, func() bool { return len(texts(bot, ann)) == 10 }, 10*time.Second, time.Millisecond)
			var answers []string
			for _, m := range bot.Messages(ann.ID) {
				if m.From.IsBot {
					answers = append(answers, m.Text)
				}
			}
			assert.Equal(t, []string{name + " 0", name + " 1", name + " 2", name + " 3", name + " 4"}, answers)
			r, known := s.monitor.Get(name)
			assert.True(t, known)
			assert.WithinDuration(t, time.Now(), r.LastUpdate, time.Minute)
		}
		status := read[status](s, "/status")
		var received uint64
		if status.Webhooks != nil {
			received = status.Webhooks.Received
		} else {
			received = status.Polling.Received
		}
		assert.EqualValues(t, 10, received)
	})
}

// What was confirmed to Telegram and waits in memory is nowhere else.
func TestWhatWasReceivedIsAnsweredBeforeTheEnd(t *testing.T) {
	both(t, func(t *testing.T, s *site) {
		defer s.srv.Fail(bottest.Fault{Method: "sendMessage", Do: bottest.Latency(100 * time.Millisecond)})()
		bot := s.add("shop")
		const users = 30 // more than a tenant's share of handlers
		for range users {
			s.srv.NewUser("User").Write(bot, "hello")
		}
		require.Eventually(t, func() bool { return bot.Pending() == 0 }, 10*time.Second, time.Millisecond)
		s.close(t.Context())
		assert.Equal(t, users, s.srv.CallCount("sendMessage"))
		assert.NotContains(t, s.log.String(), "left in the inbox")
	})
}

func TestAnUpdateThatComesTwiceCountsOnce(t *testing.T) {
	s := newSite(t, byPolling)
	u, err := inbox.Parse("shop", []byte(`{"update_id":7,"message":{"text":"/help","chat":{"id":42}}}`), time.Now())
	require.NoError(t, err)
	for range 2 {
		outcomes, err := counted{s.fleet}.Put(t.Context(), []inbox.Update{u})
		require.NoError(t, err)
		require.Len(t, outcomes, 1)
		require.NoError(t, outcomes[0].Err)
	}
	require.NoError(t, s.recorder.Flush(t.Context()))
	now := time.Now()
	r, err := usage.NewReporter(s.db.Usage, s.monitor).Report(t.Context(), "shop", now.Add(-time.Hour), now.Add(time.Hour), time.UTC)
	require.NoError(t, err)
	assert.Equal(t, []usage.TypeCount{{Type: "message", Count: 1}}, r.Updates)
	require.Len(t, r.Chats, 1)
	assert.Equal(t, usage.Chat{ID: 42}, r.Chats[0].Chat)
}

// proxy passes on what Telegram delivers to a server that says in its log where
// it is.
type proxy struct{ log *syncLog }

var pages = regexp.MustCompile(`url=http://(127\.0\.0\.1:\d+)/status`)

func (p proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	at := pages.FindAllStringSubmatch(p.log.String(), -1)
	if len(at) == 0 {
		return nil, errors.New("the server is not there yet")
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", at[len(at)-1][1]
	return (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
}

func TestAServiceSetsTheWebhooksThatAreMissingWhenItStarts(t *testing.T) {
	t.Setenv(database.KeysVariable, "")
	var log syncLog
	srv := bottest.New(bottest.Config{WebhookTransport: proxy{&log}})
	defer srv.Close()
	url, err := srv.Start()
	require.NoError(t, err)
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	args := []string{"-public-url", "https://bots.example.com/", "-listen", "127.0.0.1:0", "-api", url, "-db", filepath.Join(t.TempDir(), "fleet.db")}
	tokens := "shop " + bot.Token()
	for n := 1; n <= 2; n++ {
		t.Setenv("BOT_TOKENS", tokens)
		tokens = "" // the second time the tenant is known
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan int)
		go func() { done <- run(ctx, args, io.Discard, &log) }()
		ann.Write(bot, fmt.Sprint("hello ", n))
		assert.Eventually(t, func() bool { return srv.CallCount("sendMessage") == n }, 20*time.Second, 5*time.Millisecond)
		stop()
		require.Equal(t, 0, <-done, log.String())
		assert.Equal(t, n, strings.Count(log.String(), "webhook changed"))
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		r, err := client.Get(url + "/bot" + bot.Token() + "/deleteWebhook") // somebody does
		require.NoError(t, err)
		require.NoError(t, r.Body.Close())
	}
	assert.Zero(t, srv.CallCount("getUpdates"))
	assert.NotContains(t, log.String(), bot.Token())
}

func TestStrangersDeliverNothing(t *testing.T) {
	s := newSite(t, byWebhook)
	s.add("shop")
	for _, path := range []string{"/webhook/", "/webhook/shop", "/webhook/1.AAAA"} {
		w := s.post(path, `{"update_id":1,"message":{"text":"hello","chat":{"id":1}}}`)
		assert.GreaterOrEqual(t, w.Code, 400, path)
	}
	assert.Zero(t, s.waiting(t.Context()))
	assert.Zero(t, s.receiver.Stats().Received)
	s = newSite(t, byPolling)
	assert.Equal(t, http.StatusNotFound, s.post("/webhook/1.AAAA", "{}").Code)
}

func TestABotMovesFromWebhookToPolling(t *testing.T) {
	s := newSite(t, byPolling)
	bot, ann := s.srv.NewBot("shop_bot"), s.srv.NewUser("Ann")
	token, err := session.ParseToken(bot.Token())
	require.NoError(t, err)
	_, err = s.session.Bot("shop", token, gotgbot.User{Id: bot.ID(), IsBot: true}).SetWebhook("https://bots.example.com/webhook/1.x", nil)
	require.NoError(t, err)
	_, err = s.manager.Register(t.Context(), "shop", bot.Token())
	require.NoError(t, err)
	ann.Write(bot, "hello")
	require.Eventually(t, func() bool { return s.srv.CallCount("sendMessage") == 1 }, 10*time.Second, time.Millisecond)
}

func TestABotWithANewTokenGoesOnToReceive(t *testing.T) {
	both(t, func(t *testing.T, s *site) {
		bot, ann := s.add("shop"), s.srv.NewUser("Ann")
		for i := range 3 { // a webhook is set for one token while another comes
			_, err := s.manager.Rotate(t.Context(), "shop", bot.RotateToken())
			require.NoError(t, err)
			if i == 1 {
				_, err = s.manager.Suspend(t.Context(), "shop", "unpaid")
				require.NoError(t, err)
			}
		}
		_, err := s.manager.Resume(t.Context(), "shop")
		require.NoError(t, err)
		ann.Write(bot, "hello")
		require.Eventually(t, func() bool { return s.srv.CallCount("sendMessage") == 1 }, 10*time.Second, time.Millisecond)
	})
}

func TestWhoCameWhenSomebodyWorkedOnItHasItLookedAtOnceMore(t *testing.T) {
	turns := turns{again: make(map[string]bool)}
	assert.True(t, turns.begin("a", true))
	assert.True(t, turns.begin("b", true))
	assert.False(t, turns.begin("a", false))
	assert.False(t, turns.end("a"), "who only looks by the way needs nothing")
	assert.True(t, turns.begin("a", false))
	assert.False(t, turns.begin("a", true))
	assert.False(t, turns.begin("a", false))
	assert.True(t, turns.end("a"))
	assert.False(t, turns.end("b"))
	assert.Empty(t, turns.again)
}

func TestWhatAnAnswersErrorIsToItsUpdate(t *testing.T) {
	final := func(err error) bool {
		var out string
		if err = answered(err); err != nil {
			out = fmt.Sprintf("%T", err)
		}
		return out == fmt.Sprintf("%T", inbox.Permanent(errors.Internal))
	}
	for _, kind := range []errors.Kind{errors.None, errors.Blocked, errors.NotStarted, errors.ChatGone, errors.ResultLost} {
		var err error
		if kind != errors.None {
			err = kind
		}
		assert.NoError(t, answered(err), kind)
	}
	for _, kind := range []errors.Kind{errors.OutcomeUnknown, errors.Unavailable} {
		assert.NoError(t, answered(&errors.Error{Kind: kind, Delivery: errors.MaybeDelivered}), "it may be there")
	}
	for _, kind := range []errors.Kind{errors.RateLimited, errors.ConnectionFailed, errors.Unauthorized, errors.Throttled} {
		assert.Equal(t, kind, answered(kind), "it comes again")
	}
	assert.True(t, final(errors.BadRequest), "trying again is no use")
	assert.True(t, errors.Is(answered(errors.BadRequest), errors.BadRequest))
}

func TestOneWhoFollowsTheLinkOwnsTheBot(t *testing.T) {
	both(t, func(t *testing.T, s *site) {
		bot, ann, bob := s.add("shop"), s.srv.NewUser("Ann"), s.srv.NewUser("Bob")
		state := func() verified { t.Helper(); return read[verified](s, "/api/bots/shop/verify") }
		assert.Equal(t, verified{}, state())

		w := s.post("/api/bots/shop/verify", fmt.Sprintf(`{"user":%d}`, ann.ID))
		require.Equal(t, http.StatusCreated, w.Code, w.Body)
		assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		var begun verified
		decode(t, w, &begun)
		require.NotNil(t, begun.Invitation)
		assert.False(t, begun.Verified)
		code, ok := strings.CutPrefix(begun.Invitation.Link, "https://t.me/shop_bot?start=")
		require.True(t, ok, begun.Invitation.Link)
		assert.Equal(t, verified{}, state(), "the page shows no code")

		bob.Start(bot, code)
		require.Eventually(t, func() bool { return len(texts(bot, bob)) == 2 }, 10*time.Second, time.Millisecond)
		assert.Contains(t, texts(bot, bob)[1], "not valid")
		assert.False(t, state().Verified)

		ann.Start(bot, code)
		require.Eventually(t, func() bool { return len(texts(bot, ann)) == 2 }, 10*time.Second, time.Millisecond)
		assert.Equal(t, "Thank you! This bot is yours.", texts(bot, ann)[1])
		proved := state()
		assert.True(t, proved.Verified)
		require.NotNil(t, proved.Owner)
		assert.Equal(t, ann.ID, proved.Owner.User)
		assert.Equal(t, "challenge", proved.Owner.Method.String())

		w = s.post("/api/bots/shop/verify", "")
		assert.Equal(t, http.StatusOK, w.Code, w.Body)
		var again verified
		decode(t, w, &again)
		assert.Equal(t, proved, again, "who owns it needs no new proof")
		assert.NotContains(t, s.log.String(), code)
	})
}

func TestABotSendsNothingBeforeItsOwnerIsKnown(t *testing.T) {
	for name, o := range map[string]options{"webhook": byWebhook, "polling": byPolling} {
		t.Run(name, func(t *testing.T) {
			o.verified = true
			s := newSite(t, o)
			bot, ann := s.add("shop"), s.srv.NewUser("Ann")
			ann.Write(bot, "hello")
			require.Eventually(t, func() bool {
				dead, err := s.db.Inbox.Dead(t.Context(), inbox.DeadFilter{Tenant: "shop"})
				return err == nil && len(dead) == 1
			}, 10*time.Second, time.Millisecond, "it is kept, to be replayed")
			assert.Zero(t, s.srv.CallCount("sendMessage"))

			w := s.post("/api/bots/shop/verify", "")
			require.Equal(t, http.StatusCreated, w.Code, w.Body)
			var begun verified
			decode(t, w, &begun)
			code, _ := strings.CutPrefix(begun.Invitation.Link, "https://t.me/shop_bot?start=")
			ann.Start(bot, code[:len(code)-1])
			require.Eventually(t, func() bool { return s.srv.CallCount("sendMessage") == 1 }, 10*time.Second, time.Millisecond)
			assert.Contains(t, texts(bot, ann)[2], "not valid", "the answer to a code is let through")
			assert.False(t, read[verified](s, "/api/bots/shop/verify").Verified)

			ann.Start(bot, code)
			require.Eventually(t, func() bool { return s.srv.CallCount("sendMessage") == 2 }, 10*time.Second, time.Millisecond)
			assert.True(t, read[verified](s, "/api/bots/shop/verify").Verified)
			ann.Write(bot, "hello again")
			require.Eventually(t, func() bool { return s.srv.CallCount("sendMessage") == 3 }, 10*time.Second, time.Millisecond)
			all := texts(bot, ann)
			assert.Equal(t, "hello again", all[len(all)-1])
		})
	}
}

func TestVerificationsThatAreRefused(t *testing.T) {
	s := newSite(t, byPolling)
	s.add("shop")
	problem := func(path, body string, status int) {
		t.Helper()
		w := s.post(path, body)
		assert.Equal(t, status, w.Code, w.Body)
		assert.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	}
	problem("/api/bots/nobody/verify", "", http.StatusNotFound)
	problem("/api/bots/shop/verify", `{"user":-1}`, http.StatusBadRequest)
	problem("/api/bots/shop/verify", `{"user":"Ann"}`, http.StatusBadRequest)
	problem("/api/bots/shop/verify", `{"owner":1}`, http.StatusBadRequest)
	_, err := s.manager.Suspend(context.Background(), "shop", "unpaid")
	require.NoError(t, err)
	problem("/api/bots/shop/verify", "", errors.Suspended.HTTPStatus())
	problem("/api/bots/shop/verify", "", http.StatusTooManyRequests) // the sixth within a minute
	assert.Equal(t, http.StatusOK, s.get("/api/bots/shop/verify").Code)
	s.problem("/api/bots/nobody/verify", http.StatusNotFound, errors.NotFound)
}
