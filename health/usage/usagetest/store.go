package usagetest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
)

// TestStore tests stores that open returns. Each must be empty; what open
// registers with t.Cleanup closes it.
func TestStore(t *testing.T, open func(*testing.T) usage.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, usage.Store)
	}{
		{"what was added comes back", comesBack},
		{"roll-ups of one hour are added", added},
		{"what was refused is counted apart, also what was stored before it was", refused},
		{"a flush counts once", once},
		{"a flush is applied whole or not at all", whole},
		{"a range is of one tenant, from its start to before its end", ranges},
		{"hours become days and lose nothing", compact},
		{"days that are too old are removed", prune},
		{"what was deleted is gone", deleted},
		{"what begins before a time is deleted, and the rest stays", deletedBefore},
		{"tenants are listed once, by id", tenants},
		{"errors have their kinds", kinds},
		{"writers at the same time lose nothing", concurrent},
		{"of several that compact none takes what another has", compactTogether},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

var (
	ctx  = context.Background()
	noon = time.Date(2026, 3, 29, 12, 0, 0, 0, time.UTC)
	ever = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
)

// full returns a roll-up with something in each field, as a recorder makes it.
func full(t *testing.T, tenant string, start time.Time, chats int) usage.Rollup {
	t.Helper()
	memory := usage.NewMemoryStore()
	r, err := usage.New(usage.Config{Store: memory})
	require.NoError(t, err)
	for i := range chats {
		at := start.Add(time.Duration(i) * time.Millisecond)
		kind := errors.None
		if i%7 == 0 {
			kind = errors.Blocked
		}
		r.Observe(tenant, usage.Call{At: at, Method: []string{"sendMessage", "getMe"}[i%2], Chat: usage.Chat{ID: int64(i + 1)}, Kind: kind,
			Latency: time.Duration(i+1) * time.Millisecond})
		r.Update(tenant, usage.Update{At: at, Type: "message", Chat: usage.Chat{Username: fmt.Sprintf("@chat_%d", i%5)}})
	}
	require.NoError(t, r.Flush(ctx))
	list, err := memory.Range(ctx, tenant, start, start.Add(time.Hour))
	require.NoError(t, err)
	require.Len(t, list, 1)
	return list[0]
}

func add(t *testing.T, s usage.Store, writer string, seq uint64, rollups ...usage.Rollup) {
	t.Helper()
	require.NoError(t, s.Add(ctx, health.Flush{Writer: writer, Seq: seq}, rollups))
}

func all(t *testing.T, s usage.Store, tenant string) []usage.Rollup {
	t.Helper()
	list, err := s.Range(ctx, tenant, time.Time{}, ever)
	require.NoError(t, err)
	for i := range list {
		require.NoError(t, list[i].Check())
		require.Equal(t, tenant, list[i].Tenant)
		if i > 0 {
			require.False(t, list[i].Start.Before(list[i-1].Start), "in order")
		}
	}
	return list
}

func same(t *testing.T, want, got usage.Rollup) {
	t.Helper()
	w, err := json.Marshal(want)
	require.NoError(t, err)
	g, err := json.Marshal(got)
	require.NoError(t, err)
	assert.JSONEq(t, string(w), string(g))
}

func refused(t *testing.T, s usage.Store) {
	// As versions wrote it that counted what was refused as failed requests.
	old := usage.Rollup{Tenant: "a", Start: noon, Requests: 10, Failures: 6,
		Kinds: []usage.KindCount{{Kind: errors.Throttled, Count: 3}, {Kind: errors.Blocked, Count: 1}, {Kind: errors.BreakerOpen, Count: 2}}}
	add(t, s, "old", 1, old)
	now := usage.Rollup{Tenant: "a", Start: noon, Requests: 4, Failures: 1, Refused: 7, Kinds: []usage.KindCount{{Kind: errors.Blocked, Count: 1}}}
	add(t, s, "new", 1, now)
	add(t, s, "new", 2, now)
	add(t, s, "old", 2, old) // a replica of before
	list := all(t, s, "a")
	require.Len(t, list, 1)
	r := list[0]
	assert.Equal(t, []uint64{5 + 4 + 4 + 5, 1 + 1 + 1 + 1, 5 + 7 + 7 + 5}, []uint64{r.Requests, r.Failures, r.Refused})
	assert.Equal(t, []usage.KindCount{{Kind: errors.Blocked, Count: 4}}, r.Kinds)
}

func requests(list []usage.Rollup) (n uint64) {
	for _, r := range list {
		n += r.Requests
	}
	return n
}

func comesBack(t *testing.T, s usage.Store) {
	few, many := full(t, "täňant 🎉", noon, 50), full(t, "many", noon, 500)
	in := few.Clone()
	add(t, s, "w", 1, in, many, usage.Rollup{Tenant: "empty", Start: noon})
	in.Methods[0].Requests = 99
	got := all(t, s, few.Tenant)
	require.Len(t, got, 1)
	same(t, few, got[0])
	got[0].Methods[0].Requests = 98
	same(t, few, all(t, s, few.Tenant)[0])
	same(t, many, all(t, s, "many")[0])
	same(t, usage.Rollup{Tenant: "empty", Start: noon}, all(t, s, "empty")[0])
	assert.Empty(t, all(t, s, "nobody"))
}

func added(t *testing.T, s usage.Store) {
	a, b := full(t, "a", noon, 40), full(t, "a", noon, 130)
	other := full(t, "a", noon.Add(time.Hour), 3)
	add(t, s, "w", 1, a, other)
	add(t, s, "v", 1, b)
	want := a.Clone()
	want.Merge(&b)
	got := all(t, s, "a")
	require.Len(t, got, 2)
	same(t, want, got[0])
	same(t, other, got[1])
	assert.EqualValues(t, 170, got[0].Requests)
}

func once(t *testing.T, s usage.Store) {
	a := usage.Rollup{Tenant: "a", Start: noon, Requests: 1}
	add(t, s, "w", 1, a)
	add(t, s, "w", 1, a)
	add(t, s, "w", 7, a) // numbers may be left out
	add(t, s, "w", 7, a)
	add(t, s, "w", 3, a, usage.Rollup{Tenant: "b", Start: noon, Requests: 1})
	add(t, s, "v", 1, a)
	add(t, s, "v", 1<<40)
	add(t, s, "v", 1<<40, a)
	assert.EqualValues(t, 3, requests(all(t, s, "a")))
	assert.Empty(t, all(t, s, "b"))
}

func whole(t *testing.T, s usage.Store) {
	a := usage.Rollup{Tenant: "a", Start: noon, Requests: 1}
	for _, bad := range []usage.Rollup{
		{Start: noon},
		{Tenant: "b", Start: noon.Add(time.Second)},
		{Tenant: "b", Start: noon, Daily: true},
		{Tenant: "b", Start: noon.In(time.FixedZone("x", 3600))},
	} {
		require.ErrorIs(t, s.Add(ctx, health.Flush{Writer: "w", Seq: 1}, []usage.Rollup{a, bad}), errors.BadRequest)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, s.Add(done, health.Flush{Writer: "w", Seq: 1}, []usage.Rollup{a}), errors.Canceled)
	assert.Empty(t, all(t, s, "a"))
	add(t, s, "w", 1, a) // the number is not used up
	assert.Len(t, all(t, s, "a"), 1)
}

func ranges(t *testing.T, s usage.Store) {
	var list []usage.Rollup
	for i := range 100 {
		list = append(list, usage.Rollup{Tenant: "a", Start: noon.Add(time.Duration(i*37%100) * time.Hour), Requests: 1})
	}
	list = append(list, usage.Rollup{Tenant: "A", Start: noon, Requests: 1}, usage.Rollup{Tenant: "a ", Start: noon, Requests: 1})
	add(t, s, "w", 1, list...)
	got, err := s.Range(ctx, "a", noon.Add(10*time.Hour), noon.Add(20*time.Hour))
	require.NoError(t, err)
	require.Len(t, got, 10)
	for i, r := range got {
		assert.Equal(t, noon.Add(time.Duration(10+i)*time.Hour), r.Start)
	}
	assert.Len(t, all(t, s, "a"), 100)
	assert.Len(t, all(t, s, "A"), 1)
	got, err = s.Range(ctx, "a", noon.In(time.FixedZone("x", -7200)), noon.Add(1))
	require.NoError(t, err)
	assert.Len(t, got, 1)
	got, err = s.Range(ctx, "a", noon, noon)
	require.NoError(t, err)
	assert.Empty(t, got)
}

func compact(t *testing.T, s usage.Store) {
	day := noon.Truncate(usage.Day)
	var want usage.Rollup
	seq := uint64(0)
	for i := range 30 { // 24 of the day and 6 of the next
		r := full(t, "a", day.Add(time.Duration(i)*time.Hour), 10+i)
		seq++
		add(t, s, "w", seq, r, full(t, fmt.Sprint("b", i), r.Start, 2))
		if i < 24 {
			want.Merge(&r)
		}
	}
	before := requests(all(t, s, "a"))
	total := 0
	for {
		n, err := s.Compact(ctx, day.Add(usage.Day), 7)
		require.NoError(t, err)
		require.LessOrEqual(t, n, 7)
		assert.Equal(t, before, requests(all(t, s, "a")))
		if total += n; n == 0 {
			break
		}
	}
	assert.Equal(t, 48, total)
	got := all(t, s, "a")
	require.Len(t, got, 7)
	require.True(t, got[0].Daily)
	want.Tenant, want.Start, want.Daily = "a", day, true
	assert.Equal(t, want.Requests, got[0].Requests)
	assert.Equal(t, want.Failures, got[0].Failures)
	assert.Equal(t, want.Received, got[0].Received)
	assert.Equal(t, want.Latency, got[0].Latency)
	assert.Equal(t, want.Latencies.Quantile(0.95), got[0].Latencies.Quantile(0.95))
	assert.Equal(t, want.Unique.Count(), got[0].Unique.Count())
	assert.Equal(t, want.LastActive, got[0].LastActive)

	// What comes late for a day that was compacted is added to it in turn.
	add(t, s, "v", 1, usage.Rollup{Tenant: "a", Start: day.Add(3 * time.Hour), Requests: 1000})
	assert.Len(t, all(t, s, "a"), 8)
	n, err := s.Compact(ctx, day.Add(usage.Day), 100)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Equal(t, want.Requests+1000, all(t, s, "a")[0].Requests)
	add(t, s, "v", 1, usage.Rollup{Tenant: "a", Start: day.Add(3 * time.Hour), Requests: 1000})
	assert.Len(t, all(t, s, "a"), 7, "a repetition")
}

func prune(t *testing.T, s usage.Store) {
	day := noon.Truncate(usage.Day)
	for i := range 10 {
		start := day.Add(time.Duration(i) * usage.Day)
		add(t, s, "w", uint64(i+1), usage.Rollup{Tenant: "a", Start: start, Daily: true, Requests: 1}, usage.Rollup{Tenant: "b", Start: start, Requests: 1})
	}
	n, err := s.Prune(ctx, day.Add(5*usage.Day), 3)
	require.NoError(t, err)
	assert.Equal(t, 3, n)
	n, err = s.Prune(ctx, day.Add(5*usage.Day), 3)
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	n, err = s.Prune(ctx, day.Add(5*usage.Day), 3)
	require.NoError(t, err)
	assert.Zero(t, n)
	got := all(t, s, "a")
	require.Len(t, got, 5)
	assert.Equal(t, day.Add(5*usage.Day), got[0].Start)
	assert.Len(t, all(t, s, "b"), 10, "hours are not removed")
}

func deleted(t *testing.T, s usage.Store) {
	a := usage.Rollup{Tenant: "a", Start: noon, Requests: 1}
	day := usage.Rollup{Tenant: "a", Start: noon.Truncate(usage.Day), Daily: true, Requests: 1}
	add(t, s, "w", 1, a, day, usage.Rollup{Tenant: "b", Start: noon})
	require.NoError(t, s.Delete(ctx, "a", time.Time{}))
	require.NoError(t, s.Delete(ctx, "a", time.Time{}))
	require.NoError(t, s.Delete(ctx, "nobody", time.Time{}))
	assert.Empty(t, all(t, s, "a"))
	assert.Len(t, all(t, s, "b"), 1)
	add(t, s, "w", 1, a) // repeated: stays deleted
	assert.Empty(t, all(t, s, "a"))
	add(t, s, "w", 2, a)
	assert.Len(t, all(t, s, "a"), 1)
}

func deletedBefore(t *testing.T, s usage.Store) {
	day := noon.Truncate(usage.Day)
	add(t, s, "w", 1,
		usage.Rollup{Tenant: "a", Start: day, Daily: true, Requests: 1}, usage.Rollup{Tenant: "a", Start: noon, Requests: 2},
		usage.Rollup{Tenant: "a", Start: noon.Add(time.Hour), Requests: 4}, usage.Rollup{Tenant: "b", Start: noon, Requests: 8})
	require.NoError(t, s.Delete(ctx, "a", day))
	assert.Len(t, all(t, s, "a"), 3)
	require.NoError(t, s.Delete(ctx, "a", noon.Add(time.Hour)))
	left := all(t, s, "a")
	require.Len(t, left, 1)
	assert.EqualValues(t, 4, left[0].Requests)
	assert.Len(t, all(t, s, "b"), 1)
	require.NoError(t, s.Delete(ctx, "a", ever))
	assert.Empty(t, all(t, s, "a"))
}

func tenants(t *testing.T, s usage.Store) {
	none, err := s.Tenants(ctx, "", 10)
	require.NoError(t, err)
	assert.Empty(t, none)
	// Bytes decide on the order, not a language.
	want := []string{"B", "T000", "a", "t", "t1", "é", "–"}
	var rollups []usage.Rollup
	for i, id := range want {
		for hour := range i + 1 {
			rollups = append(rollups, usage.Rollup{Tenant: id, Start: noon.Add(time.Duration(hour) * time.Hour), Requests: 1})
		}
	}
	rollups = append(rollups, usage.Rollup{Tenant: "day", Start: noon.Truncate(usage.Day), Daily: true})
	want = slices.Insert(want, 3, "day")
	add(t, s, "w", 1, rollups...)
	for _, limit := range []int{1, 3, len(want), 1000, 0, -1} {
		var got []string
		for after := ""; ; after = got[len(got)-1] {
			page, err := s.Tenants(ctx, after, limit)
			require.NoError(t, err)
			if limit > 0 {
				require.LessOrEqual(t, len(page), limit)
			}
			if len(page) == 0 {
				break
			}
			got = append(got, page...)
		}
		assert.Equal(t, want, got, "limit %d", limit)
	}
	between, err := s.Tenants(ctx, "c", 2) // after one that is not there
	require.NoError(t, err)
	assert.Equal(t, []string{"day", "t"}, between)
	require.NoError(t, s.Delete(ctx, "t", time.Time{}))
	between, err = s.Tenants(ctx, "day", 1)
	require.NoError(t, err)
	assert.Equal(t, []string{"t1"}, between)
}

func kinds(t *testing.T, s usage.Store) {
	for _, bad := range []health.Flush{{}, {Writer: "w"}, {Seq: 1}} {
		assert.ErrorIs(t, s.Add(ctx, bad, nil), errors.BadRequest)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	_, err := s.Range(done, "a", noon, ever)
	assert.ErrorIs(t, err, errors.Canceled)
	_, err = s.Compact(done, noon, 1)
	assert.ErrorIs(t, err, errors.Canceled)
	_, err = s.Prune(done, noon, 1)
	assert.ErrorIs(t, err, errors.Canceled)
	assert.ErrorIs(t, s.Delete(done, "a", time.Time{}), errors.Canceled)
	_, err = s.Tenants(done, "", 1)
	assert.ErrorIs(t, err, errors.Canceled)
}

func concurrent(t *testing.T, s usage.Store) {
	const writers, flushes = 8, 15
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for seq := range flushes {
				list := []usage.Rollup{{Tenant: "a", Start: noon, Requests: 1}, {Tenant: "b", Start: noon, Requests: 2}}
				if w%2 == 0 { // all write the same rows, in different orders
					list[0], list[1] = list[1], list[0]
				}
				for range 2 { // the second time it is a repetition
					assert.NoError(t, s.Add(ctx, health.Flush{Writer: fmt.Sprint(w), Seq: uint64(seq + 1)}, list))
				}
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, writers*flushes, requests(all(t, s, "a")))
	assert.EqualValues(t, 2*writers*flushes, requests(all(t, s, "b")))
}

func compactTogether(t *testing.T, s usage.Store) {
	day := noon.Truncate(usage.Day)
	const tenants = 10
	for i := range 24 {
		var list []usage.Rollup
		for k := range tenants {
			list = append(list, usage.Rollup{Tenant: fmt.Sprint(k), Start: day.Add(time.Duration(i) * time.Hour), Requests: uint64(1 + i)})
		}
		add(t, s, "w", uint64(i+1), list...)
	}
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			// One that finds all that is left in another's hands may return 0, so
			// each looks a few times more.
			for idle := 0; idle < 5; {
				n, err := s.Compact(ctx, day.Add(usage.Day), 11)
				if !assert.NoError(t, err) {
					return
				}
				taken.Add(int64(n))
				if n == 0 {
					idle++
				}
			}
		})
	}
	wg.Wait()
	for n := 1; n > 0; { // what all of them left, if anything
		var err error
		n, err = s.Compact(ctx, day.Add(usage.Day), 1000)
		require.NoError(t, err)
		taken.Add(int64(n))
	}
	assert.EqualValues(t, 24*tenants, taken.Load())
	for k := range tenants {
		got := all(t, s, fmt.Sprint(k))
		require.Len(t, got, 1)
		assert.EqualValues(t, 24*25/2, got[0].Requests)
	}
}
