package sqlitestore_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/storetest"
	"modernc.org/sqlite"
)

// patience is how long a test waits that is going to fail.
const patience = 30 * time.Second

// restore copies a database into another that is in use, as ".restore" of the
// sqlite3 shell does.
func restore(t *testing.T, from, into string) {
	t.Helper()
	db, err := sql.Open("sqlite", into+"?_pragma=busy_timeout(5000)")
	require.NoError(t, err)
	defer db.Close()
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.Raw(func(c any) error {
		b, err := c.(interface {
			NewRestore(string) (*sqlite.Backup, error)
		}).NewRestore(from)
		if err != nil {
			return err
		}
		_, err = b.Step(-1)
		return errors.Join(err, b.Finish())
	}))
}

// An older copy that is restored into the database has fewer changes than were
// heard, and another one's changes in their places.
func TestAWatchHearsThatADatabaseWasRestored(t *testing.T) {
	for name, later := range map[string]int{"of fewer changes": 0, "of as many": 3, "of more": 10} {
		t.Run(name, func(t *testing.T) {
			path, copied, ring := newFile(t), newFile(t), keys(t)
			db := open(t, path, ring)
			put := func(db interface {
				Put(context.Context, tenant.Record, ...tenant.Entry) (tenant.Record, error)
			}, id string, bot int) {
				_, err := db.Put(t.Context(), storetest.Record(t, id, int64(bot)))
				require.NoError(t, err)
			}
			put(db.Tenants(), "kept", 1)
			require.NoError(t, db.Exec("VACUUM INTO ?", copied))
			for i := range 3 {
				put(db.Tenants(), fmt.Sprint("lost", i), 10+i)
			}
			other := open(t, copied, ring)
			for i := range later {
				put(other.Tenants(), fmt.Sprint("other", i), 20+i)
			}

			changes := make(chan tenant.Change, 10)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- db.Tenants().Watch(ctx, func(c tenant.Change) { changes <- c }) }()
			hear := func() tenant.Change {
				select {
				case c := <-changes:
					return c
				case <-time.After(patience):
					t.Fatal("nothing is heard")
					panic("unreachable")
				}
			}
			assert.Equal(t, tenant.Change{}, hear())
			restore(t, copied, path)
			assert.Equal(t, tenant.Change{}, hear(), "any may have changed")
			put(db.Tenants(), "new", 99)
			assert.Equal(t, tenant.Change{ID: "new", Version: 1}, hear(), "and it goes on")
			all, err := db.Tenants().List(t.Context(), tenant.Filter{})
			require.NoError(t, err)
			assert.Len(t, all, 2+later)
			cancel()
			assert.ErrorIs(t, <-done, errors.Canceled)
		})
	}
}
