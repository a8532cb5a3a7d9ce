package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
)

// Each tenant has a few users, who write a little less often than a bot may
// answer in a private chat. The first tenant sends a newsletter besides, as
// fast as it can, and there is only a little more room than the others need.
const (
	usersPerTenant = 3
	writeEvery     = 1500 * time.Millisecond
	settleTime     = 10 * time.Second
	readers        = 100
	room           = 1.1
)

// demo runs a fleet against a fake Telegram that enforces the real one's
// limits, over TLS and HTTP/2 on the loopback interface. The status is 1 if a
// message was lost, a call failed, Telegram refused one, or anything was left
// open.
func demo(ctx context.Context, o options, log *slog.Logger, stdout io.Writer) int {
	goroutines := runtime.NumGoroutine()
	srv := bottest.New(bottest.Config{KeepCalls: -1, KeepMessages: 4})
	url, err := srv.StartTLS()
	if err != nil {
		log.Error("fake Telegram", "err", err)
		return 1
	}
	defer srv.Close()
	bots, err := openBots(srv, o.bots)
	if err != nil {
		log.Error("bots of the fake Telegram", "err", err)
		return 1
	}
	defer bots.close()
	limits := session.LimitConfig{
		Total:      ratelimit.Limit{Rate: room * float64(o.tenants*usersPerTenant) / writeEvery.Seconds()},
		ColdStarts: []ratelimit.Limit{}, // the fake one loads bots as fast as it likes
	}
	if o.churn {
		limits.Total = ratelimit.Unlimited
	}
	f, err := newFleet(ctx, o, session.Config{APIURL: url, TLS: srv.TLSConfig()}, limits, log)
	if err != nil {
		log.Error("fleet", "err", err)
		return 1
	}
	// The fleet outlives ctx, so that what was written before its end is
	// answered.
	if err := f.startSource(ctx, o); err != nil {
		log.Error("source of updates", "err", err)
		f.close(ctx)
		return 1
	}
	if err := f.serveWeb(ctx, o.listen); err != nil {
		log.Warn("no web page", "err", err) // the port is taken: no reason not to run
	}
	traffic := &traffic{}
	adopted, err := f.adopt(ctx, bots, o, stdout)
	if err != nil && ctx.Err() == nil {
		log.Error("tenants of an earlier run", "err", err)
		traffic.failed.Add(1)
	}
	var changes *churn
	if o.churn {
		changes = startChurn(ctx, f, bots, &traffic.failed, stdout)
	}
	for i := range o.tenants {
		if ctx.Err() != nil {
			break
		}
		id := fmt.Sprintf("tenant-%04d", i+1)
		bot := adopted[id]
		if bot != nil {
			f.receive(id)
		} else {
			if bot, err = bots.get(fmt.Sprintf("demo%d_bot", i+1)); err == nil {
				_, err = f.manager.Register(ctx, id, bot.Token())
			}
			if err != nil {
				if ctx.Err() == nil {
					log.Error("not registered", "tenant", id, "err", err)
					traffic.failed.Add(1)
				}
				continue
			}
		}
		traffic.add(ctx, srv, id, bot)
		if i == 0 {
			traffic.newsletter(ctx, f, id, srv, bot)
		}
	}
	if !o.churn && ctx.Err() == nil {
		// One that nobody has registered, for POST /api/bots. Its token is in the
		// file of the bots, if there is one.
		if _, err := bots.get("spare_bot"); err != nil {
			log.Error("spare bot", "err", err)
			traffic.failed.Add(1)
		}
	}
	log.Info("demo is running; interrupt it to end", "tenants", len(traffic.tenants))
	<-ctx.Done()
	traffic.writers.Wait()
	if changes != nil {
		changes.wg.Wait()
	}
	fairness := traffic.fairness(f)
	lost := traffic.settle(srv)
	f.close(ctx)
	connections := srv.Connections().Opened
	srv.Close()

	failed := int(traffic.failed.Load())
	if lost > 0 {
		log.Error("messages without an answer", "lost", lost, "written", traffic.written())
		failed++
	}
	if open := f.session.Stats().Open + srv.Connections().Open; open > 0 {
		log.Error("connections left open", "open", open)
		failed++
	}
	if s := f.pool.Stats(); s.Open+s.Opening+s.Closing+s.Leased > 0 || s.Lost > 0 {
		log.Error("bots or leases left", "stats", s)
		failed++
	}
	if n := extraGoroutines(goroutines); n > 0 {
		log.Error("goroutines left", "n", n)
		failed++
	}
	m := f.meter.figures()
	fmt.Fprintf(stdout, "demo: %d tenants, %d calls, %d errors, %d refused with 429, fairness %.3f, %d connections, p50 %.1fms, p99 %.1fms\n",
		len(traffic.tenants), m.Calls, m.Errors, m.ByKind[errors.RateLimited.String()], fairness, connections, m.P50, m.P99)
	errs := m.Errors
	if o.churn {
		// A service that was killed may not have stored a token that Telegram
		// had given out; whoever has killed it looks which ones may be missing.
		errs -= m.ByKind[errors.Unauthorized.String()]
	}
	if failed > 0 || errs > 0 {
		return 1
	}
	return 0
}

