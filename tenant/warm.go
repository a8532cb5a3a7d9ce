package tenant

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tgfleet/tgfleet/errors"
)

// warmers is how many opens Warm has under way: hooks may take their time.
const warmers = 64

// Warm opens tenants before they are wanted, for a service that has just
// started or was told of a rush. It reads a thousand records in a query, and
// returns how many tenants are open in the end. Those that are suspended or not
// there are left out; the error says how many failed otherwise, such as those
// whose row can't be read, and why the first did. A store that does not answer
// ends it. More ids than [PoolConfig].MaxOpen make each other leave.
func (p *Pool) Warm(ctx context.Context, ids []string) (int, error) {
	w := &warming{pool: p}
	for len(ids) > 0 && ctx.Err() == nil {
		some := ids[:min(len(ids), maxBatch)]
		ids = ids[len(some):]
		if err := w.open(ctx, some); err != nil {
			return int(w.opened.Load()), err
		}
	}
	opened := int(w.opened.Load())
	if ctx.Err() != nil {
		return opened, ended(ctx, "warm pool", "")
	}
	if w.first != nil {
		return opened, fmt.Errorf("warm pool: %d tenants did not open; the first: %w", w.failed.Load(), w.first)
	}
	return opened, nil
}

type warming struct {
	pool                 *Pool
	next, opened, failed atomic.Int64
	once                 sync.Once
	first                error
}

// open opens some tenants.
func (w *warming) open(ctx context.Context, ids []string) error {
	var closed []string
	for _, id := range ids {
		if _, _, found := w.pool.core.Peek(id); !found && checkID(id) == nil {
			closed = append(closed, id)
		}
	}
	if len(closed) > 0 {
		defer w.pool.loader.drop(closed...)
		if err := w.pool.loader.prefetch(ctx, closed); err != nil {
			return err
		}
	}
	w.next.Store(0)
	var wg sync.WaitGroup
	for range min(warmers, len(ids)) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(w.next.Add(1)) - 1
				if i >= len(ids) {
					return
				}
				w.acquire(ctx, ids[i])
			}
		})
	}
	wg.Wait()
	return nil
}

func (w *warming) acquire(ctx context.Context, id string) {
	lease, err := w.pool.Acquire(ctx, id)
	switch {
	case err == nil:
		lease.Release()
		w.opened.Add(1)
	case errors.Is(err, errors.Suspended), errors.Is(err, errors.NotFound):
	default:
		w.failed.Add(1)
		w.once.Do(func() { w.first = err })
	}
}
