package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

// Health is a [health.Store]. Take it from [DB.Health].
type Health struct {
	db                                      *DB
	lock, insert, update, load, get, remove string
}

var _ health.Store = (*Health)(nil)

func newHealth(db *DB) *Health {
	return &Health{
		db: db,
		// The rows come, and are locked, in the order of the flush.
		lock: db.name(`SELECT k.n, h.data FROM {schema}.health h
			JOIN unnest($1::bytea[]) WITH ORDINALITY AS k(tenant, n) ON h.tenant = k.tenant
			ORDER BY k.n FOR UPDATE OF h`),
		insert: db.name(`INSERT INTO {schema}.health (tenant, data)
			SELECT k.tenant, k.data FROM unnest($1::bytea[], $2::json[]) WITH ORDINALITY AS k(tenant, data, n) ORDER BY k.n
			ON CONFLICT DO NOTHING`),
		update: db.name(`UPDATE {schema}.health h SET data = k.data
			FROM unnest($1::bytea[], $2::json[]) AS k(tenant, data) WHERE h.tenant = k.tenant`),
		load:   db.name("SELECT tenant, data FROM {schema}.health WHERE tenant > $1 ORDER BY tenant LIMIT $2"),
		get:    db.name("SELECT data FROM {schema}.health WHERE tenant = $1 FOR UPDATE"),
		remove: db.name("DELETE FROM {schema}.health WHERE tenant = $1"),
	}
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
	err = s.db.flushes.apply(ctx, flush, func(tx pgx.Tx) error {
		keys, stored := make([][]byte, len(adds)), make([][]byte, len(adds))
		for i := range adds {
			keys[i] = []byte(adds[i].Tenant)
		}
		err := readLocked(ctx, tx, func(n int, data []byte) { stored[n] = data }, s.lock, keys)
		if err != nil {
			return err
		}
		var old, oldData, made, madeData [][]byte
		for i := range adds {
			data, err := sqlstore.AddSnapshot(op, stored[i], &adds[i])
			if err != nil {
				return err
			}
			if stored[i] != nil {
				old, oldData = append(old, keys[i]), append(oldData, data)
			} else {
				made, madeData = append(made, keys[i]), append(madeData, data)
			}
		}
		return writeRows(ctx, tx,
			statement{s.insert, len(made), []any{made, madeData}},
			statement{s.update, len(old), []any{old, oldData}})
	})
	return failure(ctx, op, "", err)
}

// Load implements [health.Store].
func (s *Health) Load(ctx context.Context, after string, limit int) (page []health.Snapshot, err error) {
	const op = "load health snapshots"
	if limit <= 0 {
		limit = health.DefaultLimit
	}
	err = s.db.read(ctx, func() error {
		page = nil
		rows, err := s.db.pool.Query(ctx, s.load, []byte(after), limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var tenant, data []byte
			if err := rows.Scan(&tenant, &data); err != nil {
				return err
			}
			snap, err := sqlstore.ParseSnapshot(op, string(tenant), data)
			if err != nil {
				return err
			}
			page = append(page, snap)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, failure(ctx, op, "", err)
	}
	return page, nil
}

// Delete implements [health.Store].
func (s *Health) Delete(ctx context.Context, tenant string, before time.Time) error {
	const op = "delete health snapshot"
	err := s.db.repeat(ctx, func(conn *pgxpool.Conn) error {
		if before.IsZero() {
			_, err := conn.Exec(ctx, s.remove, []byte(tenant))
			return err
		}
		return s.db.transact(ctx, conn, func(tx pgx.Tx) error {
			var data []byte
			err := tx.QueryRow(ctx, s.get, []byte(tenant)).Scan(&data)
			if errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			if err != nil {
				return err
			}
			snap, err := sqlstore.ParseSnapshot(op, tenant, data)
			if err != nil || !snap.Latest().Before(before) {
				return err
			}
			_, err = tx.Exec(ctx, s.remove, []byte(tenant))
			return err
		})
	})
	return failure(ctx, op, tenant, err)
}
