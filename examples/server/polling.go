package main

import (
	"context"
	"iter"

	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/polling"
)

// startPolling receives updates by long polls. The demo says which tenants; of
// others all that are active are polled.
func (f *fleet) startPolling(ctx context.Context, o options) (err error) {
	cfg := polling.Config{
		Leases:         f.db.Leases,
		Watch:          f.db.Tenants.Watch,
		AllowedUpdates: inbox.KindsOf(f.updates),
		DeleteWebhook:  o.polling, // somebody has said so
		OnChange:       polling.Quarantine(f.pool),
		Logger:         f.log,
	}
	if !o.demo {
		cfg.Tenants = func(ctx context.Context) iter.Seq2[tenant.Record, error] {
			return f.manager.List(ctx, tenant.Filter{Status: []tenant.Status{tenant.Active}, Limit: 500})
		}
	}
	if f.supervisor, err = polling.New(f.session, f.db.Tenants, counted{f}, cfg); err != nil {
		return err
	}
	if err = f.supervisor.Start(ctx); err != nil {
		return err
	}
	f.closes(f.supervisor.Stop)
	f.receive = func(id string) { f.supervisor.Add(id) }
	return nil
}
