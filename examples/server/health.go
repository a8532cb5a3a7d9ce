package main

import (
	"context"
	"net/http"
	"time"
	_ "time/tzdata" // the zones of analytics, also in a container that has none

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/tenant"
)

// startHealth starts what knows how the bots do and what they have done.
func (f *fleet) startHealth(ctx context.Context, o options) (err error) {
	f.monitor, err = health.New(health.Config{
		Store:  f.db.Health,
		Gone:   tenant.Gone(f.db.Tenants),
		Alerts: health.AlertConfig{Handlers: []health.AlertHandler{health.LogAlerts(f.log)}},
		Logger: f.log,
	})
	if err != nil {
		return err
	}
	counts := usage.Config{Store: f.db.Usage, Gone: tenant.Gone(f.db.Tenants), Logger: f.log}
	if o.demo {
		counts.FlushEvery = 2 * time.Second // nobody looks at a demo for long
	}
	if f.recorder, err = usage.New(counts); err != nil {
		return err
	}
	if err = f.monitor.Start(ctx); err != nil {
		return err
	}
	f.closes(f.monitor.Stop)
	if err = f.recorder.Start(ctx); err != nil {
		return err
	}
	f.closes(f.recorder.Stop)
	return nil
}

// startProber asks after the bots of which nothing is heard.
func (f *fleet) startProber(ctx context.Context) error {
	prober, err := health.NewProber(health.ProberConfig{
		Monitor: f.monitor,
		Me:      f.askMe,
		Webhook: f.askWebhook,
		List:    f.active,
		Logger:  f.log,
	})
	if err != nil {
		return err
	}
	if err := prober.Start(ctx); err != nil {
		return err
	}
	f.closes(func(context.Context) error {
		prober.Stop()
		return nil
	})
	return nil
}

func (f *fleet) askMe(ctx context.Context, id string) error {
	return f.pool.Do(ctx, id, func(ctx context.Context, t *tenant.Tenant) error {
		_, err := t.Bot.GetMeWithContext(ctx, nil)
		return err
	})
}

func (f *fleet) askWebhook(ctx context.Context, id string) (info health.WebhookInfo, err error) {
	err = f.pool.Do(ctx, id, func(ctx context.Context, t *tenant.Tenant) error {
		w, err := t.Bot.GetWebhookInfoWithContext(ctx, nil)
		if err != nil {
			return err
		}
		info = webhookInfo(w)
		return nil
	})
	return info, err
}

// webhookInfo is what Telegram says of a webhook as health has it.
func webhookInfo(w *gotgbot.WebhookInfo) health.WebhookInfo {
	info := health.WebhookInfo{Set: w.Url != "", Pending: int(w.PendingUpdateCount), LastError: w.LastErrorMessage}
	if w.LastErrorDate > 0 {
		info.LastErrorAt = time.Unix(w.LastErrorDate, 0)
	}
	return info
}

// active lists the tenants that may be used, a page at a time.
func (f *fleet) active(ctx context.Context, after string) ([]string, error) {
	page, err := f.db.Tenants.List(ctx, tenant.Filter{Status: []tenant.Status{tenant.Active}, After: after, Limit: 500})
	ids := make([]string, len(page))
	for i, r := range page {
		ids[i] = r.ID
	}
	return ids, err
}

// handleHealth adds the pages that tell how the service and its bots are. A real
// service asks first who it is that looks.
func (f *fleet) handleHealth(mux *http.ServeMux) {
	anybody := func(*http.Request) error { return nil }
	tenantOf := func(r *http.Request) (string, error) {
		record, err := f.recordOf(r)
		return record.ID, err
	}
	mux.Handle("GET /healthz", health.LiveHandler())
	mux.Handle("GET /readyz", health.ReadyHandler(
		health.Check{Name: "health", Check: func(context.Context) error { return f.monitor.Ready() }},
		health.Check{Name: "database", Check: func(ctx context.Context) error {
			_, err := f.db.Tenants.List(ctx, tenant.Filter{Limit: 1})
			return err
		}},
		health.Check{Name: "inbox", Check: func(ctx context.Context) error {
			_, err := f.db.Inbox.Depth(ctx, "")
			return err
		}},
	))
	mux.Handle("GET /api/health", health.FleetHandler(f.monitor, anybody))
	mux.Handle("GET /api/bots/{id}/health", health.TenantHandler(f.monitor, tenantOf))
	mux.Handle("GET /api/bots/{id}/analytics", usage.Handler(usage.NewReporter(f.db.Usage, f.monitor), tenantOf))
}
