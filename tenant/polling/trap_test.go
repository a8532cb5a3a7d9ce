package polling_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/polling"
)

// Each way in which an answer can be other than it should be has its own name,
// is tried again in its own time, and loses nothing.
func TestWhatGoesWrongIsNamedWaitedForAndLosesNothing(t *testing.T) {
	rival := "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
	webhook := "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
	refuse := func(code int, text string) bottest.Action {
		return bottest.Respond(code, "application/json", fmt.Sprintf(`{"ok":false,"error_code":%d,"description":%q}`, code, text))
	}
	for name, test := range map[string]struct {
		do       bottest.Action
		state    polling.State
		kind     errors.Kind
		conflict string
		// How long it is waited for, at least; half as much again and 5 s at most.
		wait time.Duration
		// after is when it is known that the call failed.
		after   time.Duration
		healthy bool
	}{
		"409: a rival":                 {refuse(409, rival), polling.Conflicting, errors.Conflict, "polling", 5 * time.Second, 0, false},
		"409: a webhook":               {refuse(409, webhook), polling.Conflicting, errors.Conflict, "webhook", 30 * time.Second, 0, false},
		"409: a setWebhook":            {refuse(409, "Conflict: terminated by setWebhook request"), polling.Conflicting, errors.Conflict, "set_webhook", 5 * time.Second, 0, false},
		"429: hours":                   {bottest.TooManyRequests(7 * time.Hour), polling.Delayed, errors.RateLimited, "", 7 * time.Hour, 0, true},
		"500: restart":                 {bottest.Restart500(), polling.Failing, errors.Unavailable, "", time.Second, 0, false},
		"502: HTML":                    {bottest.HTML502(), polling.Failing, errors.Unavailable, "", time.Second, 0, false},
		"401: HTML":                    {bottest.Respond(401, "text/html", "<html>"), polling.Failing, errors.BadReply, "", time.Second, 0, false},
		"404: HTML":                    {bottest.Respond(404, "text/html", "<html>"), polling.Failing, errors.BadReply, "", time.Second, 0, false},
		"200: JSON without ok":         {bottest.NoOK(), polling.Failing, errors.BadReply, "", time.Second, 0, false},
		"200: empty":                   {bottest.EmptyBody(), polling.Failing, errors.BadReply, "", time.Second, 0, false},
		"200: no list":                 {bottest.Respond(200, "application/json", `{"ok":true,"result":{"a":[]}}`), polling.Failing, errors.BadReply, "", time.Second, 0, false},
		"an answer that is cut":        {bottest.CutJSON(), polling.Failing, errors.ConnectionFailed, "", time.Second, 0, false},
		"a reset before the call":      {bottest.ResetBefore(), polling.Failing, errors.ConnectionFailed, "", time.Second, 0, false},
		"a reset after the call":       {bottest.ResetAfter(), polling.Failing, errors.ConnectionFailed, "", time.Second, 0, false},
		"a poll that hangs":            {bottest.Hang(), polling.Failing, errors.Timeout, "", time.Second, time.Minute, false},
		"a poll that hangs at its end": {bottest.HangAfter(), polling.Failing, errors.Timeout, "", time.Second, time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
				bot := s.register("shop")
				p := s.supervisor(polling.Config{})
				defer stop(t, p)
				p.Add("shop")
				time.Sleep(10 * time.Second)
				s.srv.Fail(bottest.Fault{Method: "getUpdates", Times: 1, Do: test.do})
				s.ann.Write(bot, "one") // by the poll that is under way; the next one fails
				synctest.Wait()
				s.ann.Write(bot, "two")
				time.Sleep(test.after)
				require.Equal(t, test.state, state(t, p, "shop"))
				st, _ := p.Status("shop")
				assert.Equal(t, test.kind, st.Kind)
				assert.Equal(t, test.conflict, st.Conflict)
				assert.Equal(t, test.healthy, st.Healthy())
				assert.NotEmpty(t, st.Reason)
				wait := time.Until(st.RetryAt)
				assert.GreaterOrEqual(t, wait, test.wait)
				assert.LessOrEqual(t, wait, test.wait+min(test.wait/2, 15*time.Second)+1)

				n := s.polls()
				time.Sleep(wait - 1)
				assert.Equal(t, n, s.polls(), "not before")
				time.Sleep(4 * time.Second) // Telegram delays who asks for the same offset again
				synctest.Wait()
				require.Equal(t, 2, s.inbox.count("shop"))
				time.Sleep(3 * time.Minute)
				assert.Equal(t, polling.Polling, state(t, p, "shop"))
				assert.Zero(t, bot.Pending())
				st, _ = p.Status("shop")
				assert.Equal(t, errors.None, st.Kind)
				assert.Empty(t, st.Reason+st.Conflict)
				assert.Zero(t, st.Failures)
			})
		})
	}
}

