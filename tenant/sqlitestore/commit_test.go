package sqlitestore_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/ownership"
	"github.com/tgfleet/tgfleet/tenant/seal"
	"github.com/tgfleet/tgfleet/tenant/sqlitestore"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

// changes makes one change of each kind that a database has.
func changes(t *testing.T, ring *seal.Ring) map[string]func(ctx context.Context, db *sqlitestore.DB) error {
	one := []usage.Rollup{{Tenant: "a", Start: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), Requests: 1}}
	return map[string]func(ctx context.Context, db *sqlitestore.DB) error{
		"Put": func(ctx context.Context, db *sqlitestore.DB) error {
			_, err := db.Tenants().Put(ctx, storetest.Record(t, "new", 2))
			return err
		},
		"Delete": func(ctx context.Context, db *sqlitestore.DB) error { return db.Tenants().Delete(ctx, "a", 1) },
		"SetHealth": func(ctx context.Context, db *sqlitestore.DB) error {
			return db.Tenants().SetHealth(ctx, map[string]string{"a": "down"})
		},
		"PruneLog": func(ctx context.Context, db *sqlitestore.DB) error {
			_, err := db.Tenants().PruneLog(ctx, time.Now(), 1)
			return err
		},
		"Replace": func(ctx context.Context, db *sqlitestore.DB) error {
			rows, err := db.Sealed(t.Context(), "", "", 1)
			require.NoError(t, err)
			sealed, err := ring.Seal(rows[0].Purpose, rows[0].Owner, []byte("x"))
			require.NoError(t, err)
			_, err = db.Replace(ctx, rows[0], sealed)
			return err
		},
		"Merge": func(ctx context.Context, db *sqlitestore.DB) error {
			return db.Health().Merge(ctx, health.Flush{Writer: "w", Seq: 1}, []health.Snapshot{{Tenant: "a"}})
		},
		"Add": func(ctx context.Context, db *sqlitestore.DB) error {
			return db.Usage().Add(ctx, health.Flush{Writer: "u", Seq: 1}, one)
		},
		"Acquire": func(ctx context.Context, db *sqlitestore.DB) error {
			_, err := db.Leases().Acquire(ctx, "me", []string{"a"}, time.Minute)
			return err
		},
		"Prove": func(ctx context.Context, db *sqlitestore.DB) error {
			return db.Ownership().Prove(ctx, ownership.Proof{Tenant: "a", BotID: 1, Method: ownership.ByChallenge, At: time.Now()})
		},
		"inbox Put": func(ctx context.Context, db *sqlitestore.DB) error {
			_, err := db.Inbox().Put(ctx, []inbox.Update{message("a", "1", 2)})
			return err
		},
		"Lease": func(ctx context.Context, db *sqlitestore.DB) error {
			_, err := db.Inbox().Lease(ctx, inbox.Want{Limit: 1, TTL: time.Minute})
			return err
		},
	}
}

// Whoever can't know whether a change was made must not be told that it was not.
func TestAChangeWhoseAnswerIsLostMayHaveBeenMade(t *testing.T) {
	lost := errors.New("input/output error")
	for name, row := range map[string]struct {
		befall func(db *sqlitestore.DB, cancel func())
		want   errors.Delivery
	}{
		"committed, and the answer is lost": {func(db *sqlitestore.DB, _ func()) {
			db.OnCommit(func(tx *sql.Tx) error { return errors.Join(lost, tx.Commit()) })
		}, errors.MaybeDelivered},
		"not committed, and nobody knows": {func(db *sqlitestore.DB, _ func()) {
			db.OnCommit(func(*sql.Tx) error { return lost })
		}, errors.MaybeDelivered},
		"the caller leaves during the COMMIT": {func(db *sqlitestore.DB, cancel func()) {
			db.OnCommit(func(tx *sql.Tx) error {
				err := tx.Commit() // which a cancel before it would roll back
				cancel()
				return errors.Join(context.Canceled, err)
			})
		}, errors.MaybeDelivered},
		"SQLite rolls back instead": {func(db *sqlitestore.DB, _ func()) {
			require.NoError(t, db.RefuseCommits())
		}, errors.NotDelivered},
		"the caller left before": {func(db *sqlitestore.DB, cancel func()) {
			cancel()
			db.OnCommit(func(*sql.Tx) error { panic("nothing is to be committed") })
		}, errors.NotDelivered},
	} {
		t.Run(name, func(t *testing.T) {
			ring := keys(t)
			for what, change := range changes(t, ring) {
				db := open(t, readyFile(t), ring)
				_, err := db.Tenants().Put(t.Context(), storetest.Record(t, "a", 1))
				require.NoError(t, err)
				_, err = db.Inbox().Put(t.Context(), []inbox.Update{message("a", "1", 1)})
				require.NoError(t, err)
				ctx, cancel := context.WithCancel(t.Context())
				row.befall(db, cancel)
				err = change(ctx, db)
				cancel()
				e, ok := errors.AsType[*errors.Error](err)
				require.True(t, ok, "%s: %v", what, err)
				assert.Equal(t, row.want, e.Delivery, "%s: %v", what, err)
				assert.Equal(t, row.want == errors.NotDelivered, errors.SafeToRepeat(err), what)
			}
		})
	}
}

func TestAChangeThatWasNotCommittedWasNotMade(t *testing.T) {
	db := open(t, readyFile(t), keys(t))
	ctx, cancel := context.WithCancel(t.Context())
	err := db.Change(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec("DELETE FROM tenants")
		cancel() // between the last statement and the COMMIT
		return err
	})
	assert.ErrorIs(t, err, errors.Canceled)
	assert.True(t, errors.SafeToRepeat(err))
}

// A caller who leaves while his updates are being stored can't know, and one
// whose updates wait their turn can.
func TestWhoLeavesTheInboxIsToldWhetherItMayBeDone(t *testing.T) {
	db := open(t, readyFile(t), keys(t))
	ctx, cancel := context.WithCancel(t.Context())
	begun, left := make(chan struct{}), make(chan struct{})
	db.OnCommit(func(tx *sql.Tx) error {
		cancel()
		close(begun)
		<-left
		db.OnCommit((*sql.Tx).Commit)
		return tx.Commit()
	})
	done := make(chan error)
	go func() {
		_, err := db.Inbox().Put(ctx, []inbox.Update{message("a", "1", 1)})
		done <- err
	}()
	<-begun
	err := <-done
	assert.ErrorIs(t, err, errors.Canceled)
	assert.False(t, errors.SafeToRepeat(err))

	waiting, leave := context.WithCancel(t.Context())
	go leave()
	_, err = db.Inbox().Put(waiting, []inbox.Update{message("a", "1", 2)})
	assert.ErrorIs(t, err, errors.Canceled)
	assert.True(t, errors.SafeToRepeat(err))
	close(left)

	outcomes, err := db.Inbox().Put(t.Context(), []inbox.Update{message("a", "1", 1), message("a", "1", 2)})
	require.NoError(t, err)
	assert.Equal(t, []inbox.Outcome{{Duplicate: true}, {}}, outcomes)
}
