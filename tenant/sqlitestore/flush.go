package sqlitestore

import (
	"context"
	"database/sql"
	"time"

	"github.com/tgfleet/tgfleet/health"
)

// flushes applies each write of a monitor or a recorder once.
type flushes struct {
	db            *DB
	begin, forget *sql.Stmt
}

func newFlushes(ctx context.Context, db *DB) (*flushes, error) {
	s := &flushes{db: db}
	return s, prepare(ctx, []prepared{
		{&s.begin, db.write, `INSERT INTO flushes (writer, seq, at) VALUES (?, ?, ?)
			ON CONFLICT (writer) DO UPDATE SET seq = excluded.seq, at = excluded.at WHERE seq < excluded.seq`},
		{&s.forget, db.write, "DELETE FROM flushes WHERE at < ?"},
	})
}

// apply calls add, in the transaction that notes the flush, unless it was applied
// before.
func (s *flushes) apply(ctx context.Context, f health.Flush, add func(tx *sql.Tx) error) error {
	return s.db.change(ctx, func(tx *sql.Tx) error {
		now := time.Now()
		result, err := tx.StmtContext(ctx, s.begin).ExecContext(ctx, f.Writer, int64(f.Seq), now.UnixMicro())
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return err
		}
		if f.Seq == 1 { // a process has started: time to forget those that are gone
			_, err := tx.StmtContext(ctx, s.forget).ExecContext(ctx, now.Add(-health.FlushMemory).UnixMicro())
			if err != nil {
				return err
			}
		}
		return add(tx)
	})
}

// stored returns the data of the row that a query finds, and nil for none.
func stored(ctx context.Context, query *sql.Stmt, key ...any) (data []byte, err error) {
	err = query.QueryRowContext(ctx, key...).Scan(&data)
	if err == sql.ErrNoRows {
		return nil, nil
	}
	return data, err
}
