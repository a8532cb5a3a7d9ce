package polling

import (
	"context"

	"github.com/tgfleet/tgfleet/tenant"
)

// Quarantine returns an OnChange that reports each rejected token to the pool's
// [tenant.Manager]. The manager then fails the bot's other calls too, asks Telegram
// again, and quarantines the tenant if Telegram goes on rejecting the token; see
// [tenant.ManagerConfig]. Each report is one getMe, or none while the manager is asking
// already.
func Quarantine(p *tenant.Pool) func(ctx context.Context, s Status) {
	return func(ctx context.Context, s Status) {
		if s.State != Rejected {
			return
		}
		// The pool's own client sees the answer and reports it.
		_ = p.Do(ctx, s.Tenant, func(ctx context.Context, t *tenant.Tenant) error {
			_, err := t.Bot.GetMeWithContext(ctx, nil)
			return err
		})
	}
}
