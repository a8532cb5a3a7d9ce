// Package database opens what the examples' -db and -keys flags name.
package database

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/pgstore"
	"github.com/tgfleet/tgfleet/tenant/seal"
	"github.com/tgfleet/tgfleet/tenant/sqlitestore"
)

// DB is an open database: the store of tenants, those of how their bots do and
// of what they have done, and those of what comes in.
type DB struct {
	Tenants tenant.Store
	Health  health.Store
	Usage   usage.Store
	Updates
	Marks
	Close func() error
	// Secret returns a secret of 32 bytes for a purpose, which is the same at
	// each start.
	Secret func(purpose string) ([]byte, error)
}

// KeysVariable is the environment variable that keys are read from.
const KeysVariable = "TGFLEET_KEYS"

// Open opens a database: postgres://... is a PostgreSQL, "" an SQLite file that
// is removed when it is closed, and all else the path of one that is kept. Keys
// come from the environment, else from the file keys, else from one beside the
// database, which is made where there is none.
func Open(ctx context.Context, where, keys string) (DB, error) {
	if where == "" {
		return temporary(ctx)
	}
	db, err := open(ctx, where, keys)
	db.Secret = func(purpose string) ([]byte, error) { return secret(purpose, cmp.Or(keys, KeysFile(where))) }
	return db, err
}

func open(ctx context.Context, where, keys string) (DB, error) {
	ring, err := loadKeys(where, keys)
	if err != nil {
		return DB{}, err
	}
	if IsPostgres(where) {
		db, err := pgstore.Open(ctx, where, pgstore.Config{Keys: ring, Schema: os.Getenv(SchemaVariable)})
		if err != nil {
			return DB{}, err
		}
		marks, err := openPGMarks(ctx, where)
		if err != nil {
			return DB{}, errors.Join(err, db.Close())
		}
		return DB{
			Tenants: db.Tenants(), Health: db.Health(), Usage: db.Usage(),
			Updates: Updates{Inbox: db.Inbox(), Leases: db.Leases(), Owners: db.Ownership()},
			Marks:   marks,
			Close:   db.Close,
		}, nil
	}
	db, err := sqlitestore.Open(ctx, where, sqlitestore.Config{Keys: ring})
	if err != nil {
		return DB{}, err
	}
	marks, err := openSQLiteMarks(ctx, where)
	if err != nil {
		return DB{}, errors.Join(err, db.Close())
	}
	return DB{
		Tenants: db.Tenants(), Health: db.Health(), Usage: db.Usage(),
		Updates: Updates{Inbox: db.Inbox(), Leases: db.Leases(), Owners: db.Ownership()},
		Marks:   marks,
		Close:   func() error { return errors.Join(marks.db.Close(), db.Close()) },
	}, nil
}

// IsPostgres reports whether a -db flag names a PostgreSQL.
func IsPostgres(where string) bool {
	return strings.HasPrefix(where, "postgres://") || strings.HasPrefix(where, "postgresql://")
}

func temporary(ctx context.Context) (DB, error) {
	dir, err := os.MkdirTemp("", "tgfleet")
	if err != nil {
		return DB{}, err
	}
	db, err := Open(ctx, filepath.Join(dir, "fleet.db"), "")
	if err != nil {
		return DB{}, errors.Join(err, os.RemoveAll(dir))
	}
	db.Updates = InMemory()
	done := db.Close
	db.Close = func() error { return errors.Join(done(), os.RemoveAll(dir)) }
	return db, nil
}

// KeysFile returns where the keys of a database are by default. A service that
// means it keeps them elsewhere: who finds both can read the tokens.
func KeysFile(where string) string {
	if IsPostgres(where) {
		return "tgfleet.keys"
	}
	return where + ".keys"
}

func loadKeys(where, path string) (*seal.Ring, error) {
	if path == "" {
		if os.Getenv(KeysVariable) != "" {
			return seal.FromEnv(KeysVariable)
		}
		path = KeysFile(where)
		if err := CreateKeys(path); err != nil {
			return nil, err
		}
	}
	return seal.FromFile(path)
}

// CreateKeys makes a file with a new key, unless there is one. It appears
// whole or not at all, also when several do so at once.
func CreateKeys(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	key, err := seal.GenerateKey(time.Now().UTC().Format("2006-01-02"))
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // only its owner may read it
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintln(f, key.Reveal())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}
