package inbox

import (
	"context"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// ErrFull is matched by the error of an update that was refused because the
// inbox, or the tenant's part of it, is full. The error's kind is
// [errors.Throttled]; [errors.RetryAfter] says when to come back, and its
// Scope, tenant or all, says what is full.
var ErrFull = errors.New("inbox is full")

// Full returns the error of an update that was refused, for those who
// implement [Inbox].
func Full(tenant string, scope errors.Scope, retryAfter time.Duration) error {
	return &errors.Error{
		Kind: errors.Throttled, Op: "put update", Key: tenant, RetryAfter: retryAfter, Scope: scope,
		Delivery: errors.NotDelivered, Err: ErrFull,
	}
}

// fail makes an error of this package. An error that has a kind already is
// returned as it is.
func fail(op, tenant string, kind errors.Kind, err error) error {
	if e, ok := errors.AsType[*errors.Error](err); ok {
		return e
	}
	return &errors.Error{Kind: kind, Op: op, Key: tenant, Delivery: errors.NotDelivered, Err: err}
}

// ended is the error of an operation whose context had ended.
func ended(op string, ctx context.Context) error {
	return fail(op, "", errors.KindOf(ctx.Err()), context.Cause(ctx))
}
