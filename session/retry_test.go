package session_test

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/breaker"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/retry"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
)

// cutOff breaks the connection before the request is there, so nothing is done.
var cutOff = bottest.ResetBefore()

// shop is a guarded bot and two users who have started it.
type shop struct {
	srv      *bottest.Server
	guard    *session.Guard
	session  *session.Session
	fake     *bottest.Bot
	bot      *gotgbot.Bot
	ann, bob *bottest.User
}

func newShop(t *testing.T, cfg session.GuardConfig) *shop {
	srv := bottest.New(bottest.Config{})
	t.Cleanup(srv.Close)
	s, g := guarded(t, srv.Transport(), cfg)
	fake := srv.NewBot("shop_bot")
	x := &shop{srv: srv, guard: g, session: s, fake: fake, ann: srv.NewUser("Ann"), bob: srv.NewUser("Bob")}
	x.bot = s.Bot("shop", mustToken(t, fake.Token()), gotgbot.User{})
	x.ann.Start(fake, "")
	x.bob.Start(fake, "")
	return x
}

// texts are the bot's messages to a user.
func (x *shop) texts(u *bottest.User) (all []string) {
	for _, m := range x.fake.Messages(u.ID) {
		if m.From != nil && m.From.IsBot {
			all = append(all, m.Text)
		}
	}
	return all
}

func TestALaterMessageOfTheChatDoesNotOvertakeOneThatIsRepeated(t *testing.T) {
	for name, fault := range map[string]bottest.Action{
		"after a failure": cutOff,
		"after a 429":     bottest.TooManyRequests(5 * time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newShop(t, session.GuardConfig{})
				x.srv.Fail(bottest.Fault{Times: 2, Do: fault, When: func(c bottest.Call) bool { return c.Params["text"] == "1" }})
				var all sync.WaitGroup
				for i, text := range []string{"1", "2", "3"} {
					all.Go(func() {
						time.Sleep(time.Duration(i) * 10 * time.Millisecond)
						_, err := x.bot.SendMessage(x.ann.ID, text, nil)
						assert.NoError(t, err)
					})
				}
				time.Sleep(100 * time.Millisecond)
				begin := time.Now()
				_, err := x.bot.SendMessage(x.bob.ID, "other", nil)
				assert.NoError(t, err)
				assert.Zero(t, time.Since(begin), "another chat is not kept back")
				all.Wait()
				texts := x.texts(x.ann)
				assert.Len(t, texts, 3)
				assert.Equal(t, "1", texts[0], "%v", texts) // the others leave together then
			})
		})
	}
}

func TestWhatMayComeTwiceIsSentTwiceRatherThanNotAtAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newShop(t, session.GuardConfig{})
		x.srv.Fail(bottest.Fault{Method: "sendMessage", Times: 1, Do: bottest.ResetAfter()})
		_, err := x.bot.SendMessageWithContext(session.Repeatable(t.Context()), x.ann.ID, "hello", nil)
		require.NoError(t, err)
		assert.Equal(t, []string{"hello", "hello"}, x.texts(x.ann))
	})
}

func TestAskDecidesWhetherAMessageThatMayBeThereIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked int
		ask := func(context.Context, *session.Call, error) bool { return false }
		x := newShop(t, session.GuardConfig{Retry: session.RetryConfig{
			Ask: func(ctx context.Context, call *session.Call, err error) bool {
				asked++
				assert.Equal(t, errors.OutcomeUnknown, errors.KindOf(err))
				return ask(ctx, call, err)
			},
		}})
		defer x.srv.Fail(bottest.Fault{Method: "sendMessage", Every: 2, Do: bottest.CutJSON()})()
		send := func() error {
			_, err := x.bot.SendMessage(x.ann.ID, "hello", nil)
			return err
		}
		require.NoError(t, send())
		assert.Equal(t, errors.OutcomeUnknown, errors.KindOf(send()), "no")
		ask = func(context.Context, *session.Call, error) bool { panic("broken") }
		require.NoError(t, send())
		assert.Equal(t, errors.OutcomeUnknown, errors.KindOf(send()), "a panic is no yes")
		ask = func(context.Context, *session.Call, error) bool { return true }
		require.NoError(t, send())
		require.NoError(t, send(), "yes")
		assert.Equal(t, 3, asked)
	})
}

