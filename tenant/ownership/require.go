package ownership

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// Require returns a middleware that refuses calls of tenants nobody has proved
// to own, with [errors.Unverified]. applies says of which tenants that is
// required, by their key in the session; nil is all. Place it outermost: what
// is refused is no failure of the bot.
//
// What asks, what receives updates and what ends a bot's use is let through,
// so that a bot can be set up and its owner can prove it: get*, setWebhook,
// deleteWebhook, logOut and close. All else can be seen by people.
//
// While the store can't be reached, who was verified when last looked at stays
// so, and of others the store's error is returned.
func (v *Verifier) Require(applies func(key string) bool) session.Middleware {
	return func(next session.Invoker) session.Invoker {
		return session.InvokerFunc(func(ctx context.Context, call *session.Call) (json.RawMessage, error) {
			if !quiet(call.Method) && !exempt(ctx) && (applies == nil || applies(call.Key)) {
				if err := v.verified(ctx, call); err != nil {
					return nil, err
				}
			}
			return next.Invoke(ctx, call)
		})
	}
}

type exemptKey struct{}

// Exempt marks the calls of a context as the service's own, which
// [Verifier.Require] lets through: what a bot has to say to the one who is to
// prove its ownership.
func Exempt(ctx context.Context) context.Context { return context.WithValue(ctx, exemptKey{}, true) }

func exempt(ctx context.Context) bool {
	exempt, _ := ctx.Value(exemptKey{}).(bool)
	return exempt
}

// quiet reports whether nobody sees a method's effect.
func quiet(method string) bool {
	for _, name := range [...]string{"setWebhook", "deleteWebhook", "logOut", "close"} {
		if strings.EqualFold(method, name) {
			return true
		}
	}
	return len(method) > len("get") && strings.EqualFold(method[:len("get")], "get")
}

// verified returns nil if the tenant of a call is verified for the bot that
// makes it.
func (v *Verifier) verified(ctx context.Context, call *session.Call) error {
	now := time.Now()
	l := v.known.get(call.Key, call.BotID(), now)
	if !l.fresh {
		p, err := v.store.Proof(ctx, call.Key)
		switch {
		case err == nil, errors.Is(err, errors.NotFound): // then p is zero
			l.verified = err == nil && p.BotID == call.BotID()
			v.known.seen(call.Key, p.BotID, now, l.changes)
		case !l.verified:
			return refuse(call, errors.KindOf(err), err)
		}
	}
	if !l.verified {
		return refuse(call, errors.Unverified, nil)
	}
	return nil
}

func refuse(call *session.Call, kind errors.Kind, err error) error {
	return &errors.Error{Kind: kind, Op: call.Method, Key: call.Key, Delivery: errors.NotDelivered, Err: err}
}