// extraGoroutines returns how many goroutines there are more than before,
// once those that are ending have had the time.
func extraGoroutines(before int) int {
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return 0
		}
		time.Sleep(20 * time.Millisecond)
	}
	return runtime.NumGoroutine() - before
}

// traffic is what the users write.
type traffic struct {
	tenants []*counts
	writers sync.WaitGroup
	failed  atomic.Int64
}

// counts are a tenant's messages.
type counts struct {
	id      string
	bot     *bottest.Bot
	written atomic.Int64
}

// add lets new users write to a bot until ctx ends.
func (t *traffic) add(ctx context.Context, srv *bottest.Server, id string, bot *bottest.Bot) {
	c := &counts{id: id, bot: bot}
	t.tenants = append(t.tenants, c)
	for range usersPerTenant {
		user := srv.NewUser("User")
		t.writers.Go(func() {
			pause(ctx, rand.N(writeEvery))
			for n := 1; ctx.Err() == nil; n++ {
				user.Write(bot, fmt.Sprintf("message %d", n))
				c.written.Add(1)
				pause(ctx, writeEvery)
			}
		})
	}
}

// newsletter sends to many readers, again and again, until ctx ends. It is
// made of locations, to be told apart from answers.
func (t *traffic) newsletter(ctx context.Context, f *fleet, id string, srv *bottest.Server, bot *bottest.Bot) {
	ctx = session.Bulk(ctx)
	for range readers {
		reader := srv.NewUser("Reader")
		reader.Start(bot, "")
		t.writers.Go(func() {
			for ctx.Err() == nil {
				err := f.pool.Do(ctx, id, func(ctx context.Context, t *tenant.Tenant) error {
					_, err := t.Bot.SendLocationWithContext(ctx, reader.ID, 1, 1, nil)
					return err
				})
				switch {
				case err == nil || ctx.Err() != nil:
				case errors.Is(err, errors.Throttled):
					pause(ctx, max(errors.RetryAfter(err), 100*time.Millisecond))
				default:
					t.failed.Add(1)
					f.log.Error("newsletter", "err", err)
					return
				}
			}
		})
	}
}

// fairness is Jain's index of what part of its messages each tenant has
// answered by now: 1 when all have answered the same part.
func (t *traffic) fairness(f *fleet) float64 {
	var sum, squares float64
	for _, c := range t.tenants {
		waiting := c.bot.Pending()
		if depth, err := f.db.Inbox.Depth(context.Background(), c.id); err == nil {
			waiting += depth.Waiting + depth.Leased
		}
		part := 1 - float64(waiting)/float64(max(c.written.Load(), 1))
		sum += part
		squares += part * part
	}
	if squares == 0 {
		return 0
	}
	return sum * sum / (float64(len(t.tenants)) * squares)
}

func (t *traffic) written() (n int64) {
	for _, c := range t.tenants {
		n += c.written.Load()
	}
	return n
}

// settle waits until every message has its answer, and returns how many have
// none.
func (t *traffic) settle(srv *bottest.Server) int64 {
	var lost int64
	for begin := time.Now(); time.Since(begin) < settleTime; time.Sleep(20 * time.Millisecond) {
		if lost = t.written() - int64(srv.CallCount("sendMessage")); lost <= 0 {
			return 0
		}
	}
	return lost
}