// list is a Telegram that has updates, and knows which were confirmed.
type list struct {
	mu      sync.Mutex
	updates []string
	ids     []int64 // 0 where the update has none
	polls   clock
}

func (l *list) add(id int64, raw string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.updates, l.ids = append(l.updates, raw), append(l.ids, id)
}

func (l *list) good(id int64) {
	l.add(id, fmt.Sprintf(`{"update_id":%d,"message":{"chat":{"id":1}}}`, id))
}

func (l *list) left() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.updates)
}

func (l *list) answer(r *http.Request, params map[string]any) (int, string) {
	offset, _ := params["offset"].(float64)
	limit := int(params["limit"].(float64))
	l.polls.tick()
	l.mu.Lock()
	confirmed := 0
	for i, id := range l.ids {
		if id != 0 && id < int64(offset) {
			confirmed = i + 1 // and what has no id before it
		}
	}
	l.updates, l.ids = l.updates[confirmed:], l.ids[confirmed:]
	body := `{"ok":true,"result":[` + strings.Join(l.updates[:min(len(l.updates), limit)], ",") + `]}`
	l.mu.Unlock()
	if wait, _ := params["timeout"].(float64); body == `{"ok":true,"result":[]}` {
		timer := time.NewTimer(time.Duration(wait) * time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return 0, "gone"
		}
	}
	return 200, body
}

func TestAnUpdateThatCanNotBeParsedHoldsUpNoOther(t *testing.T) {
	deep := func(id int64) string { // is JSON, and more than is read
		return fmt.Sprintf(`{"update_id":%d,"message":%s1%s}`, id, strings.Repeat(`{"a":`, 600), strings.Repeat(`}`, 600))
	}
	for name, test := range map[string]struct {
		fill      func(l *list)
		got, left int
		unusable  int
	}{
		"in the middle": {func(l *list) { l.good(1); l.add(2, deep(2)); l.good(3) }, 2, 0, 1},
		"first":         {func(l *list) { l.add(1, deep(1)); l.good(2) }, 1, 0, 1},
		"last":          {func(l *list) { l.good(1); l.add(2, deep(2)) }, 1, 0, 1},
		"the only one":  {func(l *list) { l.add(1, deep(1)) }, 0, 0, 1},
		"more than a batch of them": {func(l *list) {
			for id := range int64(250) {
				l.add(id+1, deep(id+1))
			}
			l.good(251)
		}, 1, 0, 250},
		"without an id, in the middle": {func(l *list) { l.good(1); l.add(0, `{"a":{}}`); l.add(0, `7`); l.good(3) }, 2, 0, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l list
				test.fill(&l)
				var log lines
				srv := bottest.New(bottest.Config{})
				defer srv.Close()
				s := newService(t, srv, fake(l.answer))
				defer s.close()
				s.register("shop")
				p := s.supervisor(polling.Config{Logger: log.logger()})
				defer stop(t, p)
				p.Add("shop")
				time.Sleep(20 * time.Second)
				assert.Equal(t, test.got, s.inbox.count("shop"))
				assert.Equal(t, test.left, l.left(), "all are confirmed")
				assert.EqualValues(t, test.unusable, p.Stats().Unusable, "and it is said")
				assert.Equal(t, test.unusable, log.count("update can't be put into the inbox and is passed over"))
				assert.Equal(t, polling.Polling, state(t, p, "shop"))
			})
		})
	}
	t.Run("without an id, at the end", func(t *testing.T) {
		l := new(list)
		l.good(1)
		l.add(0, `{}`)
		onFake(t, l.answer, polling.Config{},
			func(t *testing.T, s *service, p *polling.Supervisor) {
				time.Sleep(10 * time.Minute)
				assert.Equal(t, 1, s.inbox.count("shop"))
				assert.Equal(t, polling.Failing, state(t, p, "shop"), "it can't be confirmed, and it is said")
				assert.LessOrEqual(t, l.polls.busiest(), 8)
				l.good(3)
				time.Sleep(91 * time.Second)
				assert.Equal(t, 2, s.inbox.count("shop"))
				assert.Equal(t, polling.Polling, state(t, p, "shop"))
			})
	})
}

