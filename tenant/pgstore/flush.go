package pgstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
)

// flushes applies each write of a monitor or a recorder once.
type flushes struct {
	db            *DB
	begin, forget string
}

func newFlushes(db *DB) *flushes {
	return &flushes{
		db: db,
		// A repetition waits here for the first one, should that still go on.
		begin: db.name(`INSERT INTO {schema}.flushes AS f (writer, seq, at) VALUES ($1, $2, now())
			ON CONFLICT (writer) DO UPDATE SET seq = excluded.seq, at = excluded.at WHERE f.seq < excluded.seq`),
		forget: db.name(`DELETE FROM {schema}.flushes WHERE writer IN (
			SELECT writer FROM {schema}.flushes WHERE at < now() - $1::interval FOR UPDATE SKIP LOCKED)`),
	}
}

// apply calls add, in the transaction that notes the flush, unless it was applied
// before. That makes it safe to repeat, also where it is not known what became
// of it.
func (s *flushes) apply(ctx context.Context, f health.Flush, add func(tx pgx.Tx) error) error {
	return s.db.repeat(ctx, func(conn *pgxpool.Conn) error {
		return s.db.transact(ctx, conn, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, s.begin, f.Writer, int64(f.Seq))
			if err != nil || tag.RowsAffected() == 0 {
				return err
			}
			if f.Seq == 1 { // a process has started: time to forget those that are gone
				if _, err := tx.Exec(ctx, s.forget, health.FlushMemory); err != nil {
					return err
				}
			}
			return add(tx)
		})
	})
}

// idleLimit is how long the server waits for the next statement of a
// transaction. A process that vanishes without a word would otherwise keep its
// rows locked until TCP notices, which takes hours.
const idleLimit = 30 * time.Second

// errContended says that another transaction has made a row that this one was to
// make.
var errContended = errors.New("others write the same rows")

// transactTries bounds how often a transaction is begun anew. Each time the rows
// are there that the others have made, so that the second or third time will do
// unless somebody goes on removing them.
const transactTries = 100

// transact runs f in a transaction, and again where others came between.
//
// So that no two wait for each other, each f does this in this order:
//
//  1. it locks the rows that there are, hours before days and otherwise by key,
//     or those of them that are free;
//  2. it makes the rows that there are not, by key;
//  3. it updates and removes rows that it has locked.
//
// Who makes a row waits for whoever is making, updating or removing it, but not
// for who has it locked. So each waits only for such as are further in the list,
// or further by key: 1 for any, 2 for 2 and 3, and 3 for nobody.
func (db *DB) transact(ctx context.Context, conn *pgxpool.Conn, f func(tx pgx.Tx) error) error {
	options := pgx.TxOptions{BeginQuery: fmt.Sprintf(
		// Read committed, whatever the database's default is: who has waited for
		// a row reads what was written meanwhile.
		"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = %d", db.idle.Milliseconds())}
	for try := 1; ; try++ {
		err := pgx.BeginTxFunc(ctx, conn, options, f)
		if err == nil || try == transactTries || ctx.Err() != nil || !errors.Is(err, errContended) && !rolledBack(err) {
			return err
		}
	}
}

// readLocked calls f for each row that a query returns: its number, from 0, and
// its data.
func readLocked(ctx context.Context, tx pgx.Tx, f func(n int, data []byte), sql string, args ...any) error {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		var data []byte
		if err := rows.Scan(&n, &data); err != nil {
			return err
		}
		f(int(n)-1, data) // PostgreSQL counts from 1
	}
	return rows.Err()
}

// statement is one that writes a known number of rows.
type statement struct {
	sql  string
	rows int
	args []any
}

// writeRows runs statements in one way to the server and back. It returns
// errContended where one has written fewer rows than it was to.
func writeRows(ctx context.Context, tx pgx.Tx, all ...statement) error {
	var batch pgx.Batch
	short := false
	for _, s := range all {
		if s.rows > 0 {
			batch.Queue(s.sql, s.args...).Exec(func(tag pgconn.CommandTag) error {
				short = short || tag.RowsAffected() != int64(s.rows)
				return nil
			})
		}
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return err
	}
	if short {
		return errContended
	}
	return nil
}
