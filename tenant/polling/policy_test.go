package polling_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/polling"
)

// gotgbot's Updater repeats a failing getUpdates thousands of times a second
// when it has an UnhandledErrFunc, which is like our OnChange.
func TestAFailingGetUpdatesIsNotRepeatedThousandsOfTimesASecond(t *testing.T) {
	for name, answer := range map[string]struct {
		status int
		body   string
	}{
		"a refused connection":        {0, "connection refused"},
		"a 502 of a proxy":            {502, "<html>Bad Gateway</html>"},
		"a server that restarts":      {500, `{"ok":false,"error_code":500,"description":"Internal Server Error: restart"}`},
		"JSON without ok":             {200, `{"result":[]}`},
		"an empty body":               {200, ""},
		"a result that is no list":    {200, `{"ok":true,"result":{"a":1}}`},
		"a list of what is no update": {200, `{"ok":true,"result":[{},null,7,{"update_id":-1}]}`},
		"the same update for ever":    {200, `{"ok":true,"result":[{"update_id":7,"message":{"chat":{"id":1}}}]}`},
		"empty answers at once":       {200, `{"ok":true,"result":[]}`},
		"a bad request":               {400, `{"ok":false,"error_code":400,"description":"Bad Request: oops"}`},
		"a forbidden one":             {403, `{"ok":false,"error_code":403,"description":"Forbidden: oops"}`},
		"a bot that logged out":       {400, `{"ok":false,"error_code":400,"description":"Logged out"}`},
		"a rival":                     {409, `{"ok":false,"error_code":409,"description":"Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"}`},
		"a webhook":                   {409, `{"ok":false,"error_code":409,"description":"Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"}`},
		"a setWebhook":                {409, `{"ok":false,"error_code":409,"description":"Conflict: terminated by setWebhook request"}`},
		"an unknown conflict":         {409, `{"ok":false,"error_code":409,"description":"Conflict: oops"}`},
		"a 429 that says nothing":     {429, `{"ok":false,"error_code":429,"description":"Too Many Requests"}`},
		"a 429 of a second":           {429, `{"ok":false,"error_code":429,"description":"Too Many Requests","parameters":{"retry_after":1}}`},
		"an unauthorized token":       {401, `{"ok":false,"error_code":401,"description":"Unauthorized"}`},
		"a token of no known form":    {404, `{"ok":false,"error_code":404,"description":"Not Found"}`},
	} {
		t.Run(name, func(t *testing.T) {
			var calls clock
			onFake(t, func(*http.Request, map[string]any) (int, string) {
				calls.tick()
				return answer.status, answer.body
			}, polling.Config{DeleteWebhook: true, OnChange: func(context.Context, polling.Status) {}}, func(t *testing.T, s *service, p *polling.Supervisor) {
				time.Sleep(time.Hour)
				assert.LessOrEqual(t, calls.busiest(), 61, "calls in the busiest minute")
				st, _ := p.Status("shop")
				if name != "empty answers at once" {
					assert.NotEqual(t, polling.Polling, st.State)
					assert.NotEmpty(t, st.Reason)
					assert.NotEqual(t, errors.None, st.Kind)
				}
			})
		})
	}
}

// gotgbot's Updater waits 1 s, whatever retry_after says.
func TestRetryAfterIsAFloor(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		p.Add("shop")
		synctest.Wait()
		s.srv.Fail(bottest.Fault{Method: "getUpdates", Times: 1, Do: bottest.TooManyRequests(90 * time.Minute)})
		s.ann.Write(bot, "hello") // ends the long poll that is under way
		require.Equal(t, polling.Delayed, state(t, p, "shop"))
		st, _ := p.Status("shop")
		assert.Equal(t, errors.RateLimited, st.Kind)
		assert.False(t, st.RetryAt.Before(time.Now().Add(90*time.Minute)))
		assert.True(t, st.Healthy())
		n := s.polls()
		time.Sleep(90*time.Minute - time.Second)
		assert.Equal(t, n, s.polls())
		time.Sleep(7 * time.Second)
		assert.Equal(t, n+1, s.polls()+s.session.Stats().InFlight, "and then at once")
		time.Sleep(time.Minute)
		assert.Equal(t, polling.Polling, state(t, p, "shop"))
		assert.Equal(t, 1, s.inbox.count("shop"))
	})
}

