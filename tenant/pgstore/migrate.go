package pgstore

import (
	"context"
	"embed"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

//go:embed migrations/*.sql
var files embed.FS

// migrate brings the schema up to date, all in one transaction, under a lock
// that lasts as long.
func (db *DB) migrate(ctx context.Context) error {
	all, err := sqlstore.Migrations(files, "migrations")
	if err != nil {
		return err
	}
	var version int
	err = db.read(ctx, func() error {
		var err error
		version, err = db.version(ctx, db.pool)
		return err
	})
	if err != nil {
		return err
	}
	if pending, err := sqlstore.Pending(all, version); err != nil || len(pending) == 0 {
		return err
	}
	// In a stricter isolation, who waited for the lock would not see what was
	// done meanwhile.
	return pgx.BeginTxFunc(ctx, db.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", "tgfleet migration of "+db.cfg.Schema)
		if err != nil {
			return err
		}
		version, err := db.version(ctx, tx) // others may have been quicker
		if err != nil {
			return err
		}
		pending, err := sqlstore.Pending(all, version)
		if err != nil || len(pending) == 0 {
			return err
		}
		if err := db.createSchema(ctx, tx); err != nil {
			return err
		}
		for _, m := range pending {
			if _, err := tx.Exec(ctx, db.name(m.SQL)); err != nil {
				return fmt.Errorf("migration %d (%s): %w", m.Version, m.Name, err)
			}
			_, err := tx.Exec(ctx, db.name("INSERT INTO {schema}.migrations (version, name) VALUES ($1, $2)"), m.Version, m.Name)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// createSchema makes what migrations are recorded in.
func (db *DB) createSchema(ctx context.Context, tx pgx.Tx) error {
	var found bool
	// CREATE SCHEMA IF NOT EXISTS wants the right to create also where the
	// schema exists.
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)", db.cfg.Schema).Scan(&found); err != nil {
		return err
	}
	if !found {
		if _, err := tx.Exec(ctx, db.name("CREATE SCHEMA {schema}")); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, db.name(`CREATE TABLE IF NOT EXISTS {schema}.migrations (
		version    integer     PRIMARY KEY,
		name       text        NOT NULL,
		applied_at timestamptz NOT NULL DEFAULT now()
	)`))
	return err
}

// version returns the schema's, and 0 where there is none.
func (db *DB) version(ctx context.Context, q interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}) (version int, err error) {
	var found bool
	// Not to_regclass: it believes the session's cache, which says what was so
	// before we waited for the lock.
	err = q.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = 'migrations')`, db.cfg.Schema).Scan(&found)
	if err != nil || !found {
		return 0, err
	}
	err = q.QueryRow(ctx, db.name("SELECT coalesce(max(version), 0) FROM {schema}.migrations")).Scan(&version)
	return version, err
}
