package sqlitestore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

func TestOldEntriesOfTheLogAreRemovedInBatches(t *testing.T) {
	s := open(t, readyFile(t), keys(t)).Tenants()
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var log []tenant.Entry
	for _, d := range []int{3, 0, 9, 1, 4, 2} { // a clock that was wrong
		log = append(log, tenant.Entry{Time: day.AddDate(0, 0, d), Action: tenant.ActionLimit})
	}
	_, err := s.Put(t.Context(), storetest.Record(t, "a", 1), log...)
	require.NoError(t, err)
	days := func() (days []int) {
		all, err := s.Log(t.Context(), tenant.LogFilter{})
		require.NoError(t, err)
		for _, e := range all {
			days = append(days, int(e.Time.Sub(day)/(24*time.Hour)))
		}
		return days
	}
	for _, step := range []struct {
		limit, removed int
		left           []int
	}{
		{0, 0, []int{3, 0, 9, 1, 4, 2}},
		{-1, 0, []int{3, 0, 9, 1, 4, 2}},
		{2, 2, []int{3, 9, 4, 2}},
		{2, 1, []int{3, 9, 4}},
		{2, 0, []int{3, 9, 4}},
	} {
		n, err := s.PruneLog(t.Context(), day.AddDate(0, 0, 3), step.limit)
		require.NoError(t, err)
		assert.Equal(t, step.removed, n)
		assert.Equal(t, step.left, days())
	}
}

// No version of a tenant comes twice, or whoever still has an old record would
// change the new tenant's.
func TestAVersionIsNeverUsedTwice(t *testing.T) {
	path, ring := readyFile(t), keys(t)
	db := open(t, path, ring)
	s := db.Tenants()
	entry := tenant.Entry{Time: time.Now().Add(-time.Hour), Action: tenant.ActionRemove}
	last := int64(0)
	for round := range 4 {
		old, err := s.Put(t.Context(), storetest.Record(t, "a", 1), entry)
		require.NoError(t, err)
		assert.Greater(t, old.Version, last)
		_, err = s.Put(t.Context(), storetest.Record(t, "b", 2)) // others go on as they are
		if round > 0 {
			require.ErrorIs(t, err, errors.Exists)
		}
		for range round { // so that the versions of one life reach into the next
			old, err = s.Put(t.Context(), old, entry)
			require.NoError(t, err)
		}
		last = old.Version
		if round%2 == 0 {
			require.NoError(t, s.Delete(t.Context(), "a", old.Version)) // without an entry
		} else {
			require.NoError(t, db.Exec("DELETE FROM tenants WHERE id = 'a'")) // by hand
		}
		_, err = s.PruneLog(t.Context(), time.Now(), 100)
		require.NoError(t, err)
	}

	// A database that did not know yet finds out what it can.
	require.NoError(t, db.Exec(`DROP TRIGGER tenants_retired; DROP TABLE tenant_versions; DROP INDEX log_by_time;
		DROP INDEX inbox_chats_ready; DROP INDEX inbox_chats_by_time; CREATE INDEX inbox_chats_by_turn ON inbox_chats (tenant, at);
		PRAGMA user_version = 6`))
	require.NoError(t, db.Close())
	db = open(t, path, ring)
	again, err := db.Tenants().Put(t.Context(), storetest.Record(t, "a", 1))
	require.NoError(t, err)
	assert.Greater(t, again.Version, last)
}