func TestUnauthorizedAndNotFoundConcernThatBotAndSaySo(t *testing.T) {
	for name, test := range map[string]struct {
		do   func(s *service, bot *bottest.Bot) (undo func())
		kind errors.Kind
	}{
		"401": {func(_ *service, b *bottest.Bot) func() { b.Revoke(); return func() { b.RotateToken() } }, errors.Unauthorized},
		"404": {func(s *service, b *bottest.Bot) func() {
			undo := s.srv.Fail(bottest.Fault{Bot: b, Method: "getUpdates", Do: bottest.Respond(404, "application/json",
				`{"ok":false,"error_code":404,"description":"Not Found"}`)})
			s.ann.Write(b, "ends the poll")
			return undo
		}, errors.InvalidToken},
	} {
		t.Run(name, func(t *testing.T) {
			virtualOver(t, bottest.Config{}, wireless, func(t *testing.T, s *service) {
				bad, good := s.register("bad"), s.register("good")
				var mu sync.Mutex
				var all []polling.Status
				p := s.supervisor(polling.Config{LeaseTTL: time.Hour, OnChange: func(_ context.Context, st polling.Status) {
					if st.State == polling.Rejected {
						mu.Lock()
						defer mu.Unlock()
						all = append(all, st)
					}
				}})
				defer stop(t, p)
				p.Add("bad", "good")
				synctest.Wait()
				undo := test.do(s, bad)
				require.Equal(t, polling.Rejected, state(t, p, "bad"))
				mu.Lock()
				told := slices.Clone(all)
				mu.Unlock()
				require.Len(t, told, 1)
				assert.Equal(t, "bad", told[0].Tenant)
				assert.Equal(t, test.kind, told[0].Kind)
				assert.NotEmpty(t, told[0].Reason)
				assert.False(t, told[0].Healthy())
				assert.False(t, told[0].RetryAt.IsZero(), "it is asked again")
				n := s.srv.CallCount("getUpdates")
				time.Sleep(24 * time.Hour)
				assert.InDelta(t, n+24*72+24*60*2/5, s.polls(), 160, "the bad one every 2 to 3 min")
				mu.Lock()
				assert.InDelta(t, s.polls()-n-24*72, len(all), 10, "and each time it is told")
				mu.Unlock()
				s.ann.Write(good, "hello")
				synctest.Wait()
				assert.Equal(t, 1, s.inbox.count("good"))

				undo()
				s.put("bad", bad.Token())
				p.Add("bad")
				assert.Equal(t, polling.Polling, state(t, p, "bad"))
			})
		})
	}
}

func TestLosingA409RaceIsNotHealthy(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		p.Add("shop")
		synctest.Wait()

		// A rival that comes back at once after each 409, as many programs do.
		ctx, cancel := context.WithCancel(bg)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				r, _ := s.store.Get(bg, "shop")
				b := s.session.Bot("rival", r.Token, gotgbot.User{})
				_, _ = b.RequestWithContext(ctx, "getUpdates", map[string]any{"timeout": int64(50)}, nil)
			}
		}()
		for range 100 {
			time.Sleep(time.Minute)
			st, _ := p.Status("shop")
			require.Equal(t, polling.Conflicting, st.State)
			require.Equal(t, errors.Conflict, st.Kind)
			require.Equal(t, "polling", st.Conflict)
			require.False(t, st.Healthy())
		}
		assert.Less(t, p.Stats().Polls, uint64(300), "both are let live")
		cancel()
		<-done
		s.ann.Write(bot, "hello")
		time.Sleep(5 * time.Minute)
		assert.Equal(t, polling.Polling, state(t, p, "shop"), "the rival is gone for long enough")
		assert.Equal(t, 1, s.inbox.count("shop"))
	})
}

