package sqlstore

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health/usage"
)

// Rollups returns roll-ups in the order in which their rows are locked and
// written: hours before days, since Compact holds hours while it waits for days.
// The list stays as it is.
func Rollups(list []usage.Rollup) ([]usage.Rollup, error) {
	for i := range list {
		if err := list[i].Check(); err != nil {
			return nil, err
		}
	}
	return inOrder(list, compareRollups, func(r usage.Rollup) usage.Rollup { return r.Clone() }, (*usage.Rollup).Merge), nil
}

func compareRollups(a, b *usage.Rollup) int {
	if a.Daily != b.Daily {
		if b.Daily {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), a.Start.Compare(b.Start))
}

// Days adds hours up to the days in which they are, in the order of Rollups. It
// changes the list.
func Days(hours []usage.Rollup) ([]usage.Rollup, error) {
	// By time, so that what is beyond the 64 most does not hang on chance.
	slices.SortFunc(hours, func(a, b usage.Rollup) int { return compareRollups(&a, &b) })
	for i := range hours {
		hours[i].Daily, hours[i].Start = true, hours[i].Start.Truncate(usage.Day)
	}
	return Rollups(hours)
}

// AddRollup returns what is to be stored once a roll-up was added to what is
// stored under its key, nil for nothing.
func AddRollup(op string, stored []byte, add *usage.Rollup) ([]byte, error) {
	sum := usage.Rollup{Tenant: add.Tenant, Start: add.Start, Daily: add.Daily}
	if stored != nil {
		var err error
		if sum, err = ParseRollup(op, add.Tenant, stored); err != nil {
			return nil, err
		}
	}
	sum.Merge(add)
	text, err := json.Marshal(&sum)
	if err != nil { // a year that RFC 3339 has not
		return nil, Fail(op, add.Tenant, errors.BadRequest, err)
	}
	return text, nil
}

// ParseRollup reads what AddRollup returned.
func ParseRollup(op, tenant string, stored []byte) (r usage.Rollup, err error) {
	if err := json.Unmarshal(stored, &r); err != nil {
		return usage.Rollup{}, Fail(op, tenant, errors.Internal, err)
	}
	r.Tenant = tenant // see ParseSnapshot
	return r, nil
}

// The starts of roll-ups that can be stored are between these.
var (
	firstStart = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	lastStart  = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Bound returns the earliest time that a database can hold and that no start is
// between: a start is before one where it is before the other.
func Bound(t time.Time) time.Time {
	switch {
	case t.Before(firstStart):
		return firstStart
	case t.After(lastStart):
		return lastStart
	}
	whole := t.UTC().Truncate(time.Microsecond) // what databases hold; a start is a full hour
	if whole.Before(t) {
		whole = whole.Add(time.Microsecond)
	}
	return whole
}

// End is Bound for where the zero time means that there is none.
func End(before time.Time) time.Time {
	if before.IsZero() {
		return lastStart
	}
	return Bound(before)
}
