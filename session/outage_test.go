package session_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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

// platform answers every call after a moment, but while it is down.
type platform struct {
	down atomic.Pointer[func(*http.Request) (*http.Response, error)]
	// attempts are those of the time that it was down.
	attempts atomic.Int64
}

func (p *platform) RoundTrip(r *http.Request) (*http.Response, error) {
	if fail := p.down.Load(); fail != nil {
		p.attempts.Add(1)
		return (*fail)(r)
	}
	select {
	case <-time.After(20*time.Millisecond + rand.N(60*time.Millisecond)):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	return answer(r, 200, `{"ok":true,"result":{"message_id":1,"date":1,"chat":{"id":1,"type":"private"}}}`), nil
}

// An outage of ten minutes, felt by a thousand tenants.
func TestAnOutageOfThePlatformIsNotChargedToTheTenants(t *testing.T) {
	for name, fail := range map[string]func(*http.Request) (*http.Response, error){
		"502": func(r *http.Request) (*http.Response, error) {
			return answer(r, 502, "<html>Bad Gateway</html>"), nil
		},
		"refused": refuse,
		"hangs":   hangs,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tenants, length := 1000, 10*time.Minute
				if session.RaceEnabled {
					tenants, length = 300, 4*time.Minute
				}
				p := &platform{}
				var blamed, openings atomic.Int64
				var opened, closed atomic.Pointer[time.Time]
				s, g := guarded(t, p, session.GuardConfig{
					Break: session.BreakerConfig{
						OnTenant: func(string, breaker.Change) { blamed.Add(1) },
						OnPlatform: func(c breaker.Change) {
							now := time.Now()
							switch c.To {
							case breaker.Open:
								openings.Add(1)
								opened.CompareAndSwap(nil, &now)
							case breaker.Closed:
								closed.Store(&now)
							}
						},
					},
				})
				ctx, cancel := context.WithCancel(context.Background())
				var all sync.WaitGroup
				var calls atomic.Int64
				recovered := make([]atomic.Int64, tenants) // when, since the end of the outage
				var end atomic.Int64
				begin := time.Now()
				for i := range tenants {
					bot := s.Bot(fmt.Sprint(i), mustToken(t, fmt.Sprintf("%d:secret", i+1)), gotgbot.User{})
					all.Go(func() {
						for n := 0; ctx.Err() == nil; n++ {
							select {
							case <-time.After(rand.N(20 * time.Second)):
							case <-ctx.Done():
								return
							}
							calls.Add(1)
							_, err := bot.SendMessageWithContext(ctx, int64(1+n%3), "hello", nil)
							if at := end.Load(); err == nil && at > 0 {
								recovered[i].CompareAndSwap(0, int64(time.Since(begin))-at)
							}
						}
					})
				}
				time.Sleep(time.Minute)
				assert.Equal(t, breaker.Closed, g.Stats(0).Platform.State)
				p.down.Store(&fail)
				down := time.Now()
				calls.Store(0)
				time.Sleep(length)
				p.down.Store(nil)
				attempts, called := p.attempts.Load(), calls.Load()
				end.Store(int64(time.Since(begin)))
				up := time.Now()
				time.Sleep(time.Minute + 20*time.Second)
				cancel()
				all.Wait()
				if assert.NotNil(t, opened.Load()) {
					t.Logf("%d calls, %d attempts, opened after %v, closed %v after the end, opened %d times",
						called, attempts, opened.Load().Sub(down), closed.Load().Sub(up), openings.Load())
					assert.LessOrEqual(t, opened.Load().Sub(down), 10*time.Second)
				}
				assert.LessOrEqual(t, float64(attempts), 1.2*float64(called))
				assert.Zero(t, blamed.Load(), "changes of tenants' breakers")
				assert.Equal(t, breaker.Closed, g.Stats(0).Platform.State)
				assert.LessOrEqual(t, closed.Load().Sub(up), 33*time.Second+time.Second, "one open period, jitter included")
				for i := range recovered {
					assert.NotZero(t, recovered[i].Load(), "tenant %d", i)
				}
			})
		})
	}
}