func TestARaceThatIsWonDoesNotMakeABotHealthyAtOnce(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		p.Add("shop")
		synctest.Wait()
		go call(t, s, bot, "getUpdates", map[string]any{"timeout": int64(1)})
		time.Sleep(10 * time.Second)
		for range 11 { // all of these polls succeed
			s.ann.Write(bot, "hello")
			synctest.Wait()
			st, _ := p.Status("shop")
			require.Equal(t, polling.Conflicting, st.State)
			require.Equal(t, "polling", st.Conflict)
			require.True(t, time.Since(st.LastPoll) == 0)
			time.Sleep(10 * time.Second)
		}
		s.ann.Write(bot, "hello")
		assert.Equal(t, polling.Polling, state(t, p, "shop"))
		assert.Equal(t, 12, s.inbox.count("shop"))
	})
}

func TestAWebhookIsLeftUnlessItMayBeDeleted(t *testing.T) {
	for _, may := range []bool{false, true} {
		t.Run(fmt.Sprint(may), func(t *testing.T) {
			virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
				bot := s.register("shop")
				call(t, s, bot, "setWebhook", map[string]any{"url": "https://127.0.0.1:1/hook"})
				s.ann.Write(bot, "waits")
				p := s.supervisor(polling.Config{DeleteWebhook: may})
				defer stop(t, p)
				p.Add("shop")
				time.Sleep(time.Hour)
				if may {
					assert.Equal(t, polling.Polling, state(t, p, "shop"))
					assert.Equal(t, 1, s.inbox.count("shop"), "the updates that wait are kept")
					return
				}
				st, _ := p.Status("shop")
				assert.Equal(t, polling.Conflicting, st.State)
				assert.Equal(t, "webhook", st.Conflict)
				assert.Zero(t, s.srv.CallCount("deleteWebhook"))
				assert.LessOrEqual(t, s.polls(), 12)
				call(t, s, bot, "deleteWebhook", nil)
				time.Sleep(30 * time.Minute)
				assert.Equal(t, polling.Polling, state(t, p, "shop"))
				assert.Equal(t, 1, s.inbox.count("shop"))
			})
		})
	}
}

func TestPollErrorsBackOffAndASuccessResetsThat(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		p.Add("shop")
		synctest.Wait()
		for range 3 {
			require.NoError(t, s.srv.Refuse(true))
			s.ann.Write(bot, "hello") // ends the poll that is under way
			time.Sleep(10 * time.Minute)
			st, _ := p.Status("shop")
			require.Equal(t, polling.Failing, st.State)
			require.Greater(t, st.Failures, 8)
			require.Less(t, st.Failures, 20)
			require.False(t, st.Healthy())
			require.NoError(t, s.srv.Refuse(false))
			time.Sleep(91 * time.Second)
			require.Equal(t, polling.Polling, state(t, p, "shop"))
		}
		assert.Equal(t, 3, s.inbox.count("shop"))
	})
}

