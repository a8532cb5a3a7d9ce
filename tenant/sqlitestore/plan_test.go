package sqlitestore_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/sqlitestore"
)

// At a fleet's size no statement that is run often may read a whole table.
func TestStatementsUseTheIndexes(t *testing.T) {
	db := open(t, readyFile(t), keys(t))
	all := sqlitestore.Statements()
	for _, text := range []string{
		"SELECT data FROM health WHERE tenant = ?",
		"SELECT tenant, data FROM health WHERE tenant > ? ORDER BY tenant LIMIT ?",
		"SELECT data FROM rollups WHERE tenant = ? AND start = ? AND daily = ?",
		"SELECT data FROM rollups WHERE tenant = ? AND start >= ? AND start < ? ORDER BY start, daily",
		"SELECT rowid FROM rollups WHERE daily = ? AND start < ? ORDER BY start, tenant LIMIT ?",
		"DELETE FROM flushes WHERE at < ?",
	} {
		all[text] = text
	}
	// What is made by a statement itself, or read in the order of an index to a
	// bound, is no table.
	fine := strings.NewReplacer("SCAN CONSTANT ROW", "", "SCAN (subquery-3)", "", "SCAN due", "", "SCAN walk", "",
		"SCAN json_each VIRTUAL TABLE", "", "SCAN h VIRTUAL TABLE", "", "SCAN tenant_changes", "", "SCAN tenant_versions", "")
	for name, text := range all {
		plan, err := db.Plan(text)
		require.NoError(t, err, text)
		for _, step := range plan {
			assert.NotContains(t, fine.Replace(step), "SCAN", "%s: %s", name, text)
			assert.NotContains(t, step, "TEMP B-TREE", "%s: %s", name, text)
		}
	}
	// One tenant's rows are not looked for among all.
	for what, index := range map[string]string{
		"log of a tenant": "log_by_tenant", "dead letters of a tenant": "inbox_dead", "depth": "inbox_updates_by_chat",
	} {
		plan, err := db.Plan(all[what])
		require.NoError(t, err)
		assert.Contains(t, plan[0], index)
		assert.Contains(t, plan[0], "(tenant=?", what)
	}
}
