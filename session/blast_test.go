package session_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/breaker"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

const day = 24 * time.Hour

// mischief answers the calls of bots with ids below 100 by a function, and all
// others at once.
func mischief(of func(*http.Request) (*http.Response, error)) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		id, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/bot"), ":")
		if len(id) <= 2 {
			return of(r)
		}
		return answer(r, 200, okMessage), nil
	})
}

func refusedFor(wait time.Duration) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		return answer(r, 429, fmt.Sprintf(`{"ok":false,"error_code":429,"description":"Too Many Requests: retry after %d","parameters":{"retry_after":%[1]d}}`, int(wait.Seconds()))), nil
	}
}

func botOf(t *testing.T, s *session.Session, id int) *gotgbot.Bot {
	return s.Bot(fmt.Sprint("bot", id), mustToken(t, fmt.Sprintf("%d:secret", id)), gotgbot.User{})
}

// threeRefused has three bots met by 429s on three chats each.
func threeRefused(t *testing.T, s *session.Session) {
	for id := 1; id <= 3; id++ {
		for chat := range int64(3) {
			_, err := botOf(t, s, id).SendMessage(1+chat, "hi", nil)
			require.Error(t, err)
		}
	}
}

func TestAFreezeOfThreeBotsForADayIsFeltByNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := guarded(t, mischief(refusedFor(day)), session.GuardConfig{})
		threeRefused(t, s)
		begin := time.Now()
		for id := 100; id < 200; id++ {
			_, err := botOf(t, s, id).SendMessage(1, "hi", nil)
			assert.NoError(t, err)
			_, err = botOf(t, s, id).GetMe(nil)
			_, typed := errors.AsType[*errors.Error](err)
			assert.False(t, typed, "%v", err)
		}
		assert.Zero(t, time.Since(begin), "not even for a moment")
		_, err := botOf(t, s, 1).SendMessage(1, "hi", nil)
		assert.Equal(t, errors.Throttled, errors.KindOf(err), "their own freezes are as long as Telegram says")
		assert.Greater(t, errors.RetryAfter(err), 23*time.Hour)
	})
}

func TestAFreezeOfAllEndsByItselfByASuccessAndByHand(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, s *session.Session, g *session.Guard){
		"by itself": func(*testing.T, *session.Session, *session.Guard) { time.Sleep(30 * time.Second) },
		"by the success of an innocent bot": func(t *testing.T, s *session.Session, _ *session.Guard) {
			_, err := botOf(t, s, 100).SendMessage(1, "hi", nil)
			assert.NoError(t, err)
		},
		"by hand": func(_ *testing.T, _ *session.Session, g *session.Guard) { g.Thaw("", session.ChatID{}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				refusing := true
				s, g := guarded(t, roundTrip(func(r *http.Request) (*http.Response, error) {
					if refusing {
						return refusedFor(time.Hour)(r)
					}
					return answer(r, 200, okMessage), nil
				}), session.GuardConfig{})
				// Each bot has trouble in one chat, so no bot is frozen by its own.
				for id := 1; id <= 3; id++ {
					_, err := botOf(t, s, id).SendMessage(1, "hi", nil)
					require.Error(t, err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := botOf(t, s, 1).SendMessageWithContext(ctx, 2, "hi", nil)
				require.Equal(t, errors.Throttled, errors.KindOf(err), "suspects wait")
				assert.LessOrEqual(t, errors.RetryAfter(err), 30*time.Second)
				refusing = false
				time.Sleep(time.Millisecond) // calls of one moment know nothing of each other
				end(t, s, g)
				begin := time.Now()
				_, err = botOf(t, s, 2).SendMessage(2, "hi", nil)
				assert.NoError(t, err)
				assert.Zero(t, time.Since(begin))
			})
		})
	}
}

func TestAFreezeByHandCanBeEndedForATenantAndForAChat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusing := true
		s, g := guarded(t, roundTrip(func(r *http.Request) (*http.Response, error) {
			if refusing {
				return refusedFor(time.Hour)(r)
			}
			return answer(r, 200, okMessage), nil
		}), session.GuardConfig{})
		bot := botOf(t, s, 1)
		for chat := range int64(2) {
			_, err := bot.SendMessage(1+chat, "hi", nil)
			require.Error(t, err)
		}
		refusing = false
		send := func(chat int64) errors.Kind {
			_, err := bot.SendMessage(chat, "hi", nil)
			return errors.KindOf(err)
		}
		assert.Equal(t, errors.Throttled, send(3))
		g.Thaw("bot1", session.ChatID{})
		assert.Equal(t, errors.None, send(3))
		assert.Equal(t, errors.Throttled, send(1))
		g.Thaw("bot1", session.ChatID{ID: 1})
		assert.Equal(t, errors.None, send(1))
		assert.Equal(t, errors.Throttled, send(2))
	})
}

