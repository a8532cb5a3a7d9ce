package usage

import (
	"context"
	"time"

	"github.com/tgfleet/tgfleet/health"
)

// Store keeps [Rollup]s. Implementations are safe for concurrent use by many
// replicas, obey ctx, and return errors with the kinds named here; any other
// failure has the kind that fits it, and [errors.Internal] where none does.
// Roll-ups go in and come out as copies. Package usagetest has the suite that
// each must pass.
type Store interface {
	// Add adds each of the roll-ups to what is stored under its tenant, start
	// and Daily, as [Rollup.Merge] does; where nothing is stored it is stored
	// as it is. No key comes twice in a call.
	//
	// A flush is applied whole or not at all, and once, as in
	// [health.Store]'s Merge: if one of the same writer with this sequence
	// number or a greater one was applied before, Add changes nothing and
	// returns nil. Writers of health and usage are told apart by their names,
	// which are random, so both may share a table.
	//
	// Several may add to the same keys at the same time, in any order.
	//
	// The error is [errors.BadRequest] for a flush or a roll-up with which its
	// Check finds fault.
	Add(ctx context.Context, flush health.Flush, rollups []Rollup) error

	// Range returns the tenant's roll-ups, hourly and daily, whose Start is in
	// [from, to), by ascending Start. An empty result is no error.
	Range(ctx context.Context, tenant string, from, to time.Time) ([]Rollup, error)

	// Compact takes at most limit hourly roll-ups, of any tenants, whose Start
	// is before the given time, and adds each to the daily one of its tenant
	// and UTC day, with [Rollup.Merge]; it returns how many it took. A call
	// happens whole or not at all, and of several at the same time none takes
	// what another has.
	Compact(ctx context.Context, before time.Time, limit int) (int, error)

	// Prune removes at most limit daily roll-ups whose Start is before the
	// given time, and returns how many it removed.
	Prune(ctx context.Context, before time.Time, limit int) (int, error)

	// Tenants returns the tenants of whom there is a roll-up, in ascending order
	// (compared byte by byte), at most limit of them, beginning after the given
	// one; "" begins at the start. An empty result is the end and no error. A
	// limit of 0 and less means [health.DefaultLimit].
	Tenants(ctx context.Context, after string, limit int) ([]string, error)

	// Delete removes those of a tenant's roll-ups whose Start is before the
	// given time; the zero time removes all. It is no error if there are none.
	Delete(ctx context.Context, tenant string, before time.Time) error
}
