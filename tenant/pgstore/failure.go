package pgstore

import (
	"context"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

// failure gives an error its kind. PostgreSQL's messages name tables and
// constraints; the values are in the detail, which pgx's text leaves out.
func failure(ctx context.Context, op, id string, err error) error {
	switch e, ok := errors.AsType[*pgconn.PgError](err); {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		return sqlstore.Fail(op, id, errors.NotFound, nil)
	case ctx.Err() != nil:
		return sqlstore.Ended(ctx, op, id)
	case ok:
		return sqlstore.Fail(op, id, kindOf(e), err)
	case errors.Is(err, puddle.ErrClosedPool):
		return sqlstore.Fail(op, id, errors.Closed, err)
	case broken(err), errors.Is(err, errContended):
		return sqlstore.Fail(op, id, errors.StoreUnavailable, err)
	default:
		return sqlstore.Fail(op, id, errors.Internal, err)
	}
}

// broken reports an error of a connection rather than of the server's.
func broken(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	switch errors.KindOf(err) {
	case errors.ConnectionFailed, errors.Timeout:
		return true
	}
	return pgconn.SafeToRetry(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func kindOf(e *pgconn.PgError) errors.Kind {
	switch e.Code {
	case "23505": // unique_violation
		switch e.ConstraintName {
		case "tenants_pkey":
			return errors.Exists
		case "tenants_bot_id_key":
			return errors.TokenTaken
		}
	case "57014": // query_canceled: the server's statement_timeout, since ctx has not ended
		return errors.Timeout
	case "25006", "55P03", // read_only_sql_transaction (a standby), lock_not_available
		"25P03", "25P04": // idle_in_transaction_session_timeout, transaction_timeout
		return errors.StoreUnavailable
	}
	switch e.Code[:min(2, len(e.Code))] {
	case "08", // connection exception
		"40", // transaction rollback: deadlock, serialization
		"53", // insufficient resources: disk full, too many connections
		"57", // operator intervention: shutdown, starting up
		"58": // system error
		return errors.StoreUnavailable
	}
	return errors.Internal
}

// readTries bounds how often a read is tried. After a restart of the server
// several connections of the pool may be dead.
const readTries = 4

// read repeats a read whose connection broke, on another one; or a change that
// may be made twice.
func (db *DB) read(ctx context.Context, f func() error) error {
	for try := 1; ; try++ {
		err := f()
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case rolledBack(err) && try < rollbackTries:
		case try >= readTries || !broken(err) && !shutdown(err):
			return err
		}
	}
}

// rollbackTries bounds how often is tried again what the server rolled back.
const rollbackTries = 20

// rolledBack reports a serialization failure or a deadlock. The former only
// comes where the pool's sessions have another isolation level than READ
// COMMITTED by default.
func rolledBack(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == "40001" || e.Code == "40P01")
}

// change makes a change, and repeats it where it certainly never left or was
// rolled back.
func (db *DB) change(ctx context.Context, f func() error) error {
	for try := 1; ; try++ {
		err := f()
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case rolledBack(err) && try < rollbackTries:
		case try >= readTries || !pgconn.SafeToRetry(err):
			return err
		}
	}
}

// shutdown reports that the server ended the connection.
func shutdown(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok:
		return false
	case e.Code == "57P01", e.Code == "57P02", e.Code == "57P03", e.Code == "25P03":
		return true
	}
	return false
}
