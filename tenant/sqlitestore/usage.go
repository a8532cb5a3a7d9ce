package sqlitestore

import (
	"context"
	"database/sql"
	"time"

	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

// Usage is a [usage.Store]. Take it from [DB.Usage].
type Usage struct {
	db                                *DB
	get, put, span, take, prune, drop *sql.Stmt
	tenants                           *sql.Stmt
}

var _ usage.Store = (*Usage)(nil)

func newUsage(ctx context.Context, db *DB) (*Usage, error) {
	s := &Usage{db: db}
	// The rows that are to go, found by the index of starts.
	const old = ` WHERE rowid IN (SELECT rowid FROM rollups WHERE daily = ? AND start < ? ORDER BY start, tenant LIMIT ?)`
	return s, prepare(ctx, []prepared{
		{&s.get, db.write, "SELECT data FROM rollups WHERE tenant = ? AND start = ? AND daily = ?"},
		{&s.put, db.write, `INSERT INTO rollups (tenant, start, daily, data) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET data = excluded.data`},
		{&s.span, db.read, "SELECT data FROM rollups WHERE tenant = ? AND start >= ? AND start < ? ORDER BY start, daily"},
		{&s.take, db.write, "DELETE FROM rollups" + old + " RETURNING tenant, data"},
		{&s.prune, db.write, "DELETE FROM rollups" + old},
		{&s.drop, db.write, "DELETE FROM rollups WHERE tenant = ? AND start < ?"},
		// A look into the index for each, and none for each of their hours.
		{&s.tenants, db.read, `WITH RECURSIVE t (tenant) AS (
				SELECT min(tenant) FROM rollups WHERE tenant > ?
				UNION ALL SELECT (SELECT min(tenant) FROM rollups r WHERE r.tenant > t.tenant) FROM t WHERE t.tenant IS NOT NULL
			) SELECT tenant FROM t WHERE tenant IS NOT NULL LIMIT ?`},
	})
}

// Add implements [usage.Store].
func (s *Usage) Add(ctx context.Context, flush health.Flush, rollups []usage.Rollup) error {
	const op = "add roll-ups"
	if err := sqlstore.CheckFlush(op, flush); err != nil {
		return err
	}
	adds, err := sqlstore.Rollups(rollups)
	if err != nil {
		return err
	}
	err = s.db.flushes.apply(ctx, flush, func(tx *sql.Tx) error { return s.add(ctx, op, tx, adds) })
	return failure(ctx, op, "", err)
}

func (s *Usage) add(ctx context.Context, op string, tx *sql.Tx, adds []usage.Rollup) error {
	get, put := tx.StmtContext(ctx, s.get), tx.StmtContext(ctx, s.put)
	for i := range adds {
		r := &adds[i]
		old, err := stored(ctx, get, r.Tenant, r.Start.UnixMicro(), r.Daily)
		if err != nil {
			return err
		}
		data, err := sqlstore.AddRollup(op, old, r)
		if err != nil {
			return err
		}
		if _, err := put.ExecContext(ctx, r.Tenant, r.Start.UnixMicro(), r.Daily, string(data)); err != nil {
			return err
		}
	}
	return nil
}

// Range implements [usage.Store].
func (s *Usage) Range(ctx context.Context, tenant string, from, to time.Time) ([]usage.Rollup, error) {
	const op = "read roll-ups"
	rows, err := s.span.QueryContext(ctx, tenant, sqlstore.Bound(from).UnixMicro(), sqlstore.Bound(to).UnixMicro())
	if err != nil {
		return nil, failure(ctx, op, tenant, err)
	}
	defer rows.Close()
	var list []usage.Rollup
	for rows.Next() {
		var data []byte
		if err := rows.Scan(&data); err != nil {
			return nil, failure(ctx, op, tenant, err)
		}
		r, err := sqlstore.ParseRollup(op, tenant, data)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	if err := rows.Err(); err != nil {
		return nil, failure(ctx, op, tenant, err)
	}
	return list, nil
}

// Compact implements [usage.Store].
func (s *Usage) Compact(ctx context.Context, before time.Time, limit int) (n int, err error) {
	const op = "compact roll-ups"
	err = s.db.change(ctx, func(tx *sql.Tx) error {
		hours, err := s.takeHours(ctx, op, tx, before, limit)
		if n = len(hours); err != nil || n == 0 {
			return err
		}
		days, err := sqlstore.Days(hours)
		if err != nil {
			return err
		}
		return s.add(ctx, op, tx, days)
	})
	if err != nil {
		return 0, failure(ctx, op, "", err)
	}
	return n, nil
}

// takeHours removes and returns hours.
func (s *Usage) takeHours(ctx context.Context, op string, tx *sql.Tx, before time.Time, limit int) ([]usage.Rollup, error) {
	rows, err := tx.StmtContext(ctx, s.take).QueryContext(ctx, false, sqlstore.Bound(before).UnixMicro(), max(limit, 0))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var hours []usage.Rollup
	for rows.Next() {
		var tenant string
		var data []byte
		if err := rows.Scan(&tenant, &data); err != nil {
			return nil, err
		}
		r, err := sqlstore.ParseRollup(op, tenant, data)
		if err != nil {
			return nil, err
		}
		hours = append(hours, r)
	}
	return hours, rows.Err()
}

// Prune implements [usage.Store].
func (s *Usage) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	var n int64
	err := s.db.change(ctx, func(tx *sql.Tx) error {
		result, err := tx.StmtContext(ctx, s.prune).ExecContext(ctx, true, sqlstore.Bound(before).UnixMicro(), max(limit, 0))
		if err != nil {
			return err
		}
		n, err = result.RowsAffected()
		return err
	})
	if err != nil {
		return 0, failure(ctx, "prune roll-ups", "", err)
	}
	return int(n), nil
}

// Tenants implements [usage.Store].
func (s *Usage) Tenants(ctx context.Context, after string, limit int) ([]string, error) {
	const op = "list tenants of roll-ups"
	if limit <= 0 {
		limit = health.DefaultLimit
	}
	rows, err := s.tenants.QueryContext(ctx, after, limit)
	if err != nil {
		return nil, failure(ctx, op, "", err)
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var tenant string
		if err := rows.Scan(&tenant); err != nil {
			return nil, failure(ctx, op, "", err)
		}
		ids = append(ids, tenant)
	}
	if err := rows.Err(); err != nil {
		return nil, failure(ctx, op, "", err)
	}
	return ids, nil
}

// Delete implements [usage.Store].
func (s *Usage) Delete(ctx context.Context, tenant string, before time.Time) error {
	err := s.db.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.StmtContext(ctx, s.drop).ExecContext(ctx, tenant, sqlstore.End(before).UnixMicro())
		return err
	})
	return failure(ctx, "delete roll-ups", tenant, err)
}
