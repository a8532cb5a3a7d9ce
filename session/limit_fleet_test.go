package session

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
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

// crowd is a fleet whose tenants each have users and groups to write to, at a
// server that enforces Telegram's limits.
type crowd struct {
	t       *testing.T
	srv     *bottest.Server
	session *Session
	limiter *limiter
	tenants []*member

	mu      sync.Mutex
	refused int // with 429
}

type member struct {
	key   string
	fake  *bottest.Bot
	bot   *gotgbot.Bot
	chats []int64 // private, group, private, group ...
	sent  int
	waits []time.Duration
}

func newCrowd(t *testing.T, tenants, chats int, limits bottest.Limits, cfg LimitConfig) *crowd {
	c := &crowd{t: t, srv: bottest.New(bottest.Config{Limits: limits, KeepCalls: -1, KeepMessages: 1})}
	// Without connections, which hundreds of thousands of calls would mostly wait for.
	c.session, c.limiter = limitedOver(t, c.srv, bottest.HandlerTransport(c.srv.Handler()), cfg)
	for i := range tenants {
		fake := c.srv.NewBot(fmt.Sprintf("t%d_bot", i))
		token, err := ParseToken(fake.Token())
		require.NoError(t, err)
		m := &member{key: strconv.Itoa(i), fake: fake, bot: c.session.Bot(strconv.Itoa(i), token, gotgbot.User{})}
		for len(m.chats) < chats {
			user, group := c.srv.NewUser("User"), c.srv.NewGroup("Group")
			user.Start(fake, "")
			group.Add(fake, nil)
			m.chats = append(m.chats, user.ID, group.ID)
		}
		m.chats = m.chats[:chats]
		c.tenants = append(c.tenants, m)
	}
	return c
}

// send sends a message, and reports false when ctx ended first.
func (c *crowd) send(ctx context.Context, m *member, chat int64) bool {
	begin := time.Now()
	_, err := m.bot.SendMessageWithContext(ctx, chat, "hello", nil)
	wait := time.Since(begin)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch errors.KindOf(err) {
	case errors.None:
		m.sent++
		m.waits = append(m.waits, wait)
	case errors.RateLimited:
		c.refused++
	case errors.Throttled, errors.Canceled, errors.Timeout:
		return false // the end comes before its turn
	default:
		if ctx.Err() == nil {
			c.t.Errorf("send: %v", err)
		}
		return false
	}
	return true
}

// jain is Jain's index of what the tenants have sent for their weights.
func (c *crowd) jain(weight func(i int) float64) float64 {
	var sum, squares float64
	for i, m := range c.tenants {
		x := float64(m.sent) / weight(i)
		sum += x
		squares += x * x
	}
	return sum * sum / (float64(len(c.tenants)) * squares)
}

func (c *crowd) sent() (n int) {
	for _, m := range c.tenants {
		n += m.sent
	}
	return n
}

func (c *crowd) countAnew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.tenants {
		m.sent = 0
	}
}

func equal(int) float64 { return 1 }

// A hundred tenants all want more than their share, and the first of them a
// thousand times as much as each of the others.
func TestAHundredTenantsWantMoreThanTheirShare(t *testing.T) {
	for _, test := range []struct {
		name   string
		total  float64
		span   time.Duration
		weight func(i int) float64
	}{
		{"bound together", 25, 30 * time.Minute, equal},
		{"bound together by unequal weights", 25, 40 * time.Minute, func(i int) float64 { return float64(1 + i%4) }},
		{"bound one by one", 0, 5 * time.Minute, equal},
	} {
		t.Run(test.name, func(t *testing.T) {
			span := test.span
			if RaceEnabled {
				span /= 12
			}
			synctest.Test(t, func(t *testing.T) {
				cfg := LimitConfig{ColdStarts: warm, MaxWait: -1}
				allowed := 100 * (2*span.Seconds() + 2*20*span.Minutes())
				if test.total > 0 {
					cfg.Total = ratelimit.Limit{Rate: test.total, Burst: 25}
					allowed = test.total * span.Seconds()
				}
				c := newCrowd(t, 100, 4, bottest.Limits{}, cfg)
				for i, m := range c.tenants {
					require.NoError(t, c.limiter.setTenant(m.key, Limits{Weight: int(test.weight(i))}))
				}
				const settle = time.Minute // the bursts of the beginning go to whoever comes first
				ctx, cancel := context.WithTimeout(t.Context(), settle+span)
				defer cancel()
				time.AfterFunc(settle, c.countAnew)
				var all sync.WaitGroup
				for i, m := range c.tenants {
					callers := 2
					if i == 0 {
						callers *= 1000
					}
					for n := range callers * len(m.chats) {
						all.Go(func() {
							time.Sleep(rand.N(time.Second))
							for c.send(ctx, m, m.chats[n%len(m.chats)]) {
							}
						})
					}
				}
				all.Wait()
				jain := c.jain(test.weight)
				t.Logf("%d sent in %v, %.0f allowed, Jain's index %.5f", c.sent(), span, allowed, jain)
				assert.Zero(t, c.refused)
				assert.GreaterOrEqual(t, float64(c.sent()), 0.99*allowed)
				assert.GreaterOrEqual(t, jain, 0.99)
				assert.Zero(t, c.limiter.scheduler.Stats(0).Waiting)
				if test.total == 0 || RaceEnabled {
					return // each has limits of its own; or too few to count hundredths
				}
				var weights float64
				for i := range c.tenants {
					weights += test.weight(i)
				}
				for i, m := range c.tenants {
					assert.InEpsilon(t, allowed*test.weight(i)/weights, m.sent, 0.01, "tenant %d", i)
				}
			})
		})
	}
}

