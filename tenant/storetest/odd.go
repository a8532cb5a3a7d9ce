package storetest

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
)

// What databases find hard, and which must not keep the rest of a flush from
// being stored: a monitor would try the same flush for ever.

// oddTenants are ids that are no texts to some database, in their order.
var oddTenants = []string{"\x00", "\x00a", "a", "a\x00", "a\x00b", "a'\\b", "\xc3", "ä", "\xff\xfe"}

func (s suite) oddHealth(t *testing.T) {
	store := s.Health(s.Open(t, s.ring))
	var list []health.Snapshot
	for i := range oddTenants { // backwards
		list = append(list, health.Snapshot{Tenant: oddTenants[len(oddTenants)-1-i], Requests: 1})
	}
	list[0].Webhook = &health.WebhookInfo{LastError: "a\x00b \xff\U0010ffff"}
	given := list[0].Tenant
	for seq := range 2 {
		require.NoError(t, store.Merge(t.Context(), health.Flush{Writer: "w", Seq: uint64(seq + 1)}, list))
	}
	assert.Equal(t, given, list[0].Tenant, "a list that is passed stays as it is")
	var got []string
	for after := ""; ; {
		page, err := store.Load(t.Context(), after, 2)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		for _, snap := range page {
			assert.EqualValues(t, 2, snap.Requests)
			got = append(got, snap.Tenant)
		}
		after = got[len(got)-1]
	}
	assert.Equal(t, oddTenants, got)
	for _, id := range oddTenants {
		require.NoError(t, store.Delete(t.Context(), id, time.Time{}))
	}
	left, err := store.Load(t.Context(), "", 0)
	require.NoError(t, err)
	assert.Empty(t, left)

	// Nobody is to do so, and nothing is lost.
	twice := []health.Snapshot{{Tenant: "b", Requests: 1}, {Tenant: "a", Requests: 1}, {Tenant: "b", Requests: 2}}
	require.NoError(t, store.Merge(t.Context(), health.Flush{Writer: "w", Seq: 3}, twice))
	assert.Equal(t, []health.Snapshot{{Tenant: "b", Requests: 1}, {Tenant: "a", Requests: 1}, {Tenant: "b", Requests: 2}}, twice)
	left, err = store.Load(t.Context(), "a", 0)
	require.NoError(t, err)
	require.Len(t, left, 1)
	assert.EqualValues(t, 3, left[0].Requests)
}

func (s suite) oddUsage(t *testing.T) {
	store := s.Usage(s.Open(t, s.ring))
	ctx := t.Context()
	far := time.Date(9999, 12, 31, 23, 0, 0, 0, time.UTC)
	starts := []time.Time{{}, firstHour, far}
	var list []usage.Rollup
	for _, id := range oddTenants {
		for _, start := range starts {
			list = append(list, usage.Rollup{Tenant: id, Start: start, Requests: 1,
				Methods: []usage.MethodCount{{Method: "a\x00b", Requests: 1}}})
		}
	}
	list = append(list, usage.Rollup{Tenant: "a", Start: firstHour, Requests: 1}) // twice
	require.NoError(t, store.Add(ctx, health.Flush{Writer: "w", Seq: 1}, list))
	check := func(extra uint64) {
		t.Helper()
		for _, id := range oddTenants {
			got, err := store.Range(ctx, id, time.Unix(math.MinInt64/2, 0), time.Unix(math.MaxInt64/2, 0))
			require.NoError(t, err)
			require.Len(t, got, len(starts), "%q", id)
			want := uint64(len(starts))
			if id == "a" {
				want += extra
			}
			assert.Equal(t, want, requestsOf(got), "%q", id)
			assert.Equal(t, id, got[0].Tenant)
		}
	}
	check(1)
	for _, limit := range []int{0, -1} {
		n, err := store.Compact(ctx, far.AddDate(90_000, 0, 0), limit)
		require.NoError(t, err)
		assert.Zero(t, n)
		n, err = store.Prune(ctx, far.AddDate(90_000, 0, 0), limit)
		require.NoError(t, err)
		assert.Zero(t, n)
	}
	n, err := store.Compact(ctx, far.AddDate(90_000, 0, 0), 1000)
	require.NoError(t, err)
	assert.Equal(t, len(oddTenants)*len(starts), n)
	check(1)
	n, err = store.Prune(ctx, firstHour.Add(time.Nanosecond), 1000)
	require.NoError(t, err)
	assert.Equal(t, len(oddTenants)*2, n)
	ids, err := store.Tenants(ctx, "", 0)
	require.NoError(t, err)
	assert.Equal(t, oddTenants, ids)
	for _, id := range oddTenants {
		require.NoError(t, store.Delete(ctx, id, time.Time{}))
	}
	n, err = store.Prune(ctx, far.AddDate(90_000, 0, 0), 1000)
	require.NoError(t, err)
	assert.Zero(t, n)

	// Between two instants that a database holds is still before or after.
	require.NoError(t, store.Add(ctx, health.Flush{Writer: "w", Seq: 2}, []usage.Rollup{{Tenant: "a", Start: firstHour, Requests: 1}}))
	for _, c := range []struct {
		from, to time.Time
		want     int
	}{
		{firstHour, firstHour.Add(1), 1},
		{firstHour.Add(-1), firstHour, 0},
		{firstHour.Add(1), firstHour.Add(time.Hour), 0},
		{firstHour.Add(time.Hour), firstHour.Add(-time.Hour), 0},
	} {
		got, err := store.Range(ctx, "a", c.from, c.to)
		require.NoError(t, err)
		assert.Len(t, got, c.want, "from %v to %v", c.from, c.to)
	}
	require.ErrorIs(t, store.Add(ctx, health.Flush{Writer: "\x00\xff", Seq: 1 << 63}, []usage.Rollup{{}}), errors.BadRequest)
}
