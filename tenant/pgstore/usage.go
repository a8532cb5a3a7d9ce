package pgstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

// Usage is a [usage.Store]. Take it from [DB.Usage].
type Usage struct {
	db                          *DB
	lock, insert, update, span  string
	hours, drop, prune, lockAll string
	tenants                     string
}

var _ usage.Store = (*Usage)(nil)

func newUsage(db *DB) *Usage {
	return &Usage{
		db: db,
		// The rows come, and are locked, in the order of the flush.
		lock: db.name(`SELECT k.n, r.data FROM {schema}.rollups r
			JOIN unnest($1::bytea[], $2::timestamptz[], $3::boolean[]) WITH ORDINALITY AS k(tenant, start, daily, n)
			ON r.tenant = k.tenant AND r.start = k.start AND r.daily = k.daily
			ORDER BY k.n FOR UPDATE OF r`),
		insert: db.name(`INSERT INTO {schema}.rollups (tenant, start, daily, data)
			SELECT k.tenant, k.start, k.daily, k.data FROM unnest($1::bytea[], $2::timestamptz[], $3::boolean[], $4::json[])
				WITH ORDINALITY AS k(tenant, start, daily, data, n)
			ORDER BY k.n ON CONFLICT DO NOTHING`),
		update: db.name(`UPDATE {schema}.rollups r SET data = k.data
			FROM unnest($1::bytea[], $2::timestamptz[], $3::boolean[], $4::json[]) AS k(tenant, start, daily, data)
			WHERE r.tenant = k.tenant AND r.start = k.start AND r.daily = k.daily`),
		span: db.name("SELECT data FROM {schema}.rollups WHERE tenant = $1 AND start >= $2 AND start < $3 ORDER BY start, daily"),
		// What another one has in its hands is left to it.
		hours: db.name(`SELECT tenant, start, data FROM {schema}.rollups WHERE NOT daily AND start < $1
			ORDER BY start, tenant LIMIT $2 FOR UPDATE SKIP LOCKED`),
		drop: db.name(`DELETE FROM {schema}.rollups r
			USING unnest($1::bytea[], $2::timestamptz[], $3::boolean[]) AS k(tenant, start, daily)
			WHERE r.tenant = k.tenant AND r.start = k.start AND r.daily = k.daily`),
		prune: db.name(`WITH old AS (
				SELECT tenant, start FROM {schema}.rollups WHERE daily AND start < $1
				ORDER BY start, tenant LIMIT $2 FOR UPDATE SKIP LOCKED
			) DELETE FROM {schema}.rollups r USING old WHERE r.tenant = old.tenant AND r.start = old.start AND r.daily`),
		// In the order of a flush.
		lockAll: db.name("SELECT start, daily FROM {schema}.rollups WHERE tenant = $1 AND start < $2 ORDER BY daily, start FOR UPDATE"),
		// A look into the index for each, and none for each of their hours.
		tenants: db.name(`WITH RECURSIVE t AS (
				(SELECT tenant FROM {schema}.rollups WHERE tenant > $1 ORDER BY tenant LIMIT 1)
				UNION ALL
				SELECT (SELECT r.tenant FROM {schema}.rollups r WHERE r.tenant > t.tenant ORDER BY r.tenant LIMIT 1)
				FROM t WHERE t.tenant IS NOT NULL
			) SELECT tenant FROM t WHERE tenant IS NOT NULL LIMIT $2`),
	}
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
	err = s.db.flushes.apply(ctx, flush, func(tx pgx.Tx) error { return s.add(ctx, op, tx, adds) })
	return failure(ctx, op, "", err)
}

// rollupKeys are the keys of roll-ups, as columns.
type rollupKeys struct {
	tenants [][]byte
	starts  []time.Time
	daily   []bool
}

func (k *rollupKeys) append(tenant string, start time.Time, daily bool) {
	k.tenants, k.starts, k.daily = append(k.tenants, []byte(tenant)), append(k.starts, start), append(k.daily, daily)
}

// args returns the arguments of a statement, of which others may follow.
func (k *rollupKeys) args(more ...any) []any {
	return append([]any{k.tenants, k.starts, k.daily}, more...)
}

// add adds roll-ups that are in order.
func (s *Usage) add(ctx context.Context, op string, tx pgx.Tx, adds []usage.Rollup) error {
	var keys, old, made rollupKeys
	var oldData, madeData [][]byte
	for i := range adds {
		keys.append(adds[i].Tenant, adds[i].Start, adds[i].Daily)
	}
	stored := make([][]byte, len(adds))
	err := readLocked(ctx, tx, func(n int, data []byte) { stored[n] = data }, s.lock, keys.args()...)
	if err != nil {
		return err
	}
	for i := range adds {
		r := &adds[i]
		data, err := sqlstore.AddRollup(op, stored[i], r)
		if err != nil {
			return err
		}
		if stored[i] != nil {
			old.append(r.Tenant, r.Start, r.Daily)
			oldData = append(oldData, data)
		} else {
			made.append(r.Tenant, r.Start, r.Daily)
			madeData = append(madeData, data)
		}
	}
	return writeRows(ctx, tx,
		statement{s.insert, len(madeData), made.args(madeData)},
		statement{s.update, len(oldData), old.args(oldData)})
}

