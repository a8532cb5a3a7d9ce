package pgstore_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

// A view stands in for a page that is damaged: the server answers the same to
// whoever reads that row.
func TestARowThatCantBeReadHidesNoOther(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	storetest.Unreadable(t, open(t, url, schema, keys(t)).Tenants(), func(id string) {
		execute(t, url, "ALTER TABLE "+schema+".tenants RENAME TO whole")
		execute(t, url, `CREATE FUNCTION `+schema+`.damaged() RETURNS jsonb LANGUAGE plpgsql AS $$
			BEGIN RAISE 'missing chunk number 0 for toast value' USING ERRCODE = 'XX001'; END $$`)
		execute(t, url, `CREATE VIEW `+schema+`.tenants AS SELECT id, bot_id, username, name, token, token_key, status, reason,
			health, limits, CASE WHEN id = '`+id+`' THEN `+schema+`.damaged() ELSE metadata END AS metadata,
			version, created_at, updated_at FROM `+schema+`.whole`)
	})
}

// PostgreSQL has times that are none, and Go has not.
func TestATimeThatIsNoneHidesNoOther(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	s := open(t, url, schema, keys(t)).Tenants()
	for i, id := range []string{"a", "b", "c"} {
		_, err := s.Put(t.Context(), storetest.Record(t, id, int64(i+1)), tenant.Entry{Action: "x"})
		require.NoError(t, err)
	}
	execute(t, url, "UPDATE "+schema+".tenants SET created_at = 'infinity' WHERE id = 'a'")
	execute(t, url, "UPDATE "+schema+".tenants SET updated_at = '-infinity' WHERE id = 'b'")
	execute(t, url, "UPDATE "+schema+".log SET time = 'infinity' WHERE tenant = 'a'")
	many, err := s.GetMany(t.Context(), []string{"a", "b", "c"})
	require.NoError(t, err)
	page, err := s.List(t.Context(), tenant.Filter{})
	require.NoError(t, err)
	require.Len(t, many, 3)
	require.Len(t, page, 3)
	for i, what := range []string{"created_at", "updated_at"} {
		r := page[i]
		assert.Equal(t, r, many[r.ID])
		assert.ErrorIs(t, r.TokenErr, tenant.ErrNotUnderstood)
		assert.ErrorContains(t, r.TokenErr, what)
		assert.Equal(t, tenant.Suspended, r.Status)
	}
	assert.NoError(t, page[2].TokenErr)
	log, err := s.Log(t.Context(), tenant.LogFilter{})
	require.NoError(t, err)
	require.Len(t, log, 3)
	assert.True(t, log[0].Time.IsZero())
	_, err = s.Get(t.Context(), "nobody")
	assert.ErrorIs(t, err, errors.NotFound)
}
