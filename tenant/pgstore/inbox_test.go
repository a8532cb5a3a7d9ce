package pgstore_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/inbox/inboxtest"
	"github.com/tgfleet/tgfleet/tenant/pgstore"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

func openInbox(t testing.TB, url, schema string, keys *seal.Ring, cfg inboxtest.Config) *pgstore.Inbox {
	t.Helper()
	db := openWithInbox(t, url, schema, keys, cfg)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db.Inbox()
}

func openWithInbox(t testing.TB, url, schema string, keys *seal.Ring, cfg inboxtest.Config) *pgstore.DB {
	t.Helper()
	db, err := pgstore.Open(context.Background(), withParam(url, "pool_max_conns=5"), pgstore.Config{
		Keys: keys, Schema: schema, Inbox: pgstore.InboxConfig{
			MaxUpdates: cfg.MaxUpdates, MaxPerTenant: cfg.MaxPerTenant, MaxDeadPerTenant: cfg.MaxDeadPerTenant,
		},
	})
	require.NoError(t, err)
	return db
}

// age moves all times of an inbox into the past.
func age(t testing.TB, url, schema string, d time.Duration) {
	s := pgx.Identifier{schema}.Sanitize()
	const timed = 1_000_000_000_000 // what is less is a place in the queue
	us := d.Microseconds()
	execute(t, url, "UPDATE "+s+".inbox_chats SET at = at - $1 WHERE at > $2", us, int64(timed))
	execute(t, url, "UPDATE "+s+".inbox_updates SET expires_at = expires_at - $1::bigint * interval '1 microsecond'", us)
	execute(t, url, "UPDATE "+s+".inbox_dead SET expires_at = expires_at - $1::bigint * interval '1 microsecond', died_at = died_at - $1::bigint * interval '1 microsecond'", us)
	if hours := int64(d / time.Hour); hours > 0 {
		execute(t, url, "UPDATE "+s+".inbox_seen SET hour = hour - $1", hours)
	}
}

func TestInboxKeepsTheContract(t *testing.T) {
	url, ring := address(t), keys(t)
	schema := newSchema(t, url) // one for all, since it takes longer to make than most tests
	last := open(t, url, schema, ring)
	t.Cleanup(func() { require.NoError(t, last.Close()) })
	inboxtest.Run(t, inboxtest.Harness{
		New: func(t *testing.T, cfg inboxtest.Config) inbox.Inbox {
			execute(t, url, strings.ReplaceAll("TRUNCATE s.inbox_updates, s.inbox_chats, s.inbox_seen, s.inbox_dead", "s.", schema+"."))
			// The model asks for a hundred in one test, which the server has no
			// connections for.
			require.NoError(t, last.Close())
			last = openWithInbox(t, url, schema, ring, cfg)
			return last.Inbox()
		},
		Another: func(t *testing.T, _ inbox.Inbox) inbox.Inbox {
			return openInbox(t, url, schema, ring, inboxtest.Config{})
		},
		Advance: func(t *testing.T, _ inbox.Inbox, d time.Duration) { age(t, url, schema, d) },
	})
}
