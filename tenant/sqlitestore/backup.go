package sqlitestore

import (
	"context"
	"os"
	"path/filepath"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

// Backup writes a copy of the database, as it is at one moment, into a new file
// that only its owner may read. Others go on reading and writing meanwhile. A
// file that is there already is an error ([os.ErrExist]); after any other error
// none is left.
//
// The copy is a database to [Open]. Tokens are sealed in it and all else is in
// the clear.
func (db *DB) Backup(ctx context.Context, path string) error {
	const op = "back up database"
	path, err := filepath.Abs(path) // of which SQLite takes none for a URI
	if err == nil {
		err = create(path, os.O_EXCL)
	}
	if err != nil {
		return sqlstore.Fail(op, "", errors.Internal, err)
	}
	_, err = db.read.ExecContext(ctx, "VACUUM INTO ?", path)
	if err == nil {
		err = syncFile(path)
	}
	if err != nil {
		_ = os.Remove(path)
		_ = os.Remove(path + "-journal")
	}
	return failure(ctx, op, "", err)
}

// syncFile makes a file outlive a power cut.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
