package storetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
)

func (s suite) pages(t *testing.T) {
	t.Run("hold all once, while others come and go before, in and after them", s.pagesUnderChanges)
	t.Run("of the log miss nothing that is written meanwhile", s.logUnderChanges)
	t.Run("of the log are short once it was pruned", s.pruned)
}

// pagesUnderChanges walks while another adds and removes around the cursor. Who
// was there all the time, and who came after the cursor, is seen once; who came
// before it, or left before the walk got there, is not.
func (s suite) pagesUnderChanges(t *testing.T) {
	stores := s.two(t)
	reader, writer := stores[0], stores[1]
	bot := int64(0)
	add := func(id string) {
		bot++
		put(t, writer, Record(t, id, bot))
	}
	remove := func(id string) {
		r, err := writer.Get(t.Context(), id)
		require.NoError(t, err)
		require.NoError(t, writer.Delete(t.Context(), id, r.Version))
	}
	want := make(map[string]bool)
	for i := range 120 {
		id := fmt.Sprintf("m%03d", i)
		add(id)
		want[id] = true
	}
	var seen []string
	for page := 0; ; page++ {
		f := tenant.Filter{Limit: 20}
		if len(seen) > 0 {
			f.After = seen[len(seen)-1]
		}
		records, err := reader.List(t.Context(), f)
		require.NoError(t, err)
		require.LessOrEqual(t, len(records), f.Limit)
		if len(records) == 0 {
			break
		}
		for _, r := range records {
			seen = append(seen, r.ID)
		}
		if page > 5 {
			continue
		}
		first, middle, last := records[0].ID, records[len(records)/2].ID, records[len(records)-1].ID
		add(fmt.Sprint("a", page)) // before all
		add(middle + "+")          // in the page that was read
		add(last + "+")            // next
		want[last+"+"] = true
		add(fmt.Sprint("z", page)) // at the end
		want[fmt.Sprint("z", page)] = true
		remove(first)
		remove(middle)
		add(middle) // anew, behind the cursor
		if page < 5 {
			ahead := fmt.Sprintf("m%03d", (page+1)*20+5)
			remove(ahead)
			delete(want, ahead)
			returned := fmt.Sprintf("m%03d", (page+1)*20+10)
			remove(returned)
			add(returned)
		}
		remove(last) // the cursor's own
	}
	assert.Equal(t, slices.Sorted(maps.Keys(want)), seen)

	for i := range tenant.DefaultLimit {
		add(fmt.Sprintf("more%03d", i))
	}
	page, err := reader.List(t.Context(), tenant.Filter{})
	require.NoError(t, err)
	assert.Len(t, page, tenant.DefaultLimit)
	page, err = reader.List(t.Context(), tenant.Filter{After: "zzz"})
	require.NoError(t, err)
	assert.Empty(t, page)
}

// logUnderChanges reads on from the last entry while others write.
func (s suite) logUnderChanges(t *testing.T) {
	stores := s.two(t)
	const writers, changes = 6, 25
	var wg sync.WaitGroup
	done := make(chan struct{})
	for w := range writers {
		r := Record(t, fmt.Sprint("t", w), int64(w+1))
		wg.Go(func() {
			for n := range changes {
				var err error
				r, err = stores[(w+n)%2].Put(t.Context(), r, entry(fmt.Sprint(n, " a")), entry(fmt.Sprint(n, " b")))
				if !assert.NoError(t, err) {
					return
				}
			}
		})
	}
	go func() { wg.Wait(); close(done) }()
	var seen []tenant.Entry
	for f, last := (tenant.LogFilter{Limit: 7}), false; ; {
		all := closed(done)
		page, err := stores[0].Log(t.Context(), f)
		require.NoError(t, err)
		if seen = append(seen, page...); len(page) > 0 {
			f.After = page[len(page)-1].Seq
		} else if last {
			break
		}
		last = all
	}
	assert.Len(t, seen, writers*changes*2)
	assert.Equal(t, logOf(t, stores[1], ""), seen)
}

// pruner is a store that can forget old entries of the log.
type pruner interface {
	PruneLog(ctx context.Context, before time.Time, limit int) (int, error)
}

func (s suite) pruned(t *testing.T) {
	store := s.Open(t, s.ring)
	p, ok := store.(pruner)
	if !ok {
		t.Skip("the store prunes no log, or by itself")
	}
	day := time.Date(2026, 7, 3, 0, 0, 0, 0, time.UTC)
	at := func(d int) tenant.Entry {
		e := entry(fmt.Sprint("day ", d))
		e.Time = day.AddDate(0, 0, d)
		return e
	}
	untimed := entry("no time")
	untimed.Time = time.Time{}
	a := put(t, store, Record(t, "a", 1), at(0), untimed, at(3), at(1))
	a = put(t, store, a, at(2), at(1))
	for _, row := range []struct {
		before      time.Time
		limit, want int
		left        []string
	}{
		{day.AddDate(0, 0, 2), 0, 0, []string{"day 0", "no time", "day 3", "day 1", "day 2", "day 1"}},
		{day.AddDate(0, 0, 2), -1, 0, []string{"day 0", "no time", "day 3", "day 1", "day 2", "day 1"}},
		// The zero time is no time, before which nothing is, and an entry without
		// one is older than any other.
		{time.Time{}, 10, 0, []string{"day 0", "no time", "day 3", "day 1", "day 2", "day 1"}},
		{time.Time{}.In(time.FixedZone("east", 3600)), 10, 0, []string{"day 0", "no time", "day 3", "day 1", "day 2", "day 1"}},
		{time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC), 10, 1, []string{"day 0", "day 3", "day 1", "day 2", "day 1"}},
		{day, 10, 0, []string{"day 0", "day 3", "day 1", "day 2", "day 1"}},
		{day.AddDate(0, 0, 2), 1, 1, []string{"day 3", "day 1", "day 2", "day 1"}},
		{day.AddDate(0, 0, 2), 10, 2, []string{"day 3", "day 2"}},
		{day.AddDate(0, 0, 2), 10, 0, []string{"day 3", "day 2"}},
		{day.AddDate(90_000, 0, 0), 10, 2, nil},
	} {
		n, err := p.PruneLog(t.Context(), row.before, row.limit)
		require.NoError(t, err)
		assert.Equal(t, row.want, n)
		var left []string
		for _, e := range logOf(t, store, "") {
			left = append(left, e.Detail)
		}
		assert.Equal(t, row.left, left)
	}
	require.NoError(t, store.Delete(t.Context(), "a", a.Version))
	assert.Greater(t, put(t, store, Record(t, "a", 1)).Version, a.Version, "versions do not hang on the log")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.PruneLog(canceled, day, 1)
	assert.ErrorIs(t, err, errors.Canceled)
}
