package sqlitestore_test

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/healthtest"
)

func BenchmarkHealth(b *testing.B) {
	healthtest.BenchmarkStore(b, func(t testing.TB) health.Store {
		return open(t, filepath.Join(t.TempDir(), "fleet.db"), keys(t)).Health()
	})
}

func TestWritersAreForgottenAfterAWhile(t *testing.T) {
	path := readyFile(t)
	db := open(t, path, keys(t))
	for _, w := range []string{"old", "young"} {
		require.NoError(t, db.Health().Merge(t.Context(), health.Flush{Writer: w, Seq: 5}, nil))
	}
	age := func(writer string, by time.Duration) {
		require.NoError(t, db.Exec("UPDATE flushes SET at = at - ? WHERE writer = ?", by.Microseconds(), writer))
	}
	age("old", health.FlushMemory+time.Minute)
	age("young", health.FlushMemory-time.Minute)
	require.NoError(t, db.Health().Merge(t.Context(), health.Flush{Writer: "new", Seq: 1}, nil))
	other, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer other.Close()
	var left string
	require.NoError(t, other.QueryRow("SELECT group_concat(writer, ' ' ORDER BY writer) FROM flushes").Scan(&left))
	assert.Equal(t, "new young", left)
}

// What an operator or a newer version has written and this one does not
// understand is an error that names the tenant, and it stays as it is.
func TestARowThatIsNotUnderstoodIsKept(t *testing.T) {
	db := open(t, readyFile(t), keys(t))
	s := db.Health()
	require.NoError(t, s.Merge(t.Context(), health.Flush{Writer: "w", Seq: 1}, []health.Snapshot{{Tenant: "a"}}))
	require.NoError(t, db.Exec(`UPDATE health SET data = '{"requests": "many"}' WHERE tenant = 'a'`))
	_, err := s.Load(t.Context(), "", 0)
	e, ok := errors.AsType[*errors.Error](err)
	require.True(t, ok)
	assert.Equal(t, errors.Internal, e.Kind)
	assert.Equal(t, "a", e.Key)
	flush := health.Flush{Writer: "w", Seq: 2}
	assert.ErrorIs(t, s.Merge(t.Context(), flush, []health.Snapshot{{Tenant: "b"}, {Tenant: "a"}}), errors.Internal)
	require.NoError(t, db.Exec(`UPDATE health SET data = '{"requests": 7}' WHERE tenant = 'a'`))
	require.NoError(t, s.Merge(t.Context(), flush, []health.Snapshot{{Tenant: "b"}, {Tenant: "a", Requests: 1}}))
	page, err := s.Load(t.Context(), "", 0)
	require.NoError(t, err)
	require.Len(t, page, 2)
	assert.EqualValues(t, 8, page[0].Requests)
}
