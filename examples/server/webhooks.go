package main

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// reconcileEvery is how often all webhooks are looked at: somebody else may have
// changed one, or what was to be set at once may have failed.
const reconcileEvery = time.Hour

// startWebhooks receives updates by webhook. In the demo Telegram is in this
// process, and delivers to a listener of its own on the loopback interface.
func (f *fleet) startWebhooks(ctx context.Context, o options) error {
	master, err := f.db.Secret("webhook")
	if err != nil {
		return err
	}
	keys, err := webhook.NewKeys(webhook.Key{Master: master, Generation: 1})
	if err != nil {
		return err
	}
	f.receiver, err = webhook.NewReceiver(counted{f}, keys, webhook.Config{Tenants: f.db.Tenants, Logger: f.log})
	if err != nil {
		return err
	}
	cfg := webhook.ManagerConfig{
		URL:            strings.TrimSuffix(o.publicURL, "/") + "/webhook",
		AllowedUpdates: inbox.KindsOf(f.updates),
		Logger:         f.log,
	}
	if o.demo {
		mux := http.NewServeMux()
		f.handleWebhooks(mux)
		address, err := f.serve(ctx, "127.0.0.1:0", mux)
		if err != nil {
			return err
		}
		cfg.URL = "http://" + address + "/webhook"
		cfg.Starts = []ratelimit.Limit{} // the fake Telegram loads bots as fast as it likes
	}
	turns := turns{again: make(map[string]bool)}
	cfg.Claim = func(_ context.Context, id string) (func(), bool, error) {
		return func() {
			if turns.end(id) {
				f.receive(id)
			}
		}, turns.begin(id, false), nil
	}
	hooks, err := webhook.NewManager(f.pool, f.manager, keys, cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	f.closes(func(context.Context) error {
		cancel()
		wg.Wait()
		return nil
	})
	f.receive = func(id string) {
		wg.Go(func() {
			for turns.begin(id, true) {
				f.ensureWebhook(ctx, hooks, id)
				if !turns.end(id) || ctx.Err() != nil {
					return
				}
			}
		})
	}
	if !o.demo {
		place := &place{marks: f.db.Marks, log: f.log, of: runOf(hooks, cfg.AllowedUpdates)}
		wg.Go(func() { f.reconcile(ctx, hooks, place) })
	}
	return nil
}

// turns lets one at a time work on a tenant's webhook: a second one would only
// find it right, or set it once more and too soon. But the first may have begun
// with a token that is replaced by now.
type turns struct {
	mu    sync.Mutex      // guards again
	again map[string]bool // who is worked on, and whether to look once more
}

// begin reports whether it is the caller's turn. If not and insist is set, whoever
// has it looks once more.
func (t *turns) begin(id string, insist bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	again, busy := t.again[id]
	t.again[id] = busy && (again || insist)
	return !busy
}

// end reports whether to look once more.
func (t *turns) end(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer delete(t.again, id)
	return t.again[id]
}

// handleWebhooks adds where Telegram delivers to, if it does.
func (f *fleet) handleWebhooks(mux *http.ServeMux) {
	if f.receiver != nil {
		mux.Handle("POST /webhook/{opaque}", f.receiver)
	}
}

// ensureWebhook sets a tenant's webhook, and tells of what Telegram said.
func (f *fleet) ensureWebhook(ctx context.Context, hooks *webhook.Manager, id string) {
	r, err := hooks.Ensure(ctx, id, webhook.Options{})
	if err != nil {
		switch {
		case ctx.Err() != nil || errors.Is(err, errors.NotFound) || errors.Is(err, errors.Suspended):
		default:
			f.log.Error("webhook not set", "tenant", id, "err", err)
		}
		return
	}
	info := webhookInfo(&r.Before)
	if r.Changed { // what failed was another webhook
		info.Set, info.LastError, info.LastErrorAt = true, "", time.Time{}
	}
	f.monitor.SetWebhook(id, info)
}

// reconcile keeps all webhooks as they should be, until ctx ends. A run over a
// large fleet takes hours, since Telegram loads few bots at a time, so it goes on
// where an earlier process has ended. What that one has looked at long ago, or
// was about to, is looked at by the next run, which then begins at once.
func (f *fleet) reconcile(ctx context.Context, hooks *webhook.Manager, place *place) {
	next := place.load(ctx)
	for ctx.Err() == nil {
		resumed := next != ""
		report, err := hooks.Reconcile(ctx, webhook.Reconcile{After: next, Progress: place.passed})
		if err != nil {
			if ctx.Err() == nil {
				f.log.Error("webhooks not reconciled", "err", err)
			}
			next = report.Next
			place.save(ctx, next)
			pause(ctx, time.Minute)
			continue
		}
		f.log.Info("webhooks reconciled", "after", next, "set", report.Changed, "right", report.Right, "newer", report.Newer, "refused", report.Refused, "failed", report.Failed)
		next = ""
		place.save(ctx, next)
		if !resumed {
			pause(ctx, reconcileEvery)
		}
	}
}
