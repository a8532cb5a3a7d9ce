package tenant

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tgfleet/tgfleet/errors"
)

// warmers is how many opens Warm has under way, and so about how many records
// one query reads.
const warmers = 256

// Warm opens tenants before they are wanted, for a service that has just
// started or was told of a rush. It reads their records in few queries and
// returns how many are open in the end. Those that are suspended or not there
// are left out; the error says how many failed otherwise, and why the first
// did. More ids than [PoolConfig].MaxOpen make each other leave.
func (p *Pool) Warm(ctx context.Context, ids []string) (int, error) {
	var next, opened, failed atomic.Int64
	var once sync.Once
	var first error
	var wg sync.WaitGroup
	for range min(warmers, len(ids)) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(ids) {
					return
				}
				lease, err := p.Acquire(ctx, ids[i])
				switch {
				case err == nil:
					lease.Release()
					opened.Add(1)
				case errors.Is(err, errors.Suspended), errors.Is(err, errors.NotFound):
				default:
					failed.Add(1)
					once.Do(func() { first = err })
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return int(opened.Load()), ended(ctx, "warm pool", "")
	}
	if first != nil {
		return int(opened.Load()), fmt.Errorf("%d of %d tenants did not open; the first: %w", failed.Load(), len(ids), first)
	}
	return int(opened.Load()), nil
}
