package sqlitestore

import (
	"context"
	"database/sql"
	"time"

	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

// Health is a [health.Store]. Take it from [DB.Health].
type Health struct {
	db                     *DB
	get, put, load, remove *sql.Stmt
}

var _ health.Store = (*Health)(nil)

func newHealth(ctx context.Context, db *DB) (*Health, error) {
	s := &Health{db: db}
	return s, prepare(ctx, []prepared{
		{&s.get, db.write, "SELECT data FROM health WHERE tenant = ?"},
		{&s.put, db.write, "INSERT INTO health (tenant, data) VALUES (?, ?) ON CONFLICT DO UPDATE SET data = excluded.data"},
		{&s.load, db.read, "SELECT tenant, data FROM health WHERE tenant > ? ORDER BY tenant LIMIT ?"},
		{&s.remove, db.write, "DELETE FROM health WHERE tenant = ?"},
	})
}

// Merge implements [health.Store].
func (s *Health) Merge(ctx context.Context, flush health.Flush, snapshots []health.Snapshot) error {
	const op = "merge health snapshots"
	if err := sqlstore.CheckFlush(op, flush); err != nil {
		return err
	}
	adds, err := sqlstore.Snapshots(op, snapshots)
	if err != nil {
		return err
	}
	err = s.db.flushes.apply(ctx, flush, func(tx *sql.Tx) error {
		get, put := tx.StmtContext(ctx, s.get), tx.StmtContext(ctx, s.put)
		for i := range adds {
			old, err := stored(ctx, get, adds[i].Tenant)
			if err != nil {
				return err
			}
			data, err := sqlstore.AddSnapshot(op, old, &adds[i])
			if err != nil {
				return err
			}
			if _, err := put.ExecContext(ctx, adds[i].Tenant, string(data)); err != nil {
				return err
			}
		}
		return nil
	})
	return failure(ctx, op, "", err)
}

// Load implements [health.Store].
func (s *Health) Load(ctx context.Context, after string, limit int) ([]health.Snapshot, error) {
	const op = "load health snapshots"
	if limit <= 0 {
		limit = health.DefaultLimit
	}
	rows, err := s.load.QueryContext(ctx, after, limit)
	if err != nil {
		return nil, failure(ctx, op, "", err)
	}
	defer rows.Close()
	var page []health.Snapshot
	for rows.Next() {
		var tenant string
		var data []byte
		if err := rows.Scan(&tenant, &data); err != nil {
			return nil, failure(ctx, op, "", err)
		}
		snap, err := sqlstore.ParseSnapshot(op, tenant, data)
		if err != nil {
			return nil, err
		}
		page = append(page, snap)
	}
	if err := rows.Err(); err != nil {
		return nil, failure(ctx, op, "", err)
	}
	return page, nil
}

// Delete implements [health.Store].
func (s *Health) Delete(ctx context.Context, tenant string, before time.Time) error {
	const op = "delete health snapshot"
	err := s.db.change(ctx, func(tx *sql.Tx) error {
		if !before.IsZero() {
			data, err := stored(ctx, tx.StmtContext(ctx, s.get), tenant)
			if err != nil || data == nil {
				return err
			}
			snap, err := sqlstore.ParseSnapshot(op, tenant, data)
			if err != nil || !snap.Latest().Before(before) {
				return err
			}
		}
		_, err := tx.StmtContext(ctx, s.remove).ExecContext(ctx, tenant)
		return err
	})
	return failure(ctx, op, tenant, err)
}
