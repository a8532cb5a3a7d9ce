package sqlitestore

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlinbox"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// unsure is the error of a COMMIT that may have been carried out: an fsync that
// fails leaves the end of the transaction in the WAL, where the next start may
// find it.
type unsure struct{ error }

func (u *unsure) Unwrap() error { return u.error }

// rolledBack reports that a COMMIT with this error certainly was.
func rolledBack(err error) bool {
	if errors.Is(err, sql.ErrTxDone) { // its context had ended before
		return true
	}
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_FULL,
		sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_READONLY:
		return true
	}
	return false
}

// failure gives an error its kind, and says whether what failed may have been
// done. The driver's texts name tables and columns, never values.
func failure(ctx context.Context, op, id string, err error) error {
	failed := kinded(ctx, op, id, err)
	_, maybe := errors.AsType[*unsure](err)
	if e, ok := failed.(*errors.Error); ok && (maybe || sqlinbox.UnderWay(err)) {
		told := *e
		told.Delivery = errors.MaybeDelivered
		return &told
	}
	return failed
}

func kinded(ctx context.Context, op, id string, err error) error {
	switch e, ok := errors.AsType[*sqlite.Error](err); {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return sqlstore.Fail(op, id, errors.NotFound, nil)
	case ctx.Err() != nil:
		return sqlstore.Ended(ctx, op, id)
	case ok:
		return sqlstore.Fail(op, id, kindOf(e.Code()), err)
	case errors.Is(err, sql.ErrConnDone) || err.Error() == "sql: database is closed":
		return sqlstore.Fail(op, id, errors.Closed, err)
	default:
		return sqlstore.Fail(op, id, errors.Internal, err)
	}
}

func kindOf(code int) errors.Kind {
	if code == sqlite3.SQLITE_CONSTRAINT_UNIQUE {
		return errors.TokenTaken // the one such constraint that an update can meet
	}
	switch code & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
		sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL:
		return errors.StoreUnavailable
	case sqlite3.SQLITE_INTERRUPT:
		return errors.Canceled
	default:
		return errors.Internal
	}
}

// explained says what SQLite does not: why it can't open a file.
func explained(path string, err error) error {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY:
		return fmt.Errorf("%s must be a file that can be written, in a directory that can: SQLite keeps its journal there: %w", path, err)
	}
	return err
}

func constraint(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == sqlite3.SQLITE_CONSTRAINT
}

func full(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == sqlite3.SQLITE_FULL
}

func busy(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && (e.Code()&0xff == sqlite3.SQLITE_BUSY || e.Code()&0xff == sqlite3.SQLITE_LOCKED)
}