// An inbox that is broken in the middle of a batch says so of single updates.
// These are not what it will never take.
func TestAnInboxThatBreaksHalfwayLosesNothing(t *testing.T) {
	for name, broken := range map[string]error{
		"the store is away": errors.StoreUnavailable, "it takes too long": errors.Timeout, "nobody knows why": errors.New("oops"),
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
				bot := s.register("shop")
				for i := range 7 {
					s.ann.Write(bot, fmt.Sprint(i))
				}
				s.inbox.failing(func(b []inbox.Update) ([]inbox.Outcome, error, bool) {
					out := make([]inbox.Outcome, len(b))
					for i, u := range b {
						if u.ID%7 == b[0].ID%7 && len(b) == 7 {
							o, err := s.inbox.Memory.Put(bg, b[i:i+1])
							assert.NoError(t, err)
							s.inbox.note(b[i : i+1])
							out[i] = o[0]
						} else {
							out[i].Err = broken
						}
					}
					return out, nil, true
				})
				p := s.supervisor(polling.Config{})
				defer stop(t, p)
				p.Add("shop")
				time.Sleep(10 * time.Minute)
				assert.Equal(t, polling.Failing, state(t, p, "shop"))
				assert.Equal(t, 6, bot.Pending(), "what it took is confirmed, and no more")
				assert.Zero(t, p.Stats().Unusable)
				s.inbox.failing(nil)
				time.Sleep(91 * time.Second)
				assert.Equal(t, 7, s.inbox.count("shop"))
				assert.Zero(t, bot.Pending())
				synctest.Wait()
				assert.IsIncreasing(t, s.inbox.got["shop"])
			})
		})
	}
}

// A session takes answers up to a bound. Those of many updates may be larger.
func TestAnAnswerThatIsTooLargeIsAskedForInParts(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		defer s.session.Close(bg)
		var err error
		s.session, err = session.New(session.Config{Transport: s.srv.Transport(), MaxReplyBytes: 16 << 10})
		require.NoError(t, err)
		bot := s.register("shop")
		for range 100 {
			s.ann.Write(bot, strings.Repeat("a", 3000))
		}
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		p.Add("shop")
		time.Sleep(10 * time.Minute)
		assert.Equal(t, 100, s.inbox.count("shop"))
		assert.Zero(t, bot.Pending())
		assert.Equal(t, polling.Polling, state(t, p, "shop"))
	})
}

// The session cuts an answer to what was asked for. The rest is not confirmed.
func TestAServerThatIgnoresTheLimitLosesNoUpdate(t *testing.T) {
	const n = 250
	var l list
	for id := range int64(n) {
		l.good(id + 1)
	}
	generous := func(r *http.Request, params map[string]any) (int, string) {
		params["limit"] = float64(n)
		return l.answer(r, params)
	}
	onFake(t, generous, polling.Config{Batch: 40}, func(t *testing.T, s *service, p *polling.Supervisor) {
		time.Sleep(20 * time.Second)
		synctest.Wait()
		assert.Equal(t, n, s.inbox.count("shop"))
		assert.IsIncreasing(t, s.inbox.got["shop"])
		assert.Zero(t, l.left())
		assert.EqualValues(t, n, p.Stats().Received)
		assert.Zero(t, p.Stats().Duplicates)
		assert.Equal(t, polling.Polling, state(t, p, "shop"))
	})
}

