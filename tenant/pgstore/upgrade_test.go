package pgstore_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/pgstore"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

// toVersion7 makes a schema one of before versions of removed records were kept.
func toVersion7(t *testing.T, url, schema string) {
	execute(t, url, strings.ReplaceAll(`DELETE FROM s.migrations WHERE version > 7;
		DROP TABLE s.retired;
		DROP FUNCTION s.tenant_created CASCADE; DROP FUNCTION s.tenants_removing CASCADE; DROP FUNCTION s.tenant_removed CASCADE;
		DROP FUNCTION s.tenants_page;
		DROP INDEX s.inbox_chats_ready; DROP INDEX s.inbox_chats_by_time; CREATE INDEX inbox_chats_by_turn ON s.inbox_chats (tenant, at);
		DROP FUNCTION s.inbox_wake; DROP FUNCTION s.inbox_ready; DROP FUNCTION s.inbox_share; DROP FUNCTION s.inbox_late; DROP FUNCTION s.inbox_lease_of;
		DROP FUNCTION s.inbox_lease_each; DROP FUNCTION s.inbox_walk; DROP FUNCTION s.inbox_lend`, "s.", schema+"."))
}

// toVersion6 makes a schema one of before the log had an order.
func toVersion6(t *testing.T, url, schema string) {
	toVersion7(t, url, schema)
	execute(t, url, strings.ReplaceAll("DELETE FROM s.migrations WHERE version > 6; DROP FUNCTION s.log_in_order CASCADE; DROP INDEX s.log_by_time", "s.", schema+"."))
}

// A change locks the tenants before the log, and may come while a replica of
// the next version migrates: neither must wait for the other for ever.
func TestAMigrationDoesNotDeadlockWithAChange(t *testing.T) {
	url := address(t)
	schema, ring := newSchema(t, url), keys(t)
	first, err := open(t, url, schema, ring).Tenants().Put(t.Context(), storetest.Record(t, "a", 1), tenant.Entry{Action: "test"})
	require.NoError(t, err)
	toVersion6(t, url, schema)
	change := begin(t, url, "SET LOCAL deadlock_timeout = '1min'") // the server looks when the other has waited
	_, err = change.Exec(t.Context(), "UPDATE "+schema+".tenants SET version = version + 1")
	require.NoError(t, err)
	done := make(chan error, 1)
	var db *pgstore.DB
	go func() {
		var err error
		db, err = pgstore.Open(t.Context(), url, pgstore.Config{Keys: ring, Schema: schema})
		done <- err
	}()
	require.True(t, waitBlocked(t, url, change, done))
	_, err = change.Exec(t.Context(), "INSERT INTO "+schema+".log (tenant, bot_id, version, actor, action, detail) VALUES ('a', 1, 2, '', 'test', '')")
	require.NoError(t, err)
	require.NoError(t, change.Commit(t.Context()))
	require.NoError(t, <-done)
	r, err := db.Tenants().Get(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, first.Version+1, r.Version)
	require.NoError(t, db.Close())
}
