package pgstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

// An entry without a time is older than any time, and the zero time is none.
func TestNothingIsOlderThanNoTime(t *testing.T) {
	url := address(t)
	s := open(t, url, newSchema(t, url), keys(t)).Tenants()
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	_, err := s.Put(t.Context(), storetest.Record(t, "a", 1), tenant.Entry{Time: day, Action: "x"}, tenant.Entry{Action: "x"})
	require.NoError(t, err)
	for _, step := range []struct {
		before        time.Time
		removed, left int
	}{
		{time.Time{}, 0, 2},
		{time.Time{}.In(time.FixedZone("east", 3600)), 0, 2},
		{time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC), 1, 1},
		{day, 0, 1},
		{day.Add(time.Microsecond), 1, 0},
	} {
		n, err := s.PruneLog(t.Context(), step.before, 10)
		require.NoError(t, err)
		assert.Equal(t, step.removed, n, step.before)
		left, err := s.Log(t.Context(), tenant.LogFilter{})
		require.NoError(t, err)
		assert.Len(t, left, step.left, step.before)
	}
}