// What Telegram says is a floor, whoever asks for another try.
func TestNobodyHasABotTriedBeforeTelegramSaid(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		p := s.supervisor(polling.Config{Watch: s.store.Watch})
		defer stop(t, p)
		p.Add("shop")
		time.Sleep(10 * time.Second)
		s.srv.Fail(bottest.Fault{Method: "getUpdates", Times: 1, Do: bottest.TooManyRequests(3 * time.Hour)})
		s.ann.Write(bot, "one")
		require.Equal(t, polling.Delayed, state(t, p, "shop"))
		n := s.polls()
		for i := range 60 {
			switch i % 3 {
			case 0:
				s.change("shop", "", i)
			case 1:
				p.Refresh("shop")
			case 2:
				require.NoError(t, p.Remove(bg, "shop"))
				p.Add("shop")
			}
			time.Sleep(time.Minute)
			require.Equal(t, polling.Delayed, state(t, p, "shop"))
			st, _ := p.Status("shop")
			require.Equal(t, errors.RateLimited, st.Kind)
			require.NotEmpty(t, st.Reason)
		}
		require.Equal(t, n, s.polls())
		_, err := s.manager.Suspend(bg, "shop", "unpaid") // which is not waited for
		require.NoError(t, err)
		require.Equal(t, polling.Stopped, state(t, p, "shop"))
		_, err = s.manager.Resume(bg, "shop")
		require.NoError(t, err)
		require.Equal(t, polling.Delayed, state(t, p, "shop"))
		s.put("shop", bot.RotateToken()) // of which Telegram has said nothing
		time.Sleep(4 * time.Second)
		assert.Equal(t, polling.Polling, state(t, p, "shop"))
		assert.Equal(t, 1, s.inbox.count("shop"))
	})
}

// Bots that failed together must not come back together.
func TestBotsThatFailedTogetherDoNotComeBackTogether(t *testing.T) {
	for name, do := range map[string]bottest.Action{
		"a server that restarts": bottest.Restart500(), "a limit": bottest.TooManyRequests(time.Minute), "a rival": bottest.Conflict409(),
	} {
		t.Run(name, func(t *testing.T) {
			virtualOver(t, bottest.Config{Limits: bottest.NoLimits()}, wireless, func(t *testing.T, s *service) {
				p := s.supervisor(polling.Config{Starting: 200})
				defer stop(t, p)
				for i := range 100 {
					s.register(fmt.Sprint(i))
					p.Add(fmt.Sprint(i))
				}
				time.Sleep(10 * time.Second)
				undo := s.srv.Fail(bottest.Fault{Method: "getUpdates", Do: do})
				for i := range 100 {
					s.ann.Write(s.bot(fmt.Sprint(i)), "hello")
				}
				synctest.Wait()
				undo()
				at := make(map[time.Duration]int)
				for _, st := range p.Statuses() {
					at[time.Until(st.RetryAt).Truncate(50*time.Millisecond)]++
				}
				for when, n := range at {
					assert.Less(t, n, 40, "after %v", when)
				}
				time.Sleep(5 * time.Minute)
				assert.Equal(t, 100, p.Stats().Tenants["polling"])
			})
		})
	}
}