func TestAnUpdateIsConfirmedOnlyOnceItIsInTheInbox(t *testing.T) {
	for name, broken := range map[string]func([]inbox.Update) ([]inbox.Outcome, error, bool){
		"a broken inbox": func([]inbox.Update) ([]inbox.Outcome, error, bool) { return nil, errors.Internal, true },
		"an inbox with too few outcomes": func(b []inbox.Update) ([]inbox.Outcome, error, bool) {
			return make([]inbox.Outcome, len(b)-1), nil, true
		},
		"a full inbox": func(b []inbox.Update) ([]inbox.Outcome, error, bool) {
			out := make([]inbox.Outcome, len(b))
			for i := range out {
				out[i].Err = inbox.Full("shop", errors.ScopeTenant, time.Minute)
			}
			return out, nil, true
		},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
				bot := s.register("shop")
				var calls clock
				s.inbox.failing(func(b []inbox.Update) ([]inbox.Outcome, error, bool) {
					calls.tick()
					return broken(b)
				})
				p := s.supervisor(polling.Config{})
				defer stop(t, p)
				p.Add("shop")
				synctest.Wait()
				for i := range 7 {
					s.ann.Write(bot, fmt.Sprint(i))
				}
				time.Sleep(time.Hour)
				assert.Equal(t, 7, bot.Pending(), "nothing was confirmed")
				assert.LessOrEqual(t, calls.busiest(), 7)
				st, _ := p.Status("shop")
				if name == "a full inbox" {
					assert.Equal(t, polling.Delayed, st.State)
					assert.Equal(t, errors.Throttled, st.Kind)
				} else {
					assert.Equal(t, polling.Failing, st.State)
				}
				s.inbox.failing(nil)
				time.Sleep(2 * time.Minute)
				assert.Equal(t, 7, s.inbox.count("shop"))
				assert.Equal(t, polling.Polling, state(t, p, "shop"))
				assert.Zero(t, bot.Pending())
			})
		})
	}
}

func TestAnInboxThatIsFullHalfwayKeepsWhatItTook(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		for i := range 7 {
			s.ann.Write(bot, fmt.Sprint(i))
		}
		s.inbox.failing(func(b []inbox.Update) ([]inbox.Outcome, error, bool) {
			if len(b) == 7 {
				out, err := s.inbox.Memory.Put(bg, b[:3])
				for range b[3:] {
					out = append(out, inbox.Outcome{Err: inbox.Full("shop", errors.ScopeTenant, time.Second)})
				}
				return out, err, true
			}
			return nil, nil, false
		})
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		p.Add("shop")
		synctest.Wait()
		assert.Equal(t, 7, bot.Pending())
		time.Sleep(time.Minute)
		assert.Zero(t, bot.Pending())
		assert.Equal(t, 4, s.inbox.count("shop"), "the rest")
		assert.Zero(t, p.Stats().Duplicates, "what was taken did not come again")
		assert.EqualValues(t, 4, p.Stats().Refused)
	})
}

func TestWhatTheInboxWillNeverTakeIsPassedOver(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		s.inbox.failing(func(b []inbox.Update) ([]inbox.Outcome, error, bool) {
			out, err := s.inbox.Memory.Put(bg, b)
			out[0] = inbox.Outcome{Err: errors.BadRequest}
			return out, err, true
		})
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		p.Add("shop")
		s.ann.Write(bot, "poison")
		time.Sleep(time.Minute)
		assert.Zero(t, bot.Pending())
		assert.EqualValues(t, 1, p.Stats().Unusable)
		assert.Equal(t, polling.Polling, state(t, p, "shop"))
	})
}

// Ids start anew at random after a week of silence; an offset that is kept
// confirms then what nobody has seen.
func TestUpdateIDsThatStartAnewLowerLoseNothing(t *testing.T) {
	lower := 0
	for _, seed := range weeks() {
		virtualOver(t, bottest.Config{Seed: seed, KeepCalls: -1}, wireless, func(t *testing.T, s *service) {
			bot := s.register("shop")
			p := s.supervisor(polling.Config{LeaseTTL: time.Hour}) // whose heartbeats would be most of what happens
			defer stop(t, p)
			p.Add("shop")
			for _, wait := range []time.Duration{7*24*time.Hour + time.Minute, time.Minute} {
				s.ann.Write(bot, "hello")
				time.Sleep(time.Minute)
				s.ann.Write(bot, "again")
				time.Sleep(wait)
			}
			synctest.Wait()
			require.Len(t, s.inbox.got["shop"], 4)
			if s.inbox.got["shop"][2] < s.inbox.got["shop"][0] {
				lower++
			}
		})
	}
	require.Equal(t, 1, lower, "the seeds show it")
}