// A 429 of a method that sends no message says nothing about messages.
func TestA429OfAnotherMethodDoesNotFreezeTheChatsMessages(t *testing.T) {
	for _, method := range []string{"createForumTopic", "setChatTitle", "getChatMember", "sendChatAction", "pinChatMessage"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := guarded(t, roundTrip(func(r *http.Request) (*http.Response, error) {
					if strings.HasSuffix(r.URL.Path, "/"+method) {
						return refusedFor(time.Hour)(r)
					}
					return answer(r, 200, okMessage), nil
				}), session.GuardConfig{})
				bot := botOf(t, s, 1)
				call := func() error {
					_, err := bot.RequestWithContext(t.Context(), method, map[string]any{"chat_id": int64(-100), "user_id": int64(1)}, nil)
					return err
				}
				assert.Equal(t, errors.RateLimited, errors.KindOf(call()))
				_, err := bot.SendMessage(-100, "hi", nil)
				assert.NoError(t, err)
				assert.Equal(t, errors.Throttled, errors.KindOf(call()), "the method itself waits")
				_, err = bot.RequestWithContext(t.Context(), method, map[string]any{"chat_id": int64(-200), "user_id": int64(1)}, nil)
				assert.Equal(t, errors.RateLimited, errors.KindOf(err), "in that chat")
			})
		})
	}
}

// quiet has bots that are slow or hang as they like, and measures the others.
func quiet(t *testing.T, s *session.Session, g *session.Guard) {
	for n := range 200 {
		time.Sleep(200 * time.Millisecond)
		begin := time.Now()
		_, err := botOf(t, s, 100+n%90).SendMessage(int64(1+n), "hi", nil)
		assert.NoError(t, err)
		assert.Zero(t, time.Since(begin))
	}
	assert.Equal(t, breaker.Closed, g.Stats(0).Platform.State)
	assert.Zero(t, g.Stats(0).Platform.Openings)
}

func TestSlowCallsOfTwoBotsAreFeltByNobodyElse(t *testing.T) {
	for name, row := range map[string]struct{ bots, each int }{"two bots": {2, 4}, "one bot with 25 calls under way": {1, 25}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, g := guarded(t, mischief(func(r *http.Request) (*http.Response, error) {
					time.Sleep(8 * time.Second)
					return answer(r, 200, okMessage), nil
				}), session.GuardConfig{Limit: session.LimitConfig{Default: session.ReactiveLimits()}})
				ctx, cancel := context.WithCancel(t.Context())
				var all sync.WaitGroup
				for id := 1; id <= row.bots; id++ {
					for chat := range row.each {
						all.Go(func() {
							for ctx.Err() == nil {
								_, err := botOf(t, s, id).SendMessage(int64(1+chat), "hi", nil)
								assert.NoError(t, err, "slow is not broken")
							}
						})
					}
				}
				quiet(t, s, g)
				cancel()
				all.Wait()
			})
		})
	}
}

// sendChatAction has a bucket of its own in each chat.
func TestChatActionsAreHeldBackBeforeTelegramRefusesThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := guarded(t, answering(200, `{"ok":true,"result":true}`), session.GuardConfig{})
		bot := botOf(t, s, 1)
		begin := time.Now()
		for range 55 {
			_, err := bot.SendChatAction(1, "typing", nil)
			require.NoError(t, err)
		}
		assert.Equal(t, 10*time.Second, time.Since(begin), "15 at once, then 4 a second")
		begin = time.Now()
		_, _ = bot.SendMessage(1, "hi", nil)
		assert.Zero(t, time.Since(begin), "messages do not wait for them")
	})
}

// A token that nobody knows may be anybody's nonsense.
func TestTokensOfStrangersDoNotDelayTheFleetsBots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, err := session.NewGuard(session.GuardConfig{})
		require.NoError(t, err)
		defer g.Close()
		s := newSession(t, session.Config{Guard: g, Transport: mischief(func(r *http.Request) (*http.Response, error) {
			return answer(r, 401, `{"ok":false,"error_code":401,"description":"Unauthorized"}`), nil
		})})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for id := 1; id <= 40; id++ {
			all.Go(func() { _, _ = s.NewBot(ctx, fmt.Sprint("stranger", id), mustToken(t, fmt.Sprintf("%d:nonsense", id))) })
		}
		synctest.Wait()
		begin := time.Now()
		for id := 100; id < 109; id++ {
			_, err := botOf(t, s, id).SendMessage(1, "hi", nil)
			assert.NoError(t, err)
		}
		assert.Zero(t, time.Since(begin))
		cancel()
		all.Wait()
	})
}