// A tenant may be registered anew with another bot, whose updates have ids of
// their own.
func TestTheOffsetOfABotIsNotToldOfAnother(t *testing.T) {
	var high, low bool
	for seed := range uint64(8) {
		virtual(t, bottest.Config{Seed: seed + 1}, func(t *testing.T, s *service) {
			bot := s.register("shop")
			p := s.supervisor(polling.Config{})
			defer stop(t, p)
			p.Add("shop")
			synctest.Wait()
			s.ann.Write(bot, "hello")
			time.Sleep(time.Second) // the poll that confirms it is under way
			other := s.srv.NewBot("other_bot")
			s.ann.Write(other, "one")
			s.ann.Write(other, "two")
			s.put("shop", other.Token())
			p.Refresh("shop")
			time.Sleep(5 * time.Second)
			s.ann.Write(other, "three")
			synctest.Wait()
			require.Equal(t, 4, s.inbox.count("shop"))
			got := s.inbox.got["shop"]
			high, low = high || got[1] > got[0], low || got[1] < got[0]
		})
	}
	require.True(t, high && low, "the seeds show it")
}

func TestATokenThatIsRefusedWhileTheStoreIsAwayDoesNotStopTheBot(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		r := &readings{Store: s.store, reads: make(map[string]int)}
		p, err := polling.New(s.session, r, s.inbox, polling.Config{})
		require.NoError(t, err)
		require.NoError(t, p.Start(bg))
		defer stop(t, p)
		bot := s.register("shop")
		p.Add("shop")
		synctest.Wait()
		r.failing(func(string) error { return errors.StoreUnavailable })
		s.put("shop", bot.RotateToken())
		synctest.Wait()
		require.Equal(t, polling.Failing, state(t, p, "shop"), "there may be another token by now")
		r.failing(nil)
		time.Sleep(2 * time.Second)
		s.ann.Write(bot, "hello")
		assert.Equal(t, polling.Polling, state(t, p, "shop"))
		assert.Equal(t, 1, s.inbox.count("shop"))
	})
}

// slowly has the inbox take d for each batch, and says when it begins.
func slowly(s *service, d time.Duration) (begun chan struct{}) {
	begun = make(chan struct{}, 10)
	s.inbox.failing(func([]inbox.Update) ([]inbox.Outcome, error, bool) {
		begun <- struct{}{}
		time.Sleep(d)
		return nil, nil, false
	})
	return begun
}

// What another process polls by then is not for this one to confirm.
func TestALeaseThatIsLostWhileUpdatesArePutLosesAndConfirmsNothing(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		leases := polling.NewMemoryLeases()
		bot := s.register("shop")
		n := &network{Leases: leases}
		p := s.supervisor(polling.Config{Leases: n, Owner: "a"})
		defer stop(t, p)
		p.Add("shop")
		time.Sleep(time.Minute)
		begun := slowly(s, 20*time.Second)
		s.ann.Write(bot, "hello")
		<-begun
		require.NoError(t, leases.Release(bg, "a", []string{"shop"}))
		_, err := leases.Acquire(bg, "b", []string{"shop"}, time.Hour)
		require.NoError(t, err)
		polls := s.polls()
		time.Sleep(25 * time.Second)
		assert.Equal(t, 1, s.inbox.count("shop"), "what was begun is finished")
		assert.Equal(t, 1, bot.Pending(), "and is the other's to confirm")
		assert.Equal(t, polls, s.polls())
		assert.Equal(t, polling.Standby, state(t, p, "shop"))
		assert.EqualValues(t, 1, p.Stats().Lost)

		// The other gets it too, and the inbox knows it.
		s.inbox.failing(nil)
		require.NoError(t, leases.Release(bg, "b", []string{"shop"}))
		q := s.supervisor(polling.Config{Leases: leases, Owner: "b"})
		defer stop(t, q)
		q.Add("shop")
		time.Sleep(10 * time.Second)
		assert.Equal(t, 1, s.inbox.count("shop"))
		assert.Zero(t, bot.Pending())
	})
}

