package pgstore

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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

// pipeline runs f with a connection, and again where it certainly has changed
// nothing. f begins and ends a transaction itself, to save ways to the server.
func (db *DB) pipeline(ctx context.Context, f func(*pgxpool.Conn) error) error {
	for try := 1; ; try++ {
		err := db.pipelineOnce(ctx, f)
		if err == errRollback {
			return nil
		}
		if err == nil || try == readTries || ctx.Err() != nil || !pgconn.SafeToRetry(err) && !deadlock(err) {
			return err
		}
	}
}

func (db *DB) pipelineOnce(ctx context.Context, f func(*pgxpool.Conn) error) error {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // closes it where it is still in a transaction
	err = f(conn)
	if err != nil && !conn.Conn().IsClosed() && conn.Conn().PgConn().TxStatus() != 'I' {
		_, _ = conn.Exec(ctx, "ROLLBACK")
	}
	return err
}
