package pgstore

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tgfleet/tgfleet/errors"
)

// begin begins a transaction of a pipeline. It is read committed, whatever the
// database's default is: who has waited for a row reads what was written
// meanwhile. Statements are planned while their tables are empty and used when
// they are not, so they take indexes. And a process that hangs does not hold
// its locks for ever.
func (db *DB) begin(b *pgx.Batch) {
	b.Queue("BEGIN ISOLATION LEVEL READ COMMITTED")
	b.Queue(`SELECT set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true),
		set_config('idle_in_transaction_session_timeout', $1, true)`, strconv.FormatInt(db.idle.Milliseconds(), 10))
}

// errRollback ends a transaction that is not an error's.
var errRollback = errors.New("rolled back")

// with runs f with a connection. Where f leaves a transaction open, it is rolled
// back.
func (db *DB) with(ctx context.Context, f func(*pgxpool.Conn) error) error {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return &unsentError{err}
	}
	defer conn.Release() // closes it where it is still in a transaction
	err = f(conn)
	if err != nil && !conn.Conn().IsClosed() && conn.Conn().PgConn().TxStatus() != 'I' {
		_, _ = conn.Exec(ctx, "ROLLBACK")
	}
	return err
}