// weeks returns seeds by which ids start anew lower and higher; with the race
// detector only lower, since a week is long then.
func weeks() []uint64 {
	if raceEnabled {
		return []uint64{3}
	}
	return []uint64{3, 2}
}

// The network breaks after the update is in the inbox, and for more than a
// week, so that it can't be confirmed before ids start anew.
func TestAnOffsetThatCouldNotBeSaidForADayIsForgotten(t *testing.T) {
	for _, seed := range weeks() {
		var network cable
		way := func(srv *bottest.Server) http.RoundTripper {
			network.RoundTripper = wireless(srv)
			return &network
		}
		virtualOver(t, bottest.Config{Seed: seed, KeepCalls: -1}, way, func(t *testing.T, s *service) {
			bot := s.register("shop")
			s.inbox.failing(func([]inbox.Update) ([]inbox.Outcome, error, bool) {
				network.down.Store(true)
				return nil, nil, false
			})
			p := s.supervisor(polling.Config{LeaseTTL: time.Hour}) // whose heartbeats would be most of what happens
			defer stop(t, p)
			p.Add("shop")
			s.ann.Write(bot, "hello")
			synctest.Wait()
			require.Equal(t, 1, s.inbox.count("shop"))
			time.Sleep(8 * 24 * time.Hour)
			s.inbox.failing(nil)
			s.ann.Write(bot, "after a week")
			network.down.Store(false)
			time.Sleep(2 * time.Minute)
			require.Equal(t, 2, s.inbox.count("shop"))
		})
	}
}

func TestOnShutdownWhatWasTakenIsFinishedAndConfirmed(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		s.inbox.failing(func([]inbox.Update) ([]inbox.Outcome, error, bool) {
			time.Sleep(5 * time.Second) // a slow disk
			return nil, nil, false
		})
		p := s.supervisor(polling.Config{})
		p.Add("shop")
		synctest.Wait()
		s.ann.Write(bot, "hello")
		synctest.Wait()
		require.Zero(t, s.inbox.count("shop"), "it is being put")
		stop(t, p)
		assert.Equal(t, 1, s.inbox.count("shop"))
		assert.Zero(t, bot.Pending())
		assert.Zero(t, p.Stats().Conflicts)
	})
}

func TestOnShutdownABotThatHasNothingToConfirmIsNotCalled(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		p := s.supervisor(polling.Config{})
		p.Add("shop")
		synctest.Wait()
		s.ann.Write(bot, "hello")
		time.Sleep(time.Minute) // the poll that confirms it is answered
		n := s.polls()
		begin := time.Now()
		stop(t, p)
		synctest.Wait()
		assert.Equal(t, n+1, s.polls(), "the one that was under way")
		assert.Zero(t, time.Since(begin))
	})
}

func TestOnShutdownWhatCanNotBeFinishedIsLeftUnconfirmed(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		p, err := polling.New(s.session, s.store, hanging{}, polling.Config{})
		require.NoError(t, err)
		require.NoError(t, p.Start(bg))
		p.Add("shop")
		synctest.Wait()
		s.ann.Write(bot, "hello")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		begin := time.Now()
		require.ErrorIs(t, p.Stop(ctx), context.DeadlineExceeded)
		assert.Equal(t, time.Second, time.Since(begin))
		assert.Equal(t, 1, bot.Pending(), "it comes again")
		stop(t, p)
	})
}

// hanging is an inbox that never answers, but obeys its context.
type hanging struct{}

