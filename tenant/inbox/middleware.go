package inbox

import (
	"context"
	"log/slog"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
)

// Timeout gives the handlers of some kinds of updates less time than
// WorkersConfig.HandlerTimeout, such as Timeout(5*time.Second,
// "inline_query"); no kinds are all. It only ends their context: a handler that
// takes no notice goes on. A handler that returns because of it has failed, with
// an error of kind [errors.Timeout]. 0 and less change nothing.
func Timeout(d time.Duration, kinds ...string) Middleware {
	of := make(map[string]bool, len(kinds))
	for _, kind := range kinds {
		of[kind] = true
	}
	return func(next Handler) Handler {
		return Wrap(next, func(ctx context.Context, t *tenant.Tenant, u Update) error {
			if d > 0 && (len(of) == 0 || of[u.Kind]) {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, d)
				defer cancel()
			}
			return next.HandleUpdate(ctx, t, u)
		})
	}
}

// Log tells of every update that was handled, with how long that took: of those
// that failed as errors, by their kind and without their text, and of others at
// the level of debugging. A nil logger tells nobody.
func Log(logger *slog.Logger) Middleware {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return func(next Handler) Handler {
		return Wrap(next, func(ctx context.Context, t *tenant.Tenant, u Update) (err error) {
			start := time.Now()
			ended := false
			defer func() {
				level, message, result := slog.LevelDebug, "update handled", "ok"
				switch {
				case !ended: // by a panic or Goexit, which goes on
					level, message, result = slog.LevelError, "update not handled", "panic"
				case err != nil:
					level, message, result = slog.LevelError, "update not handled", errors.KindOf(err).String()
				}
				logger.Log(ctx, level, message, slog.Any("update", u), slog.Int("attempt", u.Attempt),
					slog.Duration("took", time.Since(start)), slog.String("result", result))
			}()
			err = next.HandleUpdate(ctx, t, u)
			ended = true
			return err
		})
	}
}

// Recover makes a handler's panic its error, a [*PanicError], for middleware
// outside of it that has something to do with errors. [Workers] do not need it:
// to them a panic is a failed attempt anyway.
func Recover() Middleware {
	return func(next Handler) Handler {
		return Wrap(next, func(ctx context.Context, t *tenant.Tenant, u Update) (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = newPanic(p)
				}
			}()
			return next.HandleUpdate(ctx, t, u)
		})
	}
}
