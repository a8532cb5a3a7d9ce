package sqlstore

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

func TestAFlushThatNoDatabaseCanNoteIsRefused(t *testing.T) {
	assert.NoError(t, CheckFlush("test", health.Flush{Writer: "w", Seq: math.MaxInt64}))
	for name, bad := range map[string]health.Flush{
		"no writer":                {Seq: 1},
		"no number":                {Writer: "w"},
		"a number that is too big": {Writer: "w", Seq: math.MaxInt64 + 1},
		"a NUL":                    {Writer: "w\x00", Seq: 1},
		"no UTF-8":                 {Writer: "\xff", Seq: 1},
	} {
		assert.ErrorIs(t, CheckFlush("test", bad), errors.BadRequest, name)
	}
}

func TestRollupsAreInOneOrderAndEachOnce(t *testing.T) {
	day := time.Date(2026, 3, 29, 0, 0, 0, 0, time.UTC)
	roll := func(tenant string, hour int, daily bool, requests uint64) usage.Rollup {
		return usage.Rollup{Tenant: tenant, Start: day.Add(time.Duration(hour) * time.Hour), Daily: daily, Requests: requests,
			Methods: []usage.MethodCount{{Method: "getMe", Requests: requests}}}
	}
	in := []usage.Rollup{
		roll("b", 0, true, 1), roll("b", 1, false, 2), roll("a", 0, true, 3), roll("b", 0, false, 4),
		roll("b", 1, false, 5), roll("a", 5, false, 6), roll("b", 1, false, 7),
	}
	before := make([]usage.Rollup, len(in))
	for i := range in {
		before[i] = in[i].Clone()
	}
	got, err := Rollups(in)
	require.NoError(t, err)
	assert.Equal(t, []usage.Rollup{
		roll("a", 5, false, 6), roll("b", 0, false, 4), roll("b", 1, false, 14), roll("a", 0, true, 3), roll("b", 0, true, 1),
	}, got)
	assert.Equal(t, before, in, "what is passed stays as it is")

	days, err := Days([]usage.Rollup{roll("b", 23, false, 1), roll("a", 24, false, 2), roll("b", 0, false, 3), roll("a", 23, false, 4)})
	require.NoError(t, err)
	assert.Equal(t, []usage.Rollup{roll("a", 0, true, 4), roll("a", 24, true, 2), roll("b", 0, true, 4)}, days)
}

func TestAYearThatJSONHasNotIsABadRequest(t *testing.T) {
	_, err := AddSnapshot("test", nil, &health.Snapshot{Tenant: "a", LastUpdate: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)})
	assert.ErrorIs(t, err, errors.BadRequest)
	_, err = AddRollup("test", nil, &usage.Rollup{Tenant: "a", Start: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)})
	assert.ErrorIs(t, err, errors.BadRequest)
}

func TestABoundIsNeverPastAStartThatIsNotPastIt(t *testing.T) {
	start := time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		in, want time.Time
	}{
		{start, start},
		{start.In(time.FixedZone("x", 5400)), start},
		{start.Add(1), start.Add(time.Microsecond)},
		{start.Add(-1), start},
		{start.Add(-time.Microsecond), start.Add(-time.Microsecond)},
		{time.Time{}, time.Time{}},
		{time.Unix(math.MinInt64/2, 0), firstStart},
		{time.Unix(math.MaxInt64/2, 0), lastStart},
	} {
		got := Bound(c.in)
		assert.True(t, c.want.Equal(got), "%v: %v", c.in, got)
		assert.Equal(t, time.UTC, got.Location())
	}
}
