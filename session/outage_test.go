package session_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/tgfleet/tgfleet/breaker"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// platform answers every call after a moment, but while it is down.
type platform struct {
	down atomic.Pointer[func(*http.Request) (*http.Response, error)]
	// attempts are those of the time that it was down.
	attempts atomic.Int64
	answered sync.Map // the bots that it has answered since: path prefix
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
		"refused": func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		},
		"hangs": func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const tenants, length = 1000, 10 * time.Minute
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
				assert.Equal(t, breaker.Closed, g.Breakers.Platform().State)
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
				assert.Equal(t, breaker.Closed, g.Breakers.Platform().State)
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
		assert.Equal(t, breaker.Closed, g.Breakers.Platform().State)
		assert.NotEqual(t, breaker.Closed, g.Breakers.Tenant("bad").State)
		assert.Equal(t, breaker.Closed, g.Breakers.Tenant("good").State)
		_, err := bad.GetMe(nil)
		assert.Equal(t, errors.BreakerOpen, errors.KindOf(err))
		assert.NotZero(t, errors.RetryAfter(err))
		var e *errors.Error
		assert.ErrorAs(t, err, &e)
		assert.Equal(t, errors.ScopeTenant, e.Scope)
	})
}
