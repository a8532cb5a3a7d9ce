package tenant

import (
	"context"

	"github.com/tgfleet/tgfleet/tenant/internal/pool"
)

// Lease is the use of a tenant's bot. Release it when done, on every path:
//
//	lease, err := p.Acquire(ctx, id)
//	if err != nil {
//		return err
//	}
//	defer lease.Release()
//
// A lease that the garbage collector finds not released is logged and
// released. It is found once no copy of the Lease is reachable, whether or not
// its Tenant is still used: keep the lease, not the tenant. Copies of a Lease
// are one lease. The zero Lease holds nothing.
type Lease struct {
	core pool.Lease[*Tenant]
}

// Tenant returns the tenant; nil for the zero Lease. It must not be used after
// Release.
func (l Lease) Tenant() *Tenant { return l.core.Value() }

// Context returns a context that ends when the bot is to be given up: the
// tenant was suspended or removed, or the pool no longer waits for the lease.
// It costs little, and nothing where it is not called.
func (l Lease) Context() context.Context { return l.core.Context() }

// Release ends the lease. It may be called more than once and at the same
// time; only the first call counts.
func (l Lease) Release() { l.core.Release() }