// A part of an album that was refused may have been sent.
func TestAskIsAskedForAnAlbumThatWasRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, requests := 0, 0
		s, _ := guarded(t, roundTrip(func(r *http.Request) (*http.Response, error) {
			if requests++; requests == 1 {
				return answer(r, 429, `{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 5","parameters":{"retry_after":5}}`), nil
			}
			return answer(r, 200, `{"ok":true,"result":[]}`), nil
		}), session.GuardConfig{Retry: session.RetryConfig{
			Ask: func(context.Context, *session.Call, error) bool { asked++; return asked > 1 },
		}})
		bot := s.Bot("shop", mustToken(t, canary), gotgbot.User{})
		album := []gotgbot.InputMedia{gotgbot.InputMediaPhoto{Media: gotgbot.InputFileByID("x")}, gotgbot.InputMediaPhoto{Media: gotgbot.InputFileByID("y")}}
		_, err := bot.SendMediaGroup(1, album, nil)
		assert.Equal(t, errors.RateLimited, errors.KindOf(err))
		assert.Equal(t, 1, asked)
		requests = 0
		begin := time.Now()
		_, err = bot.SendMediaGroup(1, album, nil)
		assert.NoError(t, err)
		assert.Equal(t, 2, asked)
		assert.GreaterOrEqual(t, time.Since(begin), 5*time.Second)
	})
}

func TestTheLastErrorIsKeptWhenTheContextEndsDuringTheWait(t *testing.T) {
	for name, chat := range map[string]bool{"in the chat's queue": true, "without a chat": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newShop(t, session.GuardConfig{})
				defer x.srv.Fail(bottest.Fault{Do: cutOff})()
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(500*time.Millisecond, cancel)
				begin := time.Now()
				var err error
				if chat {
					_, err = x.bot.SendMessageWithContext(ctx, x.ann.ID, "hello", nil)
				} else {
					_, err = x.bot.GetMeWithContext(ctx, nil)
				}
				assert.Equal(t, 500*time.Millisecond, time.Since(begin))
				assert.Equal(t, errors.Canceled, errors.KindOf(err))
				assert.ErrorIs(t, err, context.Canceled)
				assert.ErrorIs(t, err, errors.ConnectionFailed)
				assert.True(t, errors.SafeToRepeat(err), "the attempt that was made was not carried out")

				ctx, cancel = context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				begin = time.Now()
				_, err = x.bot.GetMeWithContext(ctx, nil)
				assert.Equal(t, errors.ConnectionFailed, errors.KindOf(err), "the wait would not fit")
				assert.Zero(t, time.Since(begin))
			})
		})
	}
}

func TestAFloodWaitLongerThanTheLongestWaitIsReturnedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newShop(t, session.GuardConfig{})
		x.srv.Fail(bottest.Fault{Times: 1, Do: bottest.TooManyRequests(90 * time.Second)})
		begin := time.Now()
		_, err := x.bot.SendMessage(x.ann.ID, "hello", nil)
		assert.Zero(t, time.Since(begin))
		assert.Equal(t, errors.RateLimited, errors.KindOf(err))
		assert.Equal(t, 90*time.Second, errors.RetryAfter(err))
		time.Sleep(90 * time.Second)
		_, err = x.bot.SendMessage(x.ann.ID, "hello", nil)
		assert.NoError(t, err)
	})
}

func TestWaitsForRateLimitsDoNotUseUpRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newShop(t, session.GuardConfig{})
		var n int
		x.srv.Fail(bottest.Fault{Do: bottest.TooManyRequests(time.Second), When: func(bottest.Call) bool { n++; return n <= 3 }})
		x.srv.Fail(bottest.Fault{Do: bottest.Restart500(), When: func(bottest.Call) bool { return n <= 6 }})
		_, err := x.bot.GetMe(nil)
		assert.NoError(t, err, "three waits and three retries")
		assert.Equal(t, 7, n)
	})
}

func TestWhenEverythingFailsRetriesAddNoMoreThanTheirBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget, err := retry.NewBudget(retry.BudgetConfig{Share: 0.1, Burst: 10})
		require.NoError(t, err)
		x := newShop(t, session.GuardConfig{Retry: session.RetryConfig{Policy: retry.Config{Budget: budget}}})
		require.NoError(t, x.guard.Force("", breaker.Disabled))
		require.NoError(t, x.guard.Force("shop", breaker.Disabled))
		defer x.srv.Fail(bottest.Fault{Do: bottest.HTML502()})()
		for range 500 {
			_, err := x.bot.GetMe(nil)
			assert.Equal(t, errors.Unavailable, errors.KindOf(err))
		}
		assert.LessOrEqual(t, len(x.srv.Calls()), 500+50+10)
		assert.Greater(t, len(x.srv.Calls()), 500)
	})
}

func TestALongPollIsNeitherRepeatedNorSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newShop(t, session.GuardConfig{Break: session.BreakerConfig{
			Platform: breaker.Config{SlowAfter: time.Second, MinCalls: 1, SlowRate: 0.1},
		}})
		for offset := int64(1000); offset < 1005; offset++ {
			_, err := x.bot.GetUpdates(&gotgbot.GetUpdatesOpts{Offset: 1 << 40, Timeout: 20})
			require.NoError(t, err)
		}
		assert.Equal(t, breaker.Closed, x.guard.Stats(0).Platform.State)
		before := len(x.srv.Calls())
		x.srv.Fail(bottest.Fault{Times: 1, Do: bottest.HTML502()})
		_, err := x.bot.GetUpdates(nil)
		assert.Equal(t, errors.Unavailable, errors.KindOf(err))
		assert.Equal(t, before+1, len(x.srv.Calls()))
	})
}

func TestFindingOutWhetherATokenWorksPassesItsBreakerAndClosesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newShop(t, session.GuardConfig{})
		remove := x.srv.Fail(bottest.Fault{Do: bottest.Unauthorized401()})
		for range 5 {
			_, err := x.bot.GetMe(nil)
			require.Equal(t, errors.Unauthorized, errors.KindOf(err))
		}
		_, err := x.bot.GetMe(nil)
		require.Equal(t, errors.BreakerOpen, errors.KindOf(err))
		before := len(x.srv.Calls())
		_, err = x.session.NewBot(t.Context(), "shop", mustToken(t, x.fake.Token()))
		assert.Equal(t, errors.Unauthorized, errors.KindOf(err))
		assert.Equal(t, before+1, len(x.srv.Calls()))
		remove()
		_, err = x.session.NewBot(t.Context(), "shop", mustToken(t, x.fake.Token()))
		require.NoError(t, err)
		_, err = x.bot.GetMe(nil)
		assert.NoError(t, err, "it is closed")
	})
}

func TestACallThatIsRefusedAnywayDoesNotWaitForItsTurn(t *testing.T) {
	for name, open := range map[string]func(*session.Guard) error{
		"platform": func(b *session.Guard) error { return b.Force("", breaker.ForcedOpen) },
		"bot":      func(b *session.Guard) error { return b.Force("shop", breaker.Open) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newShop(t, session.GuardConfig{})
				for range 3 { // the burst
					_, err := x.bot.SendMessage(x.ann.ID, "hello", nil)
					require.NoError(t, err)
				}
				require.NoError(t, open(x.guard))
				begin := time.Now()
				_, err := x.bot.SendMessage(x.ann.ID, "hello", nil)
				assert.Equal(t, errors.BreakerOpen, errors.KindOf(err))
				assert.Zero(t, time.Since(begin))
				assert.True(t, errors.SafeToRepeat(err))
			})
		})
	}
}

func TestAPanicGivesEveryPermitBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, err := session.NewGuard(session.GuardConfig{})
		require.NoError(t, err)
		defer g.Close()
		chain := session.Chain(session.InvokerFunc(func(context.Context, *session.Call) (json.RawMessage, error) {
			panic("broken")
		}), g.Middleware())
		for range 20 {
			assert.Panics(t, func() {
				_, _ = chain.Invoke(t.Context(), &session.Call{Key: "shop", Method: "getMe", Attempt: 1})
			})
		}
		assert.Zero(t, g.Stats(0).InFlight)
		assert.Zero(t, g.Stats(0).Platform.InFlight)
		assert.Zero(t, g.Breaker("shop").InFlight)
	})
}

func TestClosingTheSessionEndsACallThatWaitsToBeRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, err := session.NewGuard(session.GuardConfig{})
		require.NoError(t, err)
		defer g.Close()
		s, err := session.New(session.Config{Transport: answering(http.StatusBadGateway, ""), Guard: g})
		require.NoError(t, err)
		bot := s.Bot("shop", mustToken(t, canary), gotgbot.User{})
		done := make(chan error)
		go func() {
			_, err := bot.GetMe(nil)
			done <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.Error(t, s.Close(ctx))
		err = <-done
		assert.Equal(t, errors.Closed, errors.KindOf(err))
		assert.ErrorIs(t, err, errors.Unavailable)
		assert.NotContains(t, err.Error(), canarySecret)
	})
}

func TestBadFieldsOfAGuardAreNamed(t *testing.T) {
	_, err := session.NewGuard(session.GuardConfig{
		Retry: session.RetryConfig{Policy: retry.Config{Factor: -1, Classify: func(error) retry.Decision { return retry.Decision{} }}},
		Limit: session.LimitConfig{MaxWaiting: -1},
		Break: session.BreakerConfig{MaxTenants: -1, Tenant: breaker.Config{OpenGrowth: -1, OnStateChange: func(breaker.Change) {}}},
	})
	for _, field := range []string{"Classify", "Factor", "MaxWaiting", "MaxKeys", "OpenGrowth", "OnStateChange"} {
		assert.ErrorContains(t, err, field)
	}
}
