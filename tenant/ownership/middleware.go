package ownership

import (
	"context"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// Middleware returns the middleware that checks each update on its way to a
// handler. tell hears of those that are Proved or Refused, with the tenant
// whose bot can answer, also where [Verifier.Require] keeps it from all else;
// its error is the handler's. Nil tells nobody.
//
// A message that proves an ownership does not reach the handler, nor does one
// that came by an invitation's link and proves nothing. A text that only looks
// like a code does. The source must receive "message", whatever the handler
// itself wants.
//
// An update that the handler fails at because the bot is [errors.Unverified] is
// set aside at once, among the dead letters, which can be replayed once it is
// verified. Were it tried again, the code would wait behind it, since a chat's
// updates are handled in their order.
func (v *Verifier) Middleware(tell func(ctx context.Context, t *tenant.Tenant, r Result) error) inbox.Middleware {
	return func(next inbox.Handler) inbox.Handler {
		return inbox.HandlerFunc(func(ctx context.Context, t *tenant.Tenant, u inbox.Update) error {
			r, err := v.Check(ctx, u)
			if err != nil {
				return err
			}
			if r.Outcome != Nothing && tell != nil {
				if err := tell(Exempt(ctx), t, r); err != nil {
					return err
				}
			}
			if r.Outcome == Proved || r.Outcome == Refused && r.Link {
				return nil
			}
			if err = next.HandleUpdate(ctx, t, u); errors.Is(err, errors.Unverified) {
				return inbox.Permanent(err)
			}
			return err
		})
	}
}