// Range implements [usage.Store].
func (s *Usage) Range(ctx context.Context, tenant string, from, to time.Time) (list []usage.Rollup, err error) {
	const op = "read roll-ups"
	err = s.db.read(ctx, func() error {
		list = nil
		rows, err := s.db.pool.Query(ctx, s.span, []byte(tenant), sqlstore.Bound(from), sqlstore.Bound(to))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var data []byte
			if err := rows.Scan(&data); err != nil {
				return err
			}
			r, err := sqlstore.ParseRollup(op, tenant, data)
			if err != nil {
				return err
			}
			list = append(list, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, failure(ctx, op, tenant, err)
	}
	return list, nil
}

// Compact implements [usage.Store]. Hours that another transaction is writing
// are left for the next time.
func (s *Usage) Compact(ctx context.Context, before time.Time, limit int) (n int, err error) {
	const op = "compact roll-ups"
	err = s.db.change(ctx, func(conn *pgxpool.Conn) error {
		return s.db.transact(ctx, conn, func(tx pgx.Tx) error {
			var keys rollupKeys
			hours, err := s.takeHours(ctx, op, tx, &keys, before, limit)
			if n = len(hours); err != nil || n == 0 {
				return err
			}
			days, err := sqlstore.Days(hours)
			if err != nil {
				return err
			}
			if err := s.add(ctx, op, tx, days); err != nil {
				return err
			}
			_, err = tx.Exec(ctx, s.drop, keys.args()...)
			return err
		})
	})
	if err != nil {
		return 0, failure(ctx, op, "", err)
	}
	return n, nil
}

// takeHours locks and returns hours, and adds their keys to keys.
func (s *Usage) takeHours(ctx context.Context, op string, tx pgx.Tx, keys *rollupKeys, before time.Time, limit int) ([]usage.Rollup, error) {
	rows, err := tx.Query(ctx, s.hours, sqlstore.Bound(before), max(limit, 0))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var hours []usage.Rollup
	for rows.Next() {
		var tenant, data []byte
		var start time.Time
		if err := rows.Scan(&tenant, &start, &data); err != nil {
			return nil, err
		}
		r, err := sqlstore.ParseRollup(op, string(tenant), data)
		if err != nil {
			return nil, err
		}
		keys.append(string(tenant), start, false)
		hours = append(hours, r)
	}
	return hours, rows.Err()
}

// Prune implements [usage.Store].
func (s *Usage) Prune(ctx context.Context, before time.Time, limit int) (int, error) {
	var n int64
	err := s.db.change(ctx, func(conn *pgxpool.Conn) error {
		tag, err := conn.Exec(ctx, s.prune, sqlstore.Bound(before), max(limit, 0))
		n = tag.RowsAffected()
		return err
	})
	if err != nil {
		return 0, failure(ctx, "prune roll-ups", "", err)
	}
	return int(n), nil
}

// Tenants implements [usage.Store].
func (s *Usage) Tenants(ctx context.Context, after string, limit int) (ids []string, err error) {
	if limit <= 0 {
		limit = health.DefaultLimit
	}
	err = s.db.read(ctx, func() error {
		ids = nil
		rows, err := s.db.pool.Query(ctx, s.tenants, []byte(after), limit)
		if err != nil {
			return err
		}
		var tenant []byte
		_, err = pgx.ForEachRow(rows, []any{&tenant}, func() error {
			ids = append(ids, string(tenant))
			return nil
		})
		return err
	})
	if err != nil {
		return nil, failure(ctx, "list tenants of roll-ups", "", err)
	}
	return ids, nil
}

// Delete implements [usage.Store]. What is added at the same time may stay.
func (s *Usage) Delete(ctx context.Context, tenant string, before time.Time) error {
	err := s.db.repeat(ctx, func(conn *pgxpool.Conn) error {
		return s.db.transact(ctx, conn, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, s.lockAll, []byte(tenant), sqlstore.End(before))
			if err != nil {
				return err
			}
			var keys rollupKeys
			var start time.Time
			var daily bool
			_, err = pgx.ForEachRow(rows, []any{&start, &daily}, func() error {
				keys.append(tenant, start, daily)
				return nil
			})
			if err != nil {
				return err
			}
			// These and no others: one that was added since may be locked.
			_, err = tx.Exec(ctx, s.drop, keys.args()...)
			return err
		})
	})
	return failure(ctx, "delete roll-ups", tenant, err)
}
