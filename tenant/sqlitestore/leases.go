package sqlitestore

import (
	"context"
	"database/sql"
	"time"

	"github.com/tgfleet/tgfleet/tenant/polling"
)

// Leases are a [polling.Leases] for the processes of one machine. Take them
// from [DB.Leases].
type Leases struct {
	db *DB

	take, owner, release *sql.Stmt
}

var _ polling.Leases = (*Leases)(nil)

func newLeases(ctx context.Context, db *DB) (*Leases, error) {
	l := &Leases{db: db}
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&l.take, `INSERT INTO leases (tenant, owner, until) VALUES (?1, ?2, ?3)
			ON CONFLICT DO UPDATE SET owner = ?2, until = ?3 WHERE owner = ?2 OR until <= ?4`},
		{&l.owner, "SELECT owner FROM leases WHERE tenant = ?"},
		{&l.release, "DELETE FROM leases WHERE tenant = ? AND owner = ?"},
	} {
		var err error
		if *p.stmt, err = db.write.PrepareContext(ctx, p.text); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Acquire implements [polling.Leases], in one transaction.
func (l *Leases) Acquire(ctx context.Context, owner string, tenants []string, ttl time.Duration) ([]string, error) {
	if len(tenants) == 0 && ctx.Err() == nil {
		return nil, nil
	}
	holders := make([]string, len(tenants))
	err := l.db.change(ctx, func(tx *sql.Tx) error {
		now := time.Now() // not before the transaction has begun, which may take a while
		take, holder := tx.StmtContext(ctx, l.take), tx.StmtContext(ctx, l.owner)
		for i, tenant := range tenants {
			result, err := take.ExecContext(ctx, tenant, owner, now.Add(ttl).UnixMicro(), now.UnixMicro())
			if err != nil {
				return err
			}
			if n, err := result.RowsAffected(); err != nil {
				return err
			} else if n > 0 {
				holders[i] = owner
				continue
			}
			if err := holder.QueryRowContext(ctx, tenant).Scan(&holders[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, failure(ctx, "acquire leases", "", err)
	}
	return holders, nil
}

// Release implements [polling.Leases].
func (l *Leases) Release(ctx context.Context, owner string, tenants []string) error {
	if len(tenants) == 0 && ctx.Err() == nil {
		return nil
	}
	err := l.db.change(ctx, func(tx *sql.Tx) error {
		release := tx.StmtContext(ctx, l.release)
		for _, tenant := range tenants {
			if _, err := release.ExecContext(ctx, tenant, owner); err != nil {
				return err
			}
		}
		return nil
	})
	return failure(ctx, "release leases", "", err)
}