func (hanging) Put(ctx context.Context, _ []inbox.Update) ([]inbox.Outcome, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// gotgbot's Updater has one dispatcher with 50 slots for all bots, so that slow
// handlers of one stall the others and even the stop of another.
func TestASlowTenantStallsNeitherTheOthersNorTheirEnd(t *testing.T) {
	virtual(t, bottest.Config{Limits: bottest.NoLimits()}, func(t *testing.T, s *service) {
		slow, quick := s.register("slow"), s.register("quick")
		s.inbox.failing(func(b []inbox.Update) ([]inbox.Outcome, error, bool) {
			if b[0].Tenant == "slow" {
				time.Sleep(20 * time.Second)
			}
			return nil, nil, false
		})
		p := s.supervisor(polling.Config{})
		p.Add("slow", "quick")
		for range 500 {
			s.ann.Write(slow, "hello")
		}
		synctest.Wait()
		begin := time.Now()
		for i := range 200 {
			s.ann.Write(quick, "hello")
			synctest.Wait()
			require.Equal(t, i+1, s.inbox.count("quick"))
		}
		require.NoError(t, p.Remove(bg, "quick"))
		assert.Zero(t, time.Since(begin))
		stop(t, p)
	})
}

// gotgbot's SetAllBotWebhooks stops at the first error.
func TestOneBadTenantKeepsNoOtherFromStarting(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		p := s.supervisor(polling.Config{Starting: 1})
		defer stop(t, p)
		p.Add("nobody")
		for i := range 20 {
			id := fmt.Sprint(i)
			bot := s.register(id)
			p.Add(id)
			if i%2 == 0 {
				bot.Revoke()
			}
		}
		// One whose calls are held back for hours.
		bot := s.register("held")
		s.srv.Fail(bottest.Fault{Bot: bot, Do: bottest.TooManyRequests(5 * time.Hour)})
		p.Add("held")
		time.Sleep(10 * time.Minute)
		assert.Equal(t, map[string]int{"polling": 10, "rejected": 10, "stopped": 1, "delayed": 1}, p.Stats().Tenants)
	})
}

func TestAllowedUpdatesAreSaidOnce(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		p := s.supervisor(polling.Config{AllowedUpdates: []string{"message"}})
		defer stop(t, p)
		p.Add("shop")
		time.Sleep(5 * time.Minute)
		n := 0
		for _, c := range s.srv.Calls() {
			if _, said := c.Params["allowed_updates"]; said {
				n++
			}
		}
		assert.Equal(t, 1, n)
		s.ann.Block(bot) // a my_chat_member
		assert.Zero(t, bot.Pending())
	})
}

func TestNoStatusShowsAToken(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		s.inbox.failing(func([]inbox.Update) ([]inbox.Outcome, error, bool) {
			return nil, fmt.Errorf("can't store what %s got", bot.Token()), true
		})
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		p.Add("shop")
		s.ann.Write(bot, "hello")
		require.Equal(t, polling.Failing, state(t, p, "shop"))
		st, _ := p.Status("shop")
		assert.Contains(t, st.Reason, "can't store")
		assert.NotContains(t, st.Reason, bot.Token()[12:])
	})
}

// A process may be told to stop while it is told that a token is not accepted.
// What was to be confirmed can't be, and a refused token is not to be tried on.
func TestARefusedTokenIsNotTriedAgainAtTheEnd(t *testing.T) {
	for status, text := range map[int]string{401: "Unauthorized", 404: "Not Found"} {
		t.Run(text, func(t *testing.T) {
			calls := 0
			onFake(t, func(_ *http.Request, params map[string]any) (int, string) {
				switch calls++; calls {
				case 1:
					return 200, `{"ok":true,"result":[{"update_id":7,"message":{"chat":{"id":1}}}]}`
				case 2:
					assert.EqualValues(t, 8, params["offset"])
					time.Sleep(2 * time.Second)
				}
				return status, fmt.Sprintf(`{"ok":false,"error_code":%d,"description":%q}`, status, text)
			}, polling.Config{}, func(t *testing.T, s *service, p *polling.Supervisor) {
				time.Sleep(time.Second)
				stop(t, p)
				assert.Equal(t, 2, calls)
			})
		})
	}
}