func TestOneBotThatFailsIsNotChargedToThePlatform(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/bot1:secret/getMe" {
				return answer(r, 500, `{"ok":false,"error_code":500,"description":"Internal Server Error"}`), nil
			}
			return answer(r, 200, `{"ok":true,"result":{"id":2,"is_bot":true}}`), nil
		})
		s, g := guarded(t, p, session.GuardConfig{})
		bad := s.Bot("bad", mustToken(t, "1:secret"), gotgbot.User{})
		good := s.Bot("good", mustToken(t, "2:secret"), gotgbot.User{})
		for range 30 {
			_, err := bad.GetMe(nil)
			assert.Error(t, err)
			_, err = good.GetMe(nil)
			assert.NoError(t, err)
			time.Sleep(time.Second)
		}
		assert.Equal(t, breaker.Closed, g.Stats(0).Platform.State)
		assert.NotEqual(t, breaker.Closed, g.Breaker("bad").State)
		assert.Equal(t, breaker.Closed, g.Breaker("good").State)
		_, err := bad.GetMe(nil)
		assert.Equal(t, errors.BreakerOpen, errors.KindOf(err))
		assert.NotZero(t, errors.RetryAfter(err))
		var e *errors.Error
		assert.ErrorAs(t, err, &e)
		assert.Equal(t, errors.ScopeTenant, e.Scope)
	})
}

// fleetOf lets n bots send until the test ends: the first busy of them every
// second, the others every half a minute.
type fleetOf struct {
	guard   *session.Guard
	sent    atomic.Int64
	refused atomic.Int64
	last    []atomic.Int64 // when each succeeded last, since the start
	begin   time.Time
}

func newFleetOf(t *testing.T, ctx context.Context, n, busy int, transport http.RoundTripper, each time.Duration) *fleetOf {
	s, g := guarded(t, transport, session.GuardConfig{})
	f := &fleetOf{guard: g, last: make([]atomic.Int64, n), begin: time.Now()}
	var all sync.WaitGroup
	t.Cleanup(all.Wait)
	for i := range n {
		bot := s.Bot(fmt.Sprint(i), mustToken(t, fmt.Sprintf("%d:secret", i+1)), gotgbot.User{})
		every := 30 * time.Second
		if i < busy {
			every = time.Second
		}
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-time.After(rand.N(2 * every)):
				case <-ctx.Done():
					return
				}
				ctx, cancel := context.WithTimeout(ctx, each)
				_, err := bot.SendMessageWithContext(ctx, int64(1+n%100), "hello", nil)
				cancel()
				switch {
				case err == nil:
					f.sent.Add(1)
					f.last[i].Store(int64(time.Since(f.begin)))
				case errors.Is(err, errors.BreakerOpen):
					f.refused.Add(1)
				}
			}
		})
	}
	return f
}

func refuse(*http.Request) (*http.Response, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
}

func hangs(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestSmallFleetsRecoverFromAnOutageAsSoon(t *testing.T) {
	for _, test := range []struct{ bots, busy int }{{1, 1}, {2, 2}, {2, 1}, {5, 1}, {20, 1}, {20, 20}} {
		t.Run(fmt.Sprintf("%d of which %d are busy", test.bots, test.busy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				p := new(platform)
				f := newFleetOf(t, ctx, test.bots, test.busy, p, time.Minute)
				defer cancel()
				time.Sleep(2 * time.Minute)
				down := refuse
				p.down.Store(&down)
				time.Sleep(10 * time.Minute)
				p.down.Store(nil)
				end := time.Since(f.begin)
				// An open period of a bot's breaker, and two calls to probe it.
				time.Sleep(66*time.Second + 2*time.Second)
				for i := range test.busy {
					assert.Greater(t, f.last[i].Load(), int64(end), "bot %d", i)
				}
				cancel()
			})
		})
	}
}

func TestAFewBadBotsDoNotCloseThePlatformForTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := new(platform)
		f := newFleetOf(t, ctx, 5, 2, roundTrip(func(r *http.Request) (*http.Response, error) {
			if strings.HasPrefix(r.URL.Path, "/bot1:") || strings.HasPrefix(r.URL.Path, "/bot2:") {
				return refuse(r)
			}
			return p.RoundTrip(r)
		}), time.Minute)
		defer cancel()
		time.Sleep(time.Hour)
		assert.Zero(t, f.guard.Stats(0).Platform.Openings)
		assert.Equal(t, breaker.Closed, f.guard.Stats(0).Platform.State)
		assert.NotEqual(t, breaker.Closed, f.guard.Breaker("0").State)
		cancel()
	})
}

