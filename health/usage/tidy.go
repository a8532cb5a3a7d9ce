package usage

import (
	"context"
	"log/slog"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health/internal/loop"
)

// tidyBatch is how many roll-ups are turned into days, or removed, at once, so
// that no transaction is long.
const tidyBatch = 1000

// tidyOften tidies up now and then.
func (r *Recorder) tidyOften(ctx context.Context, stop <-chan struct{}) {
	for {
		select {
		case <-time.After(loop.Jitter(r.cfg.TidyEvery)):
		case <-stop:
			return
		case <-ctx.Done():
			return
		}
		if err := r.tidy(ctx, stop); err != nil {
			r.log.Error("tidy up usage", slog.Any("err", errors.Classify(err))) // what is left is for the next time
		}
	}
}

// Tidy turns what is old enough into days and removes what is too old, now.
func (r *Recorder) Tidy(ctx context.Context) error { return r.tidy(ctx, nil) }

func (r *Recorder) tidy(ctx context.Context, stop <-chan struct{}) error {
	all := func(keep time.Duration, some func(context.Context, time.Time, int) (int, error)) error {
		if keep < 0 {
			return nil
		}
		before := time.Now().Add(-keep).UTC().Truncate(Day)
		for {
			select {
			case <-stop:
				return nil
			default:
			}
			ctx, cancel := context.WithTimeout(ctx, storeTimeout)
			n, err := some(ctx, before, tidyBatch)
			cancel()
			if err != nil || n < tidyBatch {
				return err
			}
		}
	}
	return errors.Join(all(r.cfg.Hourly, r.cfg.Store.Compact), all(r.cfg.Daily, r.cfg.Store.Prune))
}
