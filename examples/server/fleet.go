package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/ownership"
	"github.com/tgfleet/tgfleet/tenant/polling"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// fleet is the service: a session, a pool, a manager, what knows how the bots
// do, and on the other side a source of updates, an inbox, and workers that
// answer what the bots are sent.
type fleet struct {
	db       database.DB
	monitor  *health.Monitor
	recorder *usage.Recorder
	session  *session.Session
	guard    *session.Guard
	pool     *tenant.Pool
	manager  *tenant.Manager
	owners   *ownership.Verifier
	updates  inbox.Handler
	workers  *inbox.Workers
	meter    *meter
	log      *slog.Logger

	// One of these is the source of updates. receive has it receive a tenant's;
	// it does not wait.
	receiver   *webhook.Receiver
	supervisor *polling.Supervisor
	receive    func(id string)
	receiving  atomic.Bool // receive is there

	closers []func(context.Context) error // called last first
}

func newFleet(ctx context.Context, o options, cfg session.Config, limits session.LimitConfig, log *slog.Logger) (_ *fleet, err error) {
	f := &fleet{meter: &meter{}, log: log}
	defer func() {
		if err != nil {
			f.close(ctx)
		}
	}()
	if f.db, err = database.Open(ctx, o.db, o.keys); err != nil {
		return nil, err
	}
	if o.demo {
		// A fake Telegram starts anew each time, and knows nothing of the chats
		// of updates that waited.
		f.db.Updates = database.InMemory()
	}
	f.closes(func(context.Context) error { return f.db.Close() })
	// What runs by itself ends when the fleet is closed, and not before.
	ctx = context.WithoutCancel(ctx)
	if err = f.startHealth(ctx, o); err != nil {
		return nil, err
	}
	f.guard, err = session.NewGuard(session.GuardConfig{Limit: limits, Health: f.monitor, Usage: f.recorder, Logger: log})
	if err != nil {
		return nil, err
	}
	f.closes(func(context.Context) error { f.guard.Close(); return nil })
	f.warmLimits(ctx)
	if err = f.startOwners(); err != nil {
		return nil, err
	}
	cfg.Logger = log
	if o.verified { // outermost: what is refused is no failure of the bot
		cfg.Middleware = append(cfg.Middleware, f.owners.Require(nil))
	}
	cfg.Guard = f.guard
	cfg.AttemptMiddleware = append(cfg.AttemptMiddleware,
		session.Observe(f.meter),
		session.Observe(session.LogObserver(log)),
	)
	if f.session, err = session.New(cfg); err != nil {
		return nil, err
	}
	f.closes(f.session.Close)
	if f.pool, err = tenant.NewPool(f.session, f.db.Tenants, tenant.PoolConfig{Limiter: f.guard, Logger: log}); err != nil {
		return nil, err
	}
	f.closes(f.pool.Close)
	f.manager = tenant.NewManager(f.pool, tenant.ManagerConfig{
		Health: f.monitor,
		Forget: []tenant.Forgetter{f.recorder, f.db.Inbox, f.owners},
		OnQuarantine: func(_ context.Context, r tenant.Record, _ error) {
			log.Warn("please ask the owner for a new token", "tenant", r.ID, "bot", r.Username)
		},
		OnHold: func(_ context.Context, tenants int) {
			// A real service wakes somebody.
			log.Error("is Telegram down, or is this its address?", "refused", tenants)
		},
		OnAccepted: func(_ context.Context, r tenant.Record) {
			if f.receiving.Load() {
				f.receive(r.ID) // polling backs off
			}
		},
		OnActive: func(_ context.Context, r tenant.Record) {
			if f.receiving.Load() && !(o.churn && strings.HasPrefix(r.ID, churnPrefix)) {
				f.receive(r.ID) // its token may be a new one, which has no webhook
			}
		},
	})
	// Another process may use the same database.
	if err = f.manager.Start(ctx); err != nil {
		return nil, err
	}
	f.closes(func(context.Context) error { f.manager.Stop(); return nil })
	if err = f.startProber(ctx); err != nil {
		return nil, err
	}
	if err = f.startWorkers(ctx); err != nil {
		return nil, err
	}
	return f, nil
}

// warmLimits tells the limiter which bots were called shortly before a restart:
// Telegram has them loaded still, and a fleet of thousands would take hours to
// begin anew. How long ago that may be is the limiter's to know.
func (f *fleet) warmLimits(ctx context.Context) {
	for after := ""; ; {
		page, err := f.db.Health.Load(ctx, after, 0)
		if err != nil {
			f.log.Warn("last calls not read; bots begin as if they had made none", "err", err)
			return
		}
		if len(page) == 0 {
			return
		}
		for _, s := range page {
			if !s.LastSuccess.IsZero() {
				f.guard.Warm(s.Tenant, s.LastSuccess)
			}
		}
		after = page[len(page)-1].Tenant
	}
}

// closes has a func called when the fleet is closed, before those that were
// here first.
func (f *fleet) closes(end func(context.Context) error) { f.closers = append(f.closers, end) }

// close ends all that the fleet runs, in the order of dependence: the pages, the
// source of updates, the workers, and then what they work with. Its context may
// have ended: what is under way gets a few seconds all the same.
func (f *fleet) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	for _, end := range slices.Backward(f.closers) {
		if err := end(ctx); err != nil {
			f.log.Error("not closed cleanly", "err", err)
		}
	}
	f.closers = nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// account is a line of the tokens file.
type account struct{ id, token string }

func readAccounts(path, environment string) ([]account, error) {
	text := strings.ReplaceAll(environment, ",", "\n")
	if path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		text = string(b)
	}
	var all []account
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 0 || strings.HasPrefix(fields[0], "#"):
		case len(fields) == 1:
			all = append(all, account{fmt.Sprintf("bot-%d", n), fields[0]})
		case len(fields) == 2:
			all = append(all, account{fields[0], fields[1]})
		default:
			return nil, fmt.Errorf("line %d of the tokens: want an id and a token", n)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no tokens: name a file with -tokens, set BOT_TOKENS, or try -demo")
	}
	return all, nil
}
