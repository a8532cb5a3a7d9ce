package storetest

import (
	"fmt"
	"sort"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant"
)

func (s suite) list(t *testing.T) {
	t.Run("ids are in the order of their bytes", func(t *testing.T) {
		store := s.Open(t, s.ring)
		want := []string{"a", "B", "Z", "z", "_", "-", "aa", "a b", "ä", "é", "я", "10", "9", "🎉", "\uffee", "A", "%", "'"}
		for i, id := range want {
			put(t, store, Record(t, id, int64(i+1)))
		}
		sort.Strings(want)
		var got []string
		for _, r := range listAll(t, store, tenant.Filter{Limit: 1}) {
			got = append(got, r.ID)
		}
		assert.Equal(t, want, got)
	})
	t.Run("filters select by status and health", func(t *testing.T) {
		store := s.Open(t, s.ring)
		health := map[string]string{}
		for i := range 60 {
			r := Record(t, fmt.Sprintf("t%02d", i), int64(i+1))
			r.Status = tenant.Status(i % 3)
			put(t, store, r)
			if i%4 > 0 {
				health[r.ID] = []string{"", "healthy", "degraded", "down"}[i%4]
			}
		}
		require.NoError(t, store.SetHealth(t.Context(), health))
		for name, row := range map[string]struct {
			filter tenant.Filter
			want   int
		}{
			"all":                      {tenant.Filter{}, 60},
			"one status":               {tenant.Filter{Status: []tenant.Status{tenant.Quarantined}}, 20},
			"two":                      {tenant.Filter{Status: []tenant.Status{tenant.Quarantined, tenant.Active}}, 40},
			"one health":               {tenant.Filter{Health: []string{"down"}}, 15},
			"not known, or down":       {tenant.Filter{Health: []string{"", "down"}}, 30},
			"a health that nobody has": {tenant.Filter{Health: []string{"'"}}, 0},
			"both":                     {tenant.Filter{Status: []tenant.Status{tenant.Active}, Health: []string{"down"}}, 5},
			"after":                    {tenant.Filter{Status: []tenant.Status{tenant.Active}, After: "t29"}, 10},
		} {
			row.filter.Limit = 7
			assert.Len(t, listAll(t, store, row.filter), row.want, name)
		}
	})
}

func (s suite) log(t *testing.T) {
	store := s.Open(t, s.ring)
	ctx := t.Context()
	a := put(t, store, Record(t, "a", 1), entry("first"))
	a = put(t, store, a, entry("second"), entry("third 🎉"))
	_, err := store.Put(ctx, Record(t, "b", 1), entry("refused"))
	require.Error(t, err)
	stale := a
	stale.Version--
	_, err = store.Put(ctx, stale, entry("refused"))
	require.Error(t, err)
	require.Error(t, store.Delete(ctx, "a", 1, entry("refused")))
	put(t, store, Record(t, "b", 2), entry("other"))
	put(t, store, Record(t, "c", 3)) // without a word
	require.NoError(t, store.Delete(ctx, "a", a.Version, entry("gone")))

	all := logOf(t, store, "")
	require.Len(t, all, 5)
	var details []string
	for i, e := range all {
		details = append(details, e.Detail)
		if i > 0 {
			assert.Greater(t, e.Seq, all[i-1].Seq)
		}
	}
	assert.Equal(t, []string{"first", "second", "third 🎉", "other", "gone"}, details)
	mine := logOf(t, store, "a")
	require.Len(t, mine, 4)
	want := entry("gone")
	want.Seq, want.Tenant, want.BotID, want.Version = mine[3].Seq, "a", 1, 2
	assert.Equal(t, want, mine[3], "the log outlives the tenant")
	assert.Equal(t, int64(1), mine[0].Version)

	page, err := store.Log(ctx, tenant.LogFilter{After: all[1].Seq, Limit: 2})
	require.NoError(t, err)
	assert.Equal(t, all[2:4], page)
	put(t, store, Record(t, "a", 1), entry("back"))
	assert.Len(t, logOf(t, store, "a"), 5)
}
