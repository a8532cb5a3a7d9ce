package sqlitestore

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

// Backup writes a copy of the database, as it is at one moment, into a new file
// that only its owner may read. Others go on reading and writing meanwhile, and
// [DB.Close] waits for it: the end of ctx ends it sooner. A
// file that is there already is an error ([os.ErrExist]); after any other error
// none is left.
//
// The file is there once the copy is whole and on disk. A process that is killed
// before that leaves one beside it, whose name ends in ".tmp".
//
// The copy is a database to [Open]. Tokens are sealed in it and all else is in
// the clear.
func (db *DB) Backup(ctx context.Context, path string) error {
	const op = "back up database"
	if err := db.begin(); err != nil {
		return failure(ctx, op, "", err)
	}
	defer db.changes.Done()
	path, err := filepath.Abs(path) // of which SQLite takes none for a URI
	if err == nil {
		err = absent(path)
	}
	if err != nil {
		return sqlstore.Fail(op, "", errors.Internal, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return sqlstore.Fail(op, "", errors.Internal, err)
	}
	tmp := f.Name()
	defer os.Remove(tmp)              //nolint:errcheck // it is gone, or only takes room
	defer os.Remove(tmp + "-journal") //nolint:errcheck
	if err = f.Close(); err == nil {
		_, err = db.read.ExecContext(ctx, "VACUUM INTO ?", tmp)
	}
	if err == nil {
		err = syncFile(tmp)
	}
	if err == nil {
		err = rename(tmp, path)
	}
	return failure(ctx, op, "", err)
}

func absent(path string) error {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

// rename gives a file a name that no other has.
func rename(from, to string) error {
	err := os.Link(from, to)
	if err != nil && !errors.Is(err, fs.ErrExist) { // the file system may have no links
		if err = absent(to); err == nil {
			err = os.Rename(from, to)
		}
	}
	if err != nil {
		return err
	}
	if dir, err := os.Open(filepath.Dir(to)); err == nil {
		_ = dir.Sync() // not every system can
		_ = dir.Close()
	}
	return nil
}

// syncFile makes a file outlive a power cut.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
