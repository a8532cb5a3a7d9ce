package pgstore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What every Put and Lease take reads little, however much there is that waits,
// has expired or will, and however many ids are remembered.
func TestTheInboxReadsLittleBesideMuch(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	db := open(t, url, schema, keys(t))
	conn := connect(t, url)
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := conn.Exec(t.Context(), strings.ReplaceAll(sql, "s.", schema+"."), args...)
		require.NoError(t, err)
	}
	exec(`INSERT INTO s.inbox_updates SELECT 'tenant-' || lpad((n % 2000)::text, 4, '0'), n / 2000 % 5, n, 'message', now(),
		CASE WHEN n % 2 = 0 THEN now() + interval '1 hour' END, 0, '{}' FROM generate_series(1, 40000) AS n`)
	exec(`INSERT INTO s.inbox_chats (tenant, chat, at) SELECT DISTINCT tenant, chat, 1 FROM s.inbox_updates`)
	exec(`UPDATE s.inbox_chats SET at = $1 WHERE tenant < 'tenant-1900'`, time.Now().Add(time.Hour).UnixMicro()) // another try
	exec(`INSERT INTO s.inbox_seen SELECT 'tenant-' || lpad((n % 2000)::text, 4, '0'), n / 2000, extract(epoch FROM now()) / 3600 - n / 2000, '' FROM generate_series(1, 44000) AS n`)
	exec(`INSERT INTO s.inbox_seen SELECT 'tenant-0001', n, 1, '' FROM generate_series(1, 100) AS n`) // to be forgotten, the last in the table
	exec("ANALYZE s.inbox_updates; ANALYZE s.inbox_chats; ANALYZE s.inbox_seen")

	read := func(what string, most int, sql string, args ...any) {
		t.Helper()
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		defer tx.Rollback(t.Context()) //nolint:errcheck // it is meant to
		_, err = tx.Exec(t.Context(), "SET LOCAL enable_seqscan = off")
		require.NoError(t, err)
		var plans []struct {
			Plan map[string]any `json:"Plan"`
		}
		for range 2 { // the first time functions are compiled
			_, err = tx.Exec(t.Context(), "SAVEPOINT again")
			require.NoError(t, err)
			require.NoError(t, tx.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+sql, args...).Scan(&plans))
			_, err = tx.Exec(t.Context(), "ROLLBACK TO again")
			require.NoError(t, err)
		}
		n := int(plans[0].Plan["Shared Hit Blocks"].(float64) + plans[0].Plan["Shared Read Blocks"].(float64))
		t.Logf("%s: %d pages", what, n)
		assert.LessOrEqual(t, n, most, "pages that were read: %s", what)
	}
	now, seen, forgetSeen, lease, look, leaseOf := db.InboxStatements()
	us := time.Now().UnixMicro()
	day := int64(86400)
	read("what a Put has to know", 50, now, false)
	read("ids of a Put", 50, seen, []string{"tenant-0001", "tenant-0002"}, []int64{1, 2}, day)
	read("forgotten ids", 400, forgetSeen, day)
	read("a lease", 3000, lease, "", 32, int64(1000), 16, []string{"tenant-0001"}, []int32{3})
	exec("UPDATE s.inbox_updates SET expires_at = now() WHERE expires_at IS NOT NULL AND tenant < 'tenant-1900'") // sooner than statistics say
	read("a lease beside what has expired", 3000, lease, "", 32, int64(1000), 16, []string{"tenant-0001"}, []int32{3})
	read("what is due", 50, look, false)
	read("a lease of a tenant", 100, leaseOf, []string{"tenant-1901"}, []int32{1}, 1, 1, us, int64(1000))
}
