package session

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session/bottest"
)

// limitOnly is a guard's limits without the rest of the guard.
func limitOnly(l *limiter) Middleware {
	return func(next Invoker) Invoker {
		return InvokerFunc(func(ctx context.Context, call *Call) (json.RawMessage, error) {
			permit, err := l.admit(ctx, call)
			if err != nil {
				return nil, err
			}
			defer permit.Release()
			start := l.facts.clock()
			result, err := next.Invoke(ctx, call)
			return result, l.learn(ctx, call, permit.Began(), start, result, err)
		})
	}
}

// limited is a session whose only middleware is a limiter.
func limited(t *testing.T, srv *bottest.Server, cfg LimitConfig) (*Session, *limiter) {
	t.Helper()
	return limitedOver(t, srv, srv.Transport(), cfg)
}

// limitedOver is the same over another transport to the server.
func limitedOver(t *testing.T, srv *bottest.Server, transport http.RoundTripper, cfg LimitConfig) (*Session, *limiter) {
	t.Helper()
	l, err := newLimiter(cfg, newAttribution(nil))
	require.NoError(t, err)
	s, err := New(Config{Transport: transport, Middleware: []Middleware{limitOnly(l)}})
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, s.Close(context.Background()))
		stats := l.scheduler.Stats(0)
		assert.Zero(t, stats.Waiting)
		assert.Zero(t, stats.InFlight)
		l.scheduler.Close()
		srv.Close()
	})
	return s, l
}

var warm = []ratelimit.Limit{} // no limit on cold starts

func refusals429(srv *bottest.Server) int {
	n := 0
	for _, c := range srv.Calls() {
		if c.Status == 429 {
			n++
		}
	}
	return n
}

func TestABotKeepsToItsLimitsWithoutA429(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{})
		s, _ := limited(t, srv, LimitConfig{ColdStarts: warm, MaxWait: -1})
		fake := srv.NewBot("shop_bot")
		token, _ := ParseToken(fake.Token())
		bot := s.Bot("shop", token, gotgbot.User{})
		ann, group := srv.NewUser("Ann"), srv.NewGroup("Group")
		ann.Start(fake, "")
		group.Add(fake, nil)
		begin := time.Now()
		for range 40 {
			_, err := bot.SendMessage(group.ID, "hello", nil)
			require.NoError(t, err)
		}
		assert.Equal(t, 90*time.Second, time.Since(begin).Round(time.Second), "10 at once, then one in 3 s")
		begin = time.Now()
		for range 13 {
			_, err := bot.SendMessage(ann.ID, "hello", nil)
			require.NoError(t, err)
		}
		assert.Equal(t, 10*time.Second, time.Since(begin).Round(time.Second))
		assert.Zero(t, refusals429(srv))
	})
}

func TestA429OfAChatHoldsBackThatChatForAsLongAsItSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{})
		s, l := limited(t, srv, LimitConfig{ColdStarts: warm, MaxWait: time.Hour})
		fake := srv.NewBot("shop_bot")
		token, _ := ParseToken(fake.Token())
		bot := s.Bot("shop", token, gotgbot.User{})
		ann, bob := srv.NewUser("Ann"), srv.NewUser("Bob")
		ann.Start(fake, "")
		bob.Start(fake, "")
		remove := srv.Fail(bottest.Fault{Method: "sendMessage", Times: 1, Do: bottest.TooManyRequests(17 * time.Second)})
		defer remove()
		_, err := bot.SendMessage(ann.ID, "hello", nil)
		var e *errors.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, errors.RateLimited, e.Kind)
		assert.Equal(t, errors.ScopeChat, e.Scope)
		assert.Equal(t, 1, l.scheduler.Stats(0).FrozenKeys)
		begin := time.Now()
		_, err = bot.SendMessage(bob.ID, "hello", nil)
		require.NoError(t, err)
		assert.Zero(t, time.Since(begin), "others are not held back")
		_, err = bot.SendMessage(ann.ID, "hello", nil)
		require.NoError(t, err)
		assert.Equal(t, 17*time.Second, time.Since(begin))
	})
}

func TestACallThatWouldWaitTooLongFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{})
		s, l := limited(t, srv, LimitConfig{ColdStarts: warm})
		token, _ := ParseToken(srv.NewBot("shop_bot").Token())
		bot := s.Bot("shop", token, gotgbot.User{})
		l.scheduler.Freeze(ratelimit.Scope[place]{Level: ratelimit.LevelTenant, Tenant: "shop"}, time.Now().Add(time.Hour))
		begin := time.Now()
		_, err := bot.GetMe(nil)
		assert.Equal(t, errors.Throttled, errors.KindOf(err))
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Hour, errors.RetryAfter(err))
		assert.Zero(t, time.Since(begin))
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err = bot.GetMeWithContext(ctx, nil)
		assert.Equal(t, errors.Canceled, errors.KindOf(err))
	})
}

func TestSlotsComeBackOnEveryPath(t *testing.T) {
	l, err := newLimiter(LimitConfig{ColdStarts: warm}, newAttribution(nil))
	require.NoError(t, err)
	defer l.scheduler.Close()
	var end func()
	invoke := limitOnly(l)(InvokerFunc(func(context.Context, *Call) (json.RawMessage, error) { end(); return nil, errors.BadRequest }))
	for _, how := range []func(){func() {}, func() { panic("broken") }} {
		end = how
		func() {
			defer func() { _ = recover() }()
			_, _ = invoke.Invoke(context.Background(), &Call{Key: "x", Method: "getMe"})
		}()
		assert.Zero(t, l.scheduler.Stats(0).InFlight)
	}
}

func TestAMigratedGroupTakesItsStateAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := bottest.New(bottest.Config{})
		var from, to int64
		s, l := limited(t, srv, LimitConfig{ColdStarts: warm, OnMigrate: func(_ context.Context, _ string, a, b int64) { from, to = a, b }})
		fake := srv.NewBot("shop_bot")
		token, _ := ParseToken(fake.Token())
		bot := s.Bot("shop", token, gotgbot.User{})
		group := srv.NewGroup("Group")
		group.Add(fake, nil)
		old := group.ID
		for range 10 {
			_, err := bot.SendMessage(old, "hello", nil)
			require.NoError(t, err)
		}
		group = group.Upgrade()
		_, err := bot.SendMessage(old, "hello", nil)
		require.Equal(t, errors.Migrated, errors.KindOf(err))
		assert.Equal(t, old, from)
		assert.Equal(t, group.ID, to)
		begin := time.Now()
		_, err = bot.SendMessage(group.ID, "hello", nil)
		require.NoError(t, err)
		assert.Greater(t, time.Since(begin), 2*time.Second, "its burst was used up under the old id")
		assert.Equal(t, 1, l.scheduler.Stats(0).Keys)
	})
}

func TestAUsernameIsAKeyOfItsOwnUntilItsIDIsKnown(t *testing.T) {
	l, err := newLimiter(LimitConfig{ColdStarts: warm}, newAttribution(nil))
	require.NoError(t, err)
	defer l.scheduler.Close()
	call := &Call{Key: "x", Method: "sendMessage", Chat: ParseChatID("@News")}
	assert.Equal(t, place{chat: ChatID{Username: "@news"}}, l.place(call))
	invoke := limitOnly(l)(InvokerFunc(func(context.Context, *Call) (json.RawMessage, error) {
		return []byte(`{"message_id":1,"chat":{"id":-1001}}`), nil
	}))
	for range 10 {
		_, err = invoke.Invoke(context.Background(), call)
		require.NoError(t, err)
	}
	assert.Equal(t, place{chat: ChatID{ID: -1001}}, l.place(call))
	assert.Equal(t, 1, l.scheduler.Stats(0).Keys, "both names are one")
}

func TestWhatACallCosts(t *testing.T) {
	for method, want := range map[string]bool{
		"sendMessage": true, "SENDPHOTO": true, "copyMessages": true, "forwardMessage": true, "editMessageText": true,
		"sendChatAction": false, "getMe": false, "answerCallbackQuery": false, "deleteMessage": false,
		"editForumTopic": false, "editChatInviteLink": false, "send": true, "": false,
	} {
		assert.Equal(t, want, counts(method), method)
	}
	assert.Equal(t, 3, cost(&Call{Method: "sendMediaGroup", Params: map[string]any{"media": make([]gotgbot.InputMedia, 3)}}))
	assert.Equal(t, 2, cost(&Call{Method: "copyMessages", Params: map[string]any{"message_ids": []int64{1, 2}}}))
	assert.Equal(t, 2, cost(&Call{Method: "copyMessages", Params: map[string]any{"message_ids": "[1,2]"}}))
	assert.Equal(t, 1, cost(&Call{Method: "sendMediaGroup"}))
}
