package polling

import (
	"context"
	"time"
)

// Leases says which process polls a tenant, since Telegram lets only one:
// of two that call getUpdates with one token, each ends the other's call with
// a 409. An owner is a [Supervisor]; each has a name of its own. All of them poll
// the same tenants; those who poll others have leases of their own.
//
// Implementations are safe for concurrent use and obey ctx; their errors have
// kinds of package errors. Where several processes share the leases, times are
// the store's, not theirs. Package pollingtest tests all that is said here.
type Leases interface {
	// Acquire takes the leases of tenants for owner where they are free, and
	// extends those that owner has; both then end ttl from now, whenever they
	// would have ended before. A lease that has ended is free. holders[i] is
	// who has the lease of tenants[i] afterwards: owner, or who was before it.
	//
	// After an error nothing is known to have been taken, and some may have
	// been. A tenant may stand in tenants more than once.
	Acquire(ctx context.Context, owner string, tenants []string, ttl time.Duration) (holders []string, err error)

	// Release gives back those of the leases that owner has. The others are
	// passed over.
	Release(ctx context.Context, owner string, tenants []string) error

	// Heartbeat says that owner is there until ttl from now, and would poll up
	// to want tenants. It returns how many each owner would that is there,
	// itself too. A ttl of 0 says that owner is there no more. Leases of tenants
	// are another matter: they neither end nor go on by it.
	Heartbeat(ctx context.Context, owner string, want int, ttl time.Duration) (wants map[string]int, err error)
}
