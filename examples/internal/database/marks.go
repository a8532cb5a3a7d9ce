package database

import (
	"context"
	"database/sql"
	"net/url"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tgfleet/tgfleet/errors"
)

// Marks are short texts by name that a service has to find again after a
// restart, in a table of its own beside those of the stores.
type Marks interface {
	// Mark returns a text, "" where there is none.
	Mark(ctx context.Context, name string) (string, error)
	// SetMark stores one; "" removes it.
	SetMark(ctx context.Context, name, text string) error
}

// The statements, which both databases understand but for the table's name.
const (
	createMarks = `CREATE TABLE IF NOT EXISTS example_marks (name TEXT PRIMARY KEY, value TEXT NOT NULL)`
	getMark     = `SELECT value FROM example_marks WHERE name = $1`
	putMark     = `INSERT INTO example_marks (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`
	dropMark    = `DELETE FROM example_marks WHERE name = $1`
)

// sqliteMarks has a connection of its own to the file that sqlitestore has
// open: through the same SQLite, which knows of both.
type sqliteMarks struct{ db *sql.DB }

func openSQLiteMarks(ctx context.Context, path string) (m sqliteMarks, err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return m, err
	}
	at := url.URL{
		Scheme: "file", OmitHost: true, Path: filepath.ToSlash(abs),
		RawQuery: url.Values{"_pragma": {"busy_timeout(5000)"}}.Encode(),
	}
	if m.db, err = sql.Open("sqlite", at.String()); err != nil { // the driver is sqlitestore's
		return m, err
	}
	m.db.SetMaxOpenConns(1)
	if _, err := m.db.ExecContext(ctx, createMarks); err != nil {
		return m, errors.Join(err, m.db.Close())
	}
	return m, nil
}

func (m sqliteMarks) Mark(ctx context.Context, name string) (text string, err error) {
	err = m.db.QueryRowContext(ctx, getMark, name).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return text, err
}

func (m sqliteMarks) SetMark(ctx context.Context, name, text string) (err error) {
	if text == "" {
		_, err = m.db.ExecContext(ctx, dropMark, name)
	} else {
		_, err = m.db.ExecContext(ctx, putMark, name, text)
	}
	return err
}

// pgMarks connects for each mark, since there are few.
type pgMarks struct{ config *pgx.ConnConfig }

func openPGMarks(ctx context.Context, where string) (m pgMarks, err error) {
	config, err := pgxpool.ParseConfig(where) // as pgstore's, which may say how large the pool is
	if err != nil {
		return m, errors.New("connection string is not understood") // pgx may quote the password
	}
	m.config = config.ConnConfig
	schema := os.Getenv(SchemaVariable)
	if schema == "" {
		schema = "tgfleet"
	}
	m.config.RuntimeParams["search_path"] = pgx.Identifier{schema}.Sanitize()
	return m, m.do(ctx, func(conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			// IF NOT EXISTS does not keep two who start at once from both making it.
			if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtext($1))", schema+".example_marks"); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, createMarks)
			return err
		})
	})
}

func (m pgMarks) do(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := pgx.ConnectConfig(ctx, m.config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return f(conn)
}

func (m pgMarks) Mark(ctx context.Context, name string) (text string, err error) {
	err = m.do(ctx, func(conn *pgx.Conn) error {
		err := conn.QueryRow(ctx, getMark, name).Scan(&text)
		if errors.Is(err, pgx.ErrNoRows) {
			err = nil
		}
		return err
	})
	return text, err
}

func (m pgMarks) SetMark(ctx context.Context, name, text string) error {
	return m.do(ctx, func(conn *pgx.Conn) (err error) {
		if text == "" {
			_, err = conn.Exec(ctx, dropMark, name)
		} else {
			_, err = conn.Exec(ctx, putMark, name, text)
		}
		return err
	})
}
