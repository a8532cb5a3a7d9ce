package polling

import (
	"context"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
)

// Quarantine returns an OnChange that shows a tenant whose token Telegram does
// not accept to the pool, whose manager then quarantines it: its calls stop
// too, and its record says why. It is one getMe for each such token.
func Quarantine(p *tenant.Pool) func(ctx context.Context, s Status) {
	return func(ctx context.Context, s Status) {
		if s.State != Stopped || s.Kind != errors.Unauthorized {
			return
		}
		// The pool's own client sees the 401 and reports it.
		_ = p.Do(ctx, s.Tenant, func(ctx context.Context, t *tenant.Tenant) error {
			_, err := t.Bot.GetMeWithContext(ctx, nil)
			return err
		})
	}
}
