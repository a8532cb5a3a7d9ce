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

	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
)

// Each tenant has a few users, who write a little less often than a bot may
// answer in a private chat.
const (
	usersPerTenant = 3
	writeEvery     = 1500 * time.Millisecond
	settleTime     = 10 * time.Second
)

// demo runs a fleet against a fake Telegram, over TLS and HTTP/2 on the
// loopback interface. The status is 1 if a message was lost, a call failed or
// anything was left open.
func demo(ctx context.Context, o options, log *slog.Logger, stdout io.Writer) int {
	goroutines := runtime.NumGoroutine()
	srv := bottest.New(bottest.Config{KeepCalls: -1, KeepMessages: 4})
	url, err := srv.StartTLS()
	if err != nil {
		log.Error("fake Telegram", "err", err)
		return 1
	}
	defer srv.Close()
	f, err := newFleet(session.Config{APIURL: url, TLS: srv.TLSConfig()}, log)
	if err != nil {
		log.Error("fleet", "err", err)
		return 1
	}
	stopStatus, err := f.serveStatus(o.listen)
	if err != nil {
		log.Warn("no status page", "err", err) // the port is taken: no reason not to run
		stopStatus = func() {}
	}

	// The loops outlive ctx, so that what was written before its end is
	// answered.
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	traffic := &traffic{}
	for i := range o.tenants {
		if ctx.Err() != nil {
			break
		}
		id := fmt.Sprintf("tenant-%04d", i+1)
		bot := srv.NewBot(fmt.Sprintf("demo%d_bot", i+1))
		if _, err := f.manager.Register(ctx, id, bot.Token()); err != nil {
			if ctx.Err() == nil {
				log.Error("not registered", "tenant", id, "err", err)
				traffic.failed.Add(1)
			}
			continue
		}
		traffic.tenants++
		f.startEcho(run, id)
		for range usersPerTenant {
			traffic.start(ctx, srv, bot)
		}
	}
	log.Info("demo is running; interrupt it to end", "tenants", traffic.tenants)
	<-ctx.Done()
	traffic.writers.Wait()
	lost := traffic.settle(srv)
	stop()
	f.close(run)
	stopStatus()
	connections := srv.Connections().Opened
	srv.Close()

	failed := int(traffic.failed.Load())
	if lost > 0 {
		log.Error("messages without an answer", "lost", lost, "written", traffic.written.Load())
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
	fmt.Fprintf(stdout, "demo: %d tenants, %d calls, %d errors, %d connections, p50 %.1fms, p99 %.1fms\n",
		traffic.tenants, m.Calls, m.Errors, connections, m.P50, m.P99)
	if failed > 0 || m.Errors > 0 {
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
	tenants int
	writers sync.WaitGroup
	written atomic.Int64
	failed  atomic.Int64
}

// start lets a new user write to a bot until ctx ends.
func (t *traffic) start(ctx context.Context, srv *bottest.Server, bot *bottest.Bot) {
	user := srv.NewUser("User")
	t.writers.Go(func() {
		pause(ctx, rand.N(writeEvery))
		for n := 1; ctx.Err() == nil; n++ {
			user.Write(bot, fmt.Sprintf("message %d", n))
			t.written.Add(1)
			pause(ctx, writeEvery)
		}
	})
}

// settle waits until every message has its answer, and returns how many have
// none.
func (t *traffic) settle(srv *bottest.Server) int64 {
	var lost int64
	for begin := time.Now(); time.Since(begin) < settleTime; time.Sleep(20 * time.Millisecond) {
		if lost = t.written.Load() - int64(srv.CallCount("sendMessage")); lost <= 0 {
			return 0
		}
	}
	return lost
}
