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

// failure gives an error its kind, and says of a change whether it may have been
// made. PostgreSQL's messages name tables and constraints; the values are in the
// detail, which pgx's text leaves out.
func failure(ctx context.Context, op, id string, err error) error {
	if err == nil {
		return nil
	}
	failed := withKind(ctx, op, id, err)
	if _, unsure := errors.AsType[*unsureError](err); !unsure {
		return failed
	}
	if e, ok := errors.AsType[*errors.Error](failed); ok {
		maybe := *e
		maybe.Delivery = errors.MaybeDelivered
		return &maybe
	}
	return failed
}

func withKind(ctx context.Context, op, id string, err error) error {
	switch e, ok := errors.AsType[*pgconn.PgError](err); {
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

// readTries bounds how often is tried what a broken connection kept from being
// done. After a restart of the server several connections of the pool may be
// dead.
const readTries = 4

// read repeats a read whose connection broke, on another one.
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
