package pgstore_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/pgstore"
)

// What every Put and Lease take reads little, however much there is that waits,
// has expired or will, and however many ids are remembered.
func TestTheInboxReadsLittleBesideMuch(t *testing.T) {
	db, conn, exec := inSchema(t)
	exec(`INSERT INTO inbox_updates SELECT 'tenant-' || lpad((n % 2000)::text, 4, '0'), n / 2000 % 5, n, 'message', now(),
		CASE WHEN n % 2 = 0 THEN now() + interval '1 hour' END, 0, '{}' FROM generate_series(1, 40000) AS n`)
	exec(`INSERT INTO inbox_chats (tenant, chat, at) SELECT DISTINCT tenant, chat, 1 FROM inbox_updates`)
	exec(`UPDATE inbox_chats SET at = $1 WHERE tenant < 'tenant-1900'`, time.Now().Add(time.Hour).UnixMicro()) // another try
	exec(`INSERT INTO inbox_seen SELECT 'tenant-' || lpad((n % 2000)::text, 4, '0'), n / 2000, extract(epoch FROM now()) / 3600 - n / 2000, '' FROM generate_series(1, 44000) AS n`)
	exec(`INSERT INTO inbox_seen SELECT 'tenant-0001', n, 1, '' FROM generate_series(1, 100) AS n`) // to be forgotten, the last in the table
	exec("ANALYZE inbox_updates; ANALYZE inbox_chats; ANALYZE inbox_seen")

	read := pages(t, conn)
	now, seen, forgetSeen, lease, look, leaseOf := db.InboxStatements()
	us := time.Now().UnixMicro()
	day := int64(86400)
	read("what a Put has to know", 50, now, false)
	read("ids of a Put", 50, seen, []string{"tenant-0001", "tenant-0002"}, []int64{1, 2}, day)
	read("forgotten ids", 400, forgetSeen, day)
	read("a lease", 3000, lease, "", 32, int64(1000), 16, []string{"tenant-0001"}, []int32{3})
	exec("UPDATE inbox_updates SET expires_at = now() WHERE expires_at IS NOT NULL AND tenant < 'tenant-1900'") // sooner than statistics say
	read("a lease beside what has expired", 3000, lease, "", 32, int64(1000), 16, []string{"tenant-0001"}, []int32{3})
	read("what is due", 50, look, false)
	read("a lease of a tenant", 100, leaseOf, []string{"tenant-1901"}, []int32{1}, 1, 1, us, int64(1000))
}

// Statistics of an inbox are mostly those of an empty one, and it is when much
// comes at once that they are wrong.
func TestTheInboxReadsLittleWhereItWasEmpty(t *testing.T) {
	db, conn, exec := inSchema(t)
	fill := func() {
		exec(`INSERT INTO inbox_updates SELECT 'tenant-' || n % 50, n / 50 % 200, n, 'message', now(), NULL, 0, '{}' FROM generate_series(1, 40000) AS n`)
		exec(`INSERT INTO inbox_chats (tenant, chat, id, attempt, at) SELECT tenant, chat, min(id), 1, 1 FROM inbox_updates GROUP BY 1, 2`)
	}
	exec("ALTER TABLE inbox_updates SET (autovacuum_enabled = off); ALTER TABLE inbox_chats SET (autovacuum_enabled = off)")
	fill()
	exec("DELETE FROM inbox_updates; DELETE FROM inbox_chats; ANALYZE inbox_updates; ANALYZE inbox_chats")
	fill()
	exec("UPDATE inbox_chats SET token = id, at = $1 WHERE tenant < 'tenant-3'", time.Now().Add(time.Hour).UnixMicro())
	var tenants, chats []string
	var ids, tokens, after []int64
	var back []int32
	var reasons []string
	rows, err := conn.Query(t.Context(), "SELECT tenant, chat, id, token FROM inbox_chats WHERE token <> 0 ORDER BY id LIMIT 50")
	require.NoError(t, err)
	var l inbox.Lease
	_, err = pgx.ForEachRow(rows, []any{&l.Tenant, &l.Chat, &l.ID, &l.Token}, func() error {
		tenants, chats, ids, tokens = append(tenants, l.Tenant), append(chats, l.Chat), append(ids, l.ID), append(tokens, l.Token)
		after, back, reasons = append(after, 0), append(back, 0), append(reasons, "why")
		return nil
	})
	require.NoError(t, err)
	require.Len(t, ids, 50)
	exec("SET plan_cache_mode = force_generic_plan") // as for who has leased before

	read := pages(t, conn)
	_, _, _, lease, _, _ := db.InboxStatements()
	lock, end, retry, extend, bury := db.LeasedStatements()
	const most = 3000 // of 50,000 rows; a lease may sort the chats of those whose turn it is
	read("a lease of what was tried", 4*most, lease, "", 50, int64(1000), 16, []string{}, []int32{})
	read("locks", most, lock, tenants, chats, ids, tokens)
	read("what is done", most, end, tenants, chats, ids, tokens)
	read("what is tried again", most, retry, tenants, chats, ids, tokens, after, back)
	read("what is leased for longer", most, extend, tenants, chats, ids, tokens, int64(1000))
	read("what is buried", most, bury, tenants, chats, ids, tokens, reasons)
}

// inSchema returns an open database, a connection to its schema, and what executes
// statements by it.
func inSchema(t *testing.T) (*pgstore.DB, *pgx.Conn, func(sql string, args ...any)) {
	url := address(t)
	schema := newSchema(t, url)
	db, conn := open(t, url, schema, keys(t)), connect(t, url)
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := conn.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}
	exec("SET search_path = " + schema)
	return db, conn, exec
}

// pages returns what wants a statement to read no more than so many pages, and
// leaves nothing of it.
func pages(t *testing.T, conn *pgx.Conn) func(what string, most int, sql string, args ...any) {
	return func(what string, most int, sql string, args ...any) {
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
}