// The other tenants answer now and then, less than their share, a few messages
// at a time.
func TestAFloodOfOneTenantIsHardlyFeltByTheOthers(t *testing.T) {
	span := 30 * time.Minute
	if RaceEnabled {
		span = 10 * time.Minute
	}
	run := func(t *testing.T, flood bool) (p99 []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			c := newCrowd(t, 100, 4, bottest.Limits{}, LimitConfig{
				ColdStarts: warm, MaxWait: -1, Total: ratelimit.Limit{Rate: 40, Burst: 40},
			})
			ctx, cancel := context.WithTimeout(t.Context(), span)
			defer cancel()
			var all sync.WaitGroup
			for i, m := range c.tenants[1:] {
				// The same traffic with and without the flood.
				random := rand.New(rand.NewPCG(uint64(i), 7))
				all.Go(func() {
					for {
						// 3 messages in 15 s: half of a share.
						select {
						case <-time.After(time.Duration(random.ExpFloat64() * float64(15*time.Second))):
						case <-ctx.Done():
							return
						}
						chat := m.chats[random.IntN(len(m.chats))]
						for range 1 + random.IntN(5) {
							all.Go(func() { c.send(ctx, m, chat) })
						}
					}
				})
			}
			if m := c.tenants[0]; flood {
				for n := range 4000 {
					all.Go(func() {
						for c.send(ctx, m, m.chats[n%len(m.chats)]) {
						}
					})
				}
			}
			all.Wait()
			assert.Zero(t, c.refused)
			for _, m := range c.tenants[1:] {
				slices.Sort(m.waits)
				p99 = append(p99, m.waits[len(m.waits)*99/100])
			}
		})
		return p99
	}
	calm, flooded := run(t, false), run(t, true)
	var worst float64
	for i := range calm {
		worst = max(worst, float64(flooded[i])/float64(max(calm[i], 1)))
		assert.LessOrEqual(t, flooded[i], 2*calm[i], "tenant %d", i+1)
	}
	t.Logf("p99 of the wait with the flood: at most %.2f times that without", worst)
}

func TestTenThousandTenantsWakeAtOnce(t *testing.T) {
	tenants := 10_000
	if RaceEnabled {
		tenants = 1000
	}
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, tenants, 0, bottest.RealLimits(), LimitConfig{MaxWait: -1})
		begin := time.Now()
		var all sync.WaitGroup
		for _, m := range c.tenants {
			all.Go(func() {
				_, err := m.bot.GetMe(nil)
				assert.NoError(t, err) // which a 429 would be
			})
		}
		all.Wait()
		assert.Equal(t, tenants, c.srv.CallCount("getMe"))
		// Of 550 that may begin in the first hour's burst 15 do at once and 20 a
		// minute, then 10 a minute.
		least := time.Duration(tenants-550) * time.Hour / 600
		assert.InDelta(t, least.Hours(), time.Since(begin).Hours(), 1)
		t.Logf("%d tenants began within %v", tenants, time.Since(begin).Round(time.Minute))
		for _, m := range c.tenants[:20] { // those that began first are cold again
			_, err := m.bot.GetMe(nil)
			require.NoError(t, err)
		}
	})
}

// storm is a time in which the server refuses all calls of a scope.
type storm struct {
	bot    *bottest.Bot // nil for all
	chat   string       // "" for all of the bot's
	wait   time.Duration
	until  time.Time   // from the first refusal on
	ends   []time.Time // of the freezes, one for each moment of refusals
	remove func()
}

func (s *storm) covers(c bottest.Call) bool {
	return (s.bot == nil || s.bot == c.Bot) && (s.chat == "" || s.chat == c.Params["chat_id"])
}

