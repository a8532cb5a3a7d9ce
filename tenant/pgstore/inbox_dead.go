package pgstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

// Dead implements [inbox.Inbox]. A page ends after 8 MiB, too.
func (in *Inbox) Dead(ctx context.Context, filter inbox.DeadFilter) (page []inbox.DeadLetter, err error) {
	if filter.Limit <= 0 {
		filter.Limit = inbox.DefaultDeadLimit
	}
	if !sqlstore.Storable(filter.Tenant) || !sqlstore.Storable(filter.After.Tenant) {
		return nil, nil
	}
	err = in.db.read(ctx, func() error {
		page = nil
		rows, err := in.db.pool.Query(ctx, in.sql.dead, filter.After.Tenant, filter.After.ID, filter.Tenant, filter.Limit, int64(pageBytes))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var d inbox.DeadLetter
			var expires *time.Time
			var raw []byte
			err := rows.Scan(&d.Tenant, &d.ID, &d.Chat, &d.Kind, &d.ReceivedAt, &expires, &d.Attempt, &raw, &d.Reason, &d.DiedAt)
			if err != nil {
				return err
			}
			d.Raw, d.ReceivedAt, d.ExpiresAt, d.DiedAt = raw, d.ReceivedAt.UTC(), timeOf(expires), d.DiedAt.UTC()
			page = append(page, d)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, failure(ctx, "list dead letters", "", err)
	}
	return page, nil
}

// columnsOf returns references as columns, each once, in the order in which
// their rows are locked.
func columnsOf(refs []inbox.Ref) (tenants []string, ids []int64) {
	refs = slices.Clone(refs)
	slices.SortFunc(refs, func(a, b inbox.Ref) int { return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ID, b.ID)) })
	for _, r := range slices.Compact(refs) {
		if sqlstore.Storable(r.Tenant) {
			tenants, ids = append(tenants, r.Tenant), append(ids, r.ID)
		}
	}
	return tenants, ids
}

// Replay implements [inbox.Inbox].
func (in *Inbox) Replay(ctx context.Context, refs []inbox.Ref) (n int, err error) {
	tenants, ids := columnsOf(refs)
	if len(ids) == 0 && ctx.Err() == nil {
		return 0, nil
	}
	err = in.db.change(ctx, func(conn *pgxpool.Conn) error {
		b := &pgx.Batch{}
		in.db.begin(b)
		in.lock(b, slices.Compact(slices.Clone(tenants))) // as who puts does
		b.Queue(in.sql.replay, tenants, ids).QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
		b.Queue("COMMIT")
		return conn.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return 0, failure(ctx, "replay dead letters", "", err)
	}
	in.room.Forget(tenants...)
	in.ready.Add(tenants...)
	in.bell.ring()
	return n, nil
}

// Drop implements [inbox.Inbox].
func (in *Inbox) Drop(ctx context.Context, refs []inbox.Ref) (int, error) {
	tenants, ids := columnsOf(refs)
	if len(ids) == 0 && ctx.Err() == nil {
		return 0, nil
	}
	var n int64
	err := in.db.change(ctx, func(conn *pgxpool.Conn) error {
		tag, err := conn.Exec(ctx, in.sql.drop, tenants, ids)
		n = tag.RowsAffected()
		return err
	})
	if err != nil {
		return 0, failure(ctx, "drop dead letters", "", err)
	}
	return int(n), nil
}

// Depth implements [inbox.Inbox].
func (in *Inbox) Depth(ctx context.Context, tenant string) (d inbox.Depth, err error) {
	if !sqlstore.Storable(tenant) {
		return d, nil
	}
	sql := in.sql.depthTenant
	if tenant == "" {
		sql = in.sql.depthAll
	}
	var oldest *time.Time
	err = in.db.read(ctx, func() error {
		return in.db.pool.QueryRow(ctx, sql, tenant).Scan(&d.Waiting, &oldest, &d.Leased, &d.Dead)
	})
	if err != nil {
		return inbox.Depth{}, failure(ctx, "measure inbox", tenant, err)
	}
	d.Waiting = max(0, d.Waiting-d.Leased)
	d.Oldest = timeOf(oldest)
	return d, nil
}

// Forget implements [inbox.Inbox].
func (in *Inbox) Forget(ctx context.Context, tenant string) error {
	if !sqlstore.Storable(tenant) {
		return nil
	}
	err := in.db.change(ctx, func(conn *pgxpool.Conn) error {
		b := &pgx.Batch{}
		in.db.begin(b)
		in.lock(b, []string{tenant})
		for _, sql := range in.sql.forget {
			b.Queue(sql, tenant)
		}
		b.Queue("COMMIT")
		return conn.SendBatch(ctx, b).Close()
	})
	in.room.Forget(tenant)
	return failure(ctx, "forget tenant", tenant, err)
}
