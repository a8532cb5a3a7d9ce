package sqlstore

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
)

// CheckFlush refuses a flush that names no write, or not in a way that a
// database can keep.
func CheckFlush(op string, f health.Flush) error {
	if err := f.Check(); err != nil {
		return err
	}
	if !Storable(f.Writer) || f.Seq > math.MaxInt64 {
		return Fail(op, "", errors.BadRequest, errors.New("writer is not UTF-8 or has a NUL, or its number is too large"))
	}
	return nil
}

// Snapshots returns the snapshots of a flush in the order in which their rows
// are locked and written, which must be one for all. The list stays as it is.
func Snapshots(op string, list []health.Snapshot) ([]health.Snapshot, error) {
	for i := range list {
		if list[i].Tenant == "" {
			return nil, Fail(op, "", errors.BadRequest, errors.New("tenant is empty"))
		}
	}
	return inOrder(list,
		func(a, b *health.Snapshot) int { return cmp.Compare(a.Tenant, b.Tenant) },
		health.Snapshot.Clone,
		func(to, add *health.Snapshot) { to.Merge(*add) }), nil
}

// inOrder returns the list sorted. Those that are equal become one: nobody is to
// pass such, but a row that is written twice in a statement would be lost.
func inOrder[T any](list []T, compare func(a, b *T) int, clone func(T) T, merge func(to, add *T)) []T {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b T) int { return compare(&a, &b) })
	kept, own := list[:0], false
	for i := range list {
		next := list[i]
		last := len(kept) - 1
		if last < 0 || compare(&kept[last], &next) != 0 {
			kept, own = append(kept, next), false
			continue
		}
		if !own {
			kept[last], own = clone(kept[last]), true
		}
		merge(&kept[last], &next)
	}
	return kept
}

// AddSnapshot returns what is to be stored once a snapshot was added to what is
// stored, nil for nothing.
func AddSnapshot(op string, stored []byte, add *health.Snapshot) ([]byte, error) {
	var sum health.Snapshot
	if stored != nil {
		var err error
		if sum, err = ParseSnapshot(op, add.Tenant, stored); err != nil {
			return nil, err
		}
	}
	sum.Merge(*add)
	text, err := json.Marshal(&sum)
	if err != nil { // a year that RFC 3339 has not
		return nil, Fail(op, add.Tenant, errors.BadRequest, err)
	}
	return text, nil
}

// ParseSnapshot reads what AddSnapshot returned.
func ParseSnapshot(op, tenant string, stored []byte) (s health.Snapshot, err error) {
	if err := json.Unmarshal(stored, &s); err != nil {
		return health.Snapshot{}, Fail(op, tenant, errors.Internal, err)
	}
	s.Tenant = tenant // JSON holds no text that is not UTF-8, and the key does
	return s, nil
}
