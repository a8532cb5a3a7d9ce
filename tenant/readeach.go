package tenant

import (
	"context"

	"github.com/tgfleet/tgfleet/errors"
)

// How many queries readEach makes for opens. One row that can't be read among a
// thousand takes 21, and ten take about 150. A store that has answered none of
// the first ones has more than a few rows that it can't read.
const (
	maxReads  = 200
	hopeless  = 31
	unbounded = 1 << 30
)

// readEach reads tenants like [Store].GetMany. Where that fails in a way that
// waiting may not mend, there may be a row that can't be read, and the others
// are not to fail for it: it halves what it asks for until it knows which, and
// returns the rows that can be read, and of the others why not. It asks at most
// so many times; what it has not asked for by then fails too.
//
// The error is one of another kind, such as that the store has gone away. Of
// those that were not read yet failed says so too.
func readEach(ctx context.Context, store Store, ids []string, most int) (found map[string]Record, failed map[string]error, err error) {
	found = make(map[string]Record, len(ids))
	failed = make(map[string]error)
	read := 0 // queries that were answered
	groups := [][]string{ids}
	var last error
	for asked := 0; len(groups) > 0; asked++ {
		if asked >= most || most < unbounded && asked == hopeless && read == 0 {
			failAll(failed, groups, last)
			break
		}
		some := groups[0]
		groups = groups[1:]
		err := readSome(ctx, store, some, found)
		switch {
		case err == nil:
			read++
			continue
		case !errors.Is(err, errors.Internal):
			failAll(failed, append(groups, some), err)
			return found, failed, err
		case len(some) == 1:
			failed[some[0]] = err
		default:
			half := len(some) / 2
			groups = append(groups, some[:half], some[half:])
		}
		last = err
	}
	return found, failed, nil
}

func failAll(failed map[string]error, groups [][]string, err error) {
	for _, some := range groups {
		for _, id := range some {
			failed[id] = err
		}
	}
}

// readSome adds to found what one query returns.
func readSome(ctx context.Context, store Store, ids []string, found map[string]Record) error {
	if len(ids) == 1 {
		r, err := store.Get(ctx, ids[0])
		switch {
		case err == nil:
			found[ids[0]] = r
		case errors.Is(err, errors.NotFound):
			return nil
		}
		return err
	}
	some, err := store.GetMany(ctx, ids)
	if err != nil {
		return err
	}
	for id, r := range some {
		found[id] = r
	}
	return nil
}