func (s *storm) refuses(c bottest.Call, now time.Time) bool {
	return s.covers(c) && (s.until.IsZero() || now.Before(s.until))
}

// refusals is after how many refusals a storm's scope is known to all whom it
// binds: see attribution. Each innocent tenant finds out for itself.
func (s *storm) refusals(tenants int) int {
	switch {
	case s.chat != "":
		return 1
	case s.bot != nil:
		return chatsInARow
	}
	return tenants + chatsInARow
}

func TestAStormOfRefusalsIsRiddenOut(t *testing.T) {
	span := 90 * time.Minute
	if RaceEnabled {
		span = 20 * time.Minute
	}
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 12, 4, bottest.NoLimits(), LimitConfig{
			Default: ReactiveLimits(), ColdStarts: warm, MaxWait: -1,
		})
		ctx, cancel := context.WithTimeout(t.Context(), span)
		defer cancel()
		var mu sync.Mutex
		var storms []*storm
		var late, waited int
		seen := 0
		begin := func(s *storm) {
			mu.Lock()
			defer mu.Unlock()
			seen++
			storms = append(storms, s)
			s.remove = c.srv.Fail(bottest.Fault{
				When: func(call bottest.Call) bool {
					mu.Lock()
					defer mu.Unlock()
					now := time.Now()
					first := slices.IndexFunc(storms, func(s *storm) bool { return s.refuses(call, now) })
					if first < 0 || storms[first] != s {
						return false
					}
					if s.until.IsZero() {
						s.until = now.Add(s.wait)
					}
					// Those that left at the same moment did not know of each other.
					if n := len(s.ends); n == 0 || now.Add(s.wait).After(s.ends[n-1]) {
						s.ends = append(s.ends, now.Add(s.wait))
					}
					return true
				},
				Do: bottest.TooManyRequests(s.wait),
			})
		}
		// ended reports whether a freeze that covers the chat ends now.
		ended := func(m *member, chat int64) bool {
			mu.Lock()
			defer mu.Unlock()
			call := bottest.Call{Bot: m.fake, Params: map[string]string{"chat_id": strconv.FormatInt(chat, 10)}}
			for _, s := range storms {
				if s.covers(call) && slices.ContainsFunc(s.ends, time.Now().Equal) {
					return true
				}
			}
			return false
		}
		var all sync.WaitGroup
		for _, m := range c.tenants {
			for _, chat := range m.chats {
				all.Go(func() {
					for ctx.Err() == nil {
						time.Sleep(time.Second + rand.N(4*time.Second))
						asked := time.Now()
						_, err := m.bot.SendMessageWithContext(ctx, chat, "hello", nil)
						if err != nil || time.Since(asked) == 0 {
							continue
						}
						there := ended(m, chat)
						mu.Lock()
						waited++
						if !there {
							late++
						}
						mu.Unlock()
					}
				})
			}
		}
		// past forgets the storms that are over, and reports whether the last one
		// has begun: they follow each other slowly enough to be told apart.
		past := func() bool {
			mu.Lock()
			defer mu.Unlock()
			begun := len(storms) == 0 || !storms[len(storms)-1].until.IsZero()
			storms = slices.DeleteFunc(storms, func(s *storm) bool {
				over := len(s.ends) > 0 && time.Now().After(s.ends[len(s.ends)-1])
				if over {
					s.remove()
					assert.LessOrEqual(t, len(s.ends), s.refusals(len(c.tenants)), "%+v", s)
				}
				return over
			})
			return begun
		}
		busy := func(b *bottest.Bot) bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.ContainsFunc(storms, func(s *storm) bool { return s.bot == b })
		}
		for ctx.Err() == nil {
			time.Sleep(20 * time.Second)
			m := c.tenants[rand.IntN(len(c.tenants))]
			if !past() || busy(m.fake) {
				continue
			}
			s := &storm{wait: time.Second * time.Duration(1+int(rand.ExpFloat64()*60)%3600)}
			switch rand.IntN(10) {
			case 0:
				s.wait = min(s.wait, 10*time.Second) // for all, or nothing else would happen
			case 1, 2, 3:
				s.bot = m.fake
			default:
				s.bot, s.chat = m.fake, strconv.FormatInt(m.chats[rand.IntN(len(m.chats))], 10)
			}
			begin(s)
		}
		all.Wait()
		t.Logf("%d storms, %d calls waited", seen, waited)
		assert.NotZero(t, waited)
		assert.Zero(t, late, "each waited for the end of its own scope's freeze, to the nanosecond")
		stats := c.limiter.scheduler.Stats(0)
		assert.Zero(t, stats.Waiting)
		assert.Zero(t, stats.InFlight)
	})
}