// Who begins decides nothing: the bad ones may be all that are known.
func TestBadBotsThatBeginDoNotKeepThePlatformClosedForTheOthers(t *testing.T) {
	for _, bad := range []int{1, 2, 3, 20} {
		t.Run(fmt.Sprint(bad), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, g := guarded(t, roundTrip(func(r *http.Request) (*http.Response, error) {
					if strings.HasPrefix(r.URL.Path, "/bot1:") {
						return answer(r, 200, `{"ok":true,"result":{"id":1,"is_bot":true}}`), nil
					}
					return refuse(r)
				}), session.GuardConfig{})
				ctx, cancel := context.WithCancel(t.Context())
				var all sync.WaitGroup
				for i := range bad {
					bot := s.Bot(fmt.Sprint("bad", i), mustToken(t, fmt.Sprintf("%d:secret", i+2)), gotgbot.User{})
					all.Go(func() {
						for ctx.Err() == nil {
							_, _ = bot.GetMeWithContext(ctx, nil)
							time.Sleep(200 * time.Millisecond)
						}
					})
				}
				time.Sleep(5 * time.Minute)
				good := s.Bot("good", mustToken(t, "1:secret"), gotgbot.User{})
				failed := 0
				for range 120 {
					time.Sleep(30 * time.Second)
					if _, err := good.GetMeWithContext(ctx, nil); err != nil {
						failed++
					}
				}
				t.Logf("%d of 120 calls failed", failed)
				assert.Less(t, failed, 5)
				if bad < 3 { // which may be the platform after all
					assert.Equal(t, breaker.Closed, g.Stats(0).Platform.State)
				}
				cancel()
				all.Wait()
			})
		})
	}
}

func TestCallersThatDoNotWaitLongSeeThatThePlatformHangs(t *testing.T) {
	for _, each := range []time.Duration{3 * time.Second, 5 * time.Second, 10 * time.Second} {
		t.Run(each.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				p := new(platform)
				f := newFleetOf(t, ctx, 100, 50, p, each)
				defer cancel()
				time.Sleep(time.Minute)
				down := hangs
				p.down.Store(&down)
				time.Sleep(12 * time.Second)
				assert.NotEqual(t, breaker.Closed, f.guard.Stats(0).Platform.State)
				time.Sleep(10 * time.Minute)
				t.Logf("%d attempts, %d calls refused", p.attempts.Load(), f.refused.Load())
				assert.Less(t, p.attempts.Load(), f.refused.Load()/20)
				cancel()
			})
		})
	}
}

func TestAFleetThatPollsRecoversFromAnOutageAsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := new(platform)
		polled := roundTrip(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/getUpdates") && p.down.Load() == nil {
				select {
				case <-time.After(20 * time.Second):
					return answer(r, 200, `{"ok":true,"result":[]}`), nil
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
			}
			return p.RoundTrip(r)
		})
		s, g := guarded(t, polled, session.GuardConfig{})
		var all sync.WaitGroup
		defer all.Wait()
		defer cancel()
		var polls atomic.Int64
		for i := range 200 {
			bot := s.Bot(fmt.Sprint(i), mustToken(t, fmt.Sprintf("%d:secret", i+1)), gotgbot.User{})
			all.Go(func() {
				for ctx.Err() == nil {
					_, err := bot.GetUpdatesWithContext(ctx, &gotgbot.GetUpdatesOpts{Timeout: 20})
					if err == nil {
						polls.Add(1)
						continue
					}
					select {
					case <-time.After(max(errors.RetryAfter(err), time.Second)):
					case <-ctx.Done():
					}
				}
			})
		}
		time.Sleep(3 * time.Minute)
		require.Equal(t, breaker.Closed, g.Stats(0).Platform.State)
		down := refuse
		p.down.Store(&down)
		time.Sleep(10 * time.Minute)
		t.Logf("%d attempts in ten minutes", p.attempts.Load())
		assert.Less(t, p.attempts.Load(), int64(600))
		p.down.Store(nil)
		polls.Store(0)
		time.Sleep(34 * time.Second)
		assert.Equal(t, breaker.Closed, g.Stats(0).Platform.State)
		time.Sleep(25 * time.Second)
		assert.Greater(t, polls.Load(), int64(150))
	})
}

func TestARetryAfterOfADayIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var over atomic.Bool
		s, g := guarded(t, roundTrip(func(r *http.Request) (*http.Response, error) {
			if over.Load() {
				return answer(r, 200, `{"ok":true,"result":{"id":1,"is_bot":true}}`), nil
			}
			resp := answer(r, 503, "busy")
			resp.Header.Set("Retry-After", "86400")
			return resp, nil
		}), session.GuardConfig{})
		for i := range 30 {
			bot := s.Bot(fmt.Sprint(i), mustToken(t, fmt.Sprintf("%d:secret", i+1)), gotgbot.User{})
			_, _ = bot.GetMe(nil)
		}
		assert.Equal(t, breaker.Open, g.Stats(0).Platform.State)
		time.Sleep(34 * time.Second)
		bot := s.Bot("0", mustToken(t, "1:secret"), gotgbot.User{})
		over.Store(true)
		_, err := bot.GetMe(nil)
		assert.NoError(t, err)
	})
}