// Tenants that are removed, suspended or handed to a webhook while their
// updates are put are waited for where somebody waits, and are confirmed.
func TestATenantThatGoesWhileItsUpdatesArePutIsFinished(t *testing.T) {
	for name, test := range map[string]struct {
		do    func(t *testing.T, s *service, p *polling.Supervisor)
		waits bool
	}{
		"it is removed": {func(t *testing.T, s *service, p *polling.Supervisor) { assert.NoError(t, p.Remove(bg, "shop")) }, true},
		"it gets a webhook": {func(t *testing.T, s *service, p *polling.Supervisor) {
			bot := s.bot("shop")
			assert.NoError(t, p.HandOver(bg, "shop", func(context.Context) error {
				assert.Zero(t, bot.Pending(), "what was taken was confirmed before")
				assert.Equal(t, 1, s.inbox.count("shop"))
				call(t, s, bot, "setWebhook", map[string]any{"url": "https://example.com/hook"})
				return nil
			}))
			assert.Zero(t, p.Stats().Conflicts)
		}, true},
		"all is stopped": {func(t *testing.T, s *service, p *polling.Supervisor) { stop(t, p) }, true},
		"its record says webhook": {func(t *testing.T, s *service, p *polling.Supervisor) {
			s.change("shop", "yes", 1)
		}, false},
		"it is suspended": {func(t *testing.T, s *service, p *polling.Supervisor) {
			_, err := s.manager.Suspend(bg, "shop", "unpaid")
			assert.NoError(t, err)
		}, false},
		"its token is another": {func(t *testing.T, s *service, p *polling.Supervisor) {
			s.put("shop", s.bot("shop").RotateToken())
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
				bot := s.register("shop")
				p := s.supervisor(polling.Config{Watch: s.store.Watch, Wants: unhooked})
				defer stop(t, p)
				p.Add("shop")
				time.Sleep(time.Minute)
				begun := slowly(s, 10*time.Second)
				s.ann.Write(bot, "hello")
				<-begun
				start := time.Now()
				test.do(t, s, p)
				if test.waits {
					assert.GreaterOrEqual(t, time.Since(start), 10*time.Second)
				}
				time.Sleep(15 * time.Second)
				assert.Equal(t, 1, s.inbox.count("shop"))
				if name != "it is suspended" { // nobody may use the bot
					assert.Zero(t, bot.Pending())
				}
				assert.Zero(t, p.Stats().Conflicts)
			})
		})
	}
}

// A webhook that somebody else sets ends the poll that is under way.
func TestAWebhookThatIsSetWhilePollingIsNamed(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		bot := s.register("shop")
		p := s.supervisor(polling.Config{})
		defer stop(t, p)
		p.Add("shop")
		time.Sleep(10 * time.Second)
		call(t, s, bot, "setWebhook", map[string]any{"url": "https://example.com/hook"})
		synctest.Wait()
		st, _ := p.Status("shop")
		assert.Equal(t, polling.Conflicting, st.State)
		assert.Equal(t, "set_webhook", st.Conflict)
		time.Sleep(30 * time.Second)
		st, _ = p.Status("shop")
		assert.Equal(t, "webhook", st.Conflict)
		call(t, s, bot, "deleteWebhook", nil)
		s.ann.Write(bot, "hello")
		time.Sleep(10 * time.Minute)
		assert.Equal(t, polling.Polling, state(t, p, "shop"))
		assert.Equal(t, 1, s.inbox.count("shop"))
	})
}

// What panics in the last call of a loop, such as a middleware, must not end
// the process.
func TestAPanicInTheLastCallHarmsNobody(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, s *service) {
		defer s.session.Close(bg)
		panicked := 0
		panics := func(next session.Invoker) session.Invoker {
			return session.InvokerFunc(func(ctx context.Context, c *session.Call) (json.RawMessage, error) {
				if c.Params["limit"] == int64(1) {
					panicked++
					panic("oops")
				}
				return next.Invoke(ctx, c)
			})
		}
		var err error
		s.session, err = session.New(session.Config{Transport: s.srv.Transport(), Middleware: []session.Middleware{panics}})
		require.NoError(t, err)
		bot := s.register("shop")
		p := s.supervisor(polling.Config{})
		p.Add("shop")
		synctest.Wait()
		s.ann.Write(bot, "hello")
		time.Sleep(time.Second)
		stop(t, p)
		assert.Equal(t, 1, s.inbox.count("shop"))
		assert.Equal(t, 1, panicked)
	})
}
