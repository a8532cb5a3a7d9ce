package sqlitestore

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

//go:embed migrations/*.sql
var files embed.FS

// appID marks a file as ours ("tgfl"), so that a wrong path does not put our
// tables into another program's database.
const appID = 0x7467666c

// migrate brings the tables up to date. The transaction takes SQLite's one
// write lock before it looks, so who comes second finds it done.
func migrate(ctx context.Context, db *sql.DB, wal bool) error {
	all, err := sqlstore.Migrations(files, "migrations")
	if err != nil {
		return err
	}
	if wal {
		if err := switchToWAL(ctx, db); err != nil {
			return err
		}
	}
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version == len(all) {
		return checkOwner(ctx, db) // without a write
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	if err := checkOwner(ctx, tx); err != nil {
		return err
	}
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	pending, err := sqlstore.Pending(all, version)
	if err != nil {
		return err
	}
	for _, m := range pending {
		if _, err := tx.ExecContext(ctx, m.SQL); err != nil {
			return fmt.Errorf("migration %d (%s): %w", m.Version, m.Name, err)
		}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", appID, len(all))); err != nil {
		return err
	}
	return tx.Commit()
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// checkOwner refuses a database that holds another program's tables.
func checkOwner(ctx context.Context, q querier) error {
	var id, tables int
	if err := q.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return err
	}
	if id == appID {
		return nil
	}
	if err := q.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return err
	}
	if id != 0 || tables > 0 {
		return errors.New("the file is another program's database")
	}
	return nil
}

// switchToWAL makes readers and the writer not wait for each other. The switch
// itself needs the file alone, and SQLite does not wait for that.
func switchToWAL(ctx context.Context, db *sql.DB) error {
	for begin := time.Now(); ; {
		var mode string
		err := db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode)
		if err == nil && mode == "wal" {
			return nil
		}
		if err == nil {
			// Not before it is known to be ours.
			if err := checkOwner(ctx, db); err != nil {
				return err
			}
			err = db.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode)
		}
		switch {
		case err == nil && mode == "wal":
			return nil
		case err == nil:
			return fmt.Errorf("the file system has no WAL; journal mode is %q", mode)
		case !busy(err) || time.Since(begin) > 10*time.Second:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}
