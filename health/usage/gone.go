package usage

import (
	"context"
	"log/slog"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health/internal/loop"
)

// dropOften removes, now and then, what is stored of tenants that are gone and
// that nobody had forgotten: a process may be killed between the two.
func (r *Recorder) dropOften(ctx context.Context, stop <-chan struct{}) {
	for {
		err := r.dropGone(ctx, stop)
		if err != nil {
			r.log.Error("look for tenants that are gone", slog.Any("err", errors.Classify(err)))
		}
		select {
		case <-time.After(loop.GoneLater(err)):
		case <-stop:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (r *Recorder) dropGone(ctx context.Context, stop <-chan struct{}) error {
	for after := ""; ; {
		page, err := r.storedAfter(ctx, after)
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1]
		gone, before, err := loop.Gone(r.cfg.Gone).Of(ctx, page)
		if err != nil {
			return err
		}
		for _, tenant := range gone {
			select {
			case <-stop:
				return nil
			default:
			}
			// The hours that had ended by then.
			if err := r.remove(ctx, tenant, before.Truncate(time.Hour)); err != nil {
				return err
			}
		}
	}
}

func (r *Recorder) storedAfter(ctx context.Context, after string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return r.cfg.Store.Tenants(ctx, after, loop.GoneBatch)
}

func (r *Recorder) remove(ctx context.Context, tenant string, before time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return r.cfg.Store.Delete(ctx, tenant, before)
}
