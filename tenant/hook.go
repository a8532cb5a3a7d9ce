package tenant

import (
	"context"
	"fmt"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// Hook attaches a resource to a tenant's bot when it is opened: a client of
// another protocol, a poller, a cache. ctx is bounded by
// [PoolConfig.OpenTimeout] and ends when the open does; what is to live longer
// must not keep it.
//
// The func that it returns, which may be nil, ends the resource. It is called
// once, when the instance closes, before the bot does and in the reverse order
// of the hooks, with a context of [PoolConfig.CloseTimeout].
//
// An error fails the open: the hooks before are ended, and who asked for the
// tenant gets the error.
type Hook func(ctx context.Context, t *Tenant) (end func(context.Context) error, err error)

// runHooks opens what the hooks attach.
func (t *Tenant) runHooks(ctx context.Context, hooks []Hook) error {
	for i, hook := range hooks {
		end, err := hook(ctx, t)
		if err != nil {
			return fmt.Errorf("hook %d: %w", i, err)
		}
		if end != nil {
			t.closers = append(t.closers, end)
		}
	}
	return nil
}

// end closes what the hooks attached, last first, and then the bot. Each
// error is kept; a panic is one, and stops none of the others.
func (t *Tenant) end(ctx context.Context) error {
	var all []error
	for i := len(t.closers) - 1; i >= 0; i-- {
		if err := endOne(ctx, t.closers[i]); err != nil {
			all = append(all, err)
		}
	}
	t.closers = nil
	t.closed.Store(true)
	return errors.Join(all...)
}

func endOne(ctx context.Context, end func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New(session.Redact(fmt.Sprintf("panic in a hook's end: %v", p)))
		}
	}()
	return end(ctx)
}
