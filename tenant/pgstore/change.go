package pgstore

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tgfleet/tgfleet/errors"
)

// unsureError is of a change that may have been made all the same.
type unsureError struct{ error }

func (e *unsureError) Unwrap() error { return e.error }

// unsentError is of a change for which there was no connection.
type unsentError struct{ error }

func (e *unsentError) Unwrap() error { return e.error }

// change makes a change with a connection, and again where it certainly was not
// made. f may begin and end a transaction itself, to save ways to the server.
func (db *DB) change(ctx context.Context, f func(*pgxpool.Conn) error) error {
	return db.try(ctx, f, func(error) bool { return false })
}

// repeat makes a change that may be made twice, and again also where it is not
// known whether it was made.
func (db *DB) repeat(ctx context.Context, f func(*pgxpool.Conn) error) error {
	return db.try(ctx, f, func(err error) bool { return broken(err) || shutdown(err) })
}

func (db *DB) try(ctx context.Context, f func(*pgxpool.Conn) error, again func(error) bool) error {
	unsure := false
	for try := 1; ; try++ {
		err := db.with(ctx, f)
		if err == nil || err == errRollback {
			return nil
		}
		unsure = unsure || !unmade(err)
		switch {
		case ctx.Err() != nil:
		case try < rollbackTries && rolledBack(err):
			continue
		case try < readTries && (pgconn.SafeToRetry(err) || again(err)):
			continue
		}
		if unsure {
			return &unsureError{err}
		}
		return err
	}
}

// unmade reports that a change was certainly not made: it was not sent, or the
// server has refused it and said so. A server that ends a connection may have
// committed before.
func unmade(err error) bool {
	if _, ok := errors.AsType[*unsentError](err); ok || pgconn.SafeToRetry(err) {
		return true
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		severity := e.SeverityUnlocalized
		if severity == "" { // a pooler's
			severity = e.Severity
		}
		return severity == "ERROR" &&
			e.Code != "40003" && e.Code != "08007" // statement_completion_unknown, transaction_resolution_unknown
	}
	if _, ok := errors.AsType[*errors.Error](err); ok {
		return true // what is to be stored was refused here, and the transaction was rolled back
	}
	return errors.Is(err, pgx.ErrNoRows) || errors.Is(err, pgx.ErrTxCommitRollback) || errors.Is(err, errContended)
}

// rollbackTries bounds how often is tried again what the server rolled back.
const rollbackTries = 20

// rolledBack reports a deadlock, which may be one with an operator, or a
// serialization failure. The latter only comes where the pool's sessions have
// another isolation level than READ COMMITTED by default.
func rolledBack(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == "40001" || e.Code == "40P01")
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
