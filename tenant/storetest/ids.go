package storetest

import (
	"sort"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
)

// ids tries ids that no record can have beside those that a store may make of
// them: by cutting at a NUL, by leaving out or replacing what is not UTF-8.
func (s suite) ids(t *testing.T) {
	store := s.Open(t, s.ring)
	stored := []string{"a", "ab", "a\ufffd", "a\ufffdb", "\ufffd"}
	want := map[string]string{}
	for i, id := range stored {
		put(t, store, Record(t, id, int64(i+1)), entry("stored"))
		want[id] = id
	}
	require.NoError(t, store.SetHealth(t.Context(), want)) // each one's health is its id
	healths := func() map[string]string {
		got := map[string]string{}
		for _, r := range listAll(t, store, tenant.Filter{}) {
			got[r.ID] = r.Health
		}
		return got
	}
	for _, id := range []string{"", "a\x00", "a\x00b", "\x00a", "a\xff", "a\xffb", "a\xc3", "\xff", "\x00", "\xed\xa0\x80"} {
		_, err := store.Get(t.Context(), id)
		assert.ErrorIs(t, err, errors.NotFound, "%q", id)
		many, err := store.GetMany(t.Context(), []string{id})
		assert.NoError(t, err, "%q", id)
		assert.Empty(t, many, "%q", id)
		many, err = store.GetMany(t.Context(), []string{id, "ab", id})
		assert.NoError(t, err, "%q", id)
		assert.Len(t, many, 1, "%q", id)
		assert.Contains(t, many, "ab", "%q", id)
		assert.ErrorIs(t, store.Delete(t.Context(), id, 1), errors.NotFound, "%q", id)
		bad := Record(t, id, 99)
		_, err = store.Put(t.Context(), bad)
		assert.ErrorIs(t, err, errors.BadRequest, "%q", id)
		bad.Version = 1
		_, err = store.Put(t.Context(), bad)
		assert.ErrorIs(t, err, errors.BadRequest, "%q", id)
		if id != "" { // which is all
			log, err := store.Log(t.Context(), tenant.LogFilter{Tenant: id})
			assert.NoError(t, err, "%q", id)
			assert.Empty(t, log, "%q", id)
		}

		assert.NoError(t, store.SetHealth(t.Context(), map[string]string{id: "of another"}), "%q", id)
		assert.NoError(t, store.SetHealth(t.Context(), map[string]string{id: "of another", "ab": "up"}), "%q", id)
		want["ab"] = "up"
		assert.Equal(t, want, healths(), "%q", id)

		if id != "" { // which is the health of those of whom nothing is known, and the beginning
			page, err := store.List(t.Context(), tenant.Filter{Health: []string{id}})
			refused(t, err)
			assert.Empty(t, page, "%q", id)
			page, err = store.List(t.Context(), tenant.Filter{After: id})
			if !refused(t, err) {
				var after []string
				for _, r := range page {
					after = append(after, r.ID)
				}
				all := sort.StringSlice(append([]string{}, stored...))
				all.Sort()
				assert.Equal(t, []string(all[sort.SearchStrings(all, id):]), append([]string{}, after...), "%q", id)
			}
		}
	}
}

// refused reports that a filter was, which a database may do that can't compare
// with what is no text.
func refused(t *testing.T, err error) bool {
	t.Helper()
	if err != nil {
		assert.ErrorIs(t, err, errors.BadRequest)
	}
	return err != nil
}
