package sqlitestore

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

// Dead implements [inbox.Inbox].
func (in *Inbox) Dead(ctx context.Context, filter inbox.DeadFilter) ([]inbox.DeadLetter, error) {
	const what = "list dead letters"
	if filter.Limit <= 0 {
		filter.Limit = inbox.DefaultDeadLimit
	}
	query := in.stmts.dead
	if filter.Tenant != "" {
		query = in.stmts.deadOfTenant
	}
	rows, err := query.QueryContext(ctx, filter.After.Tenant, filter.After.ID, filter.Tenant, filter.Limit)
	if err != nil {
		return nil, failure(ctx, what, "", err)
	}
	defer rows.Close()
	var page []inbox.DeadLetter
	var room sqlstore.PageRoom
	for rows.Next() {
		var d inbox.DeadLetter
		var received, died int64
		var expires sql.NullInt64
		var raw []byte
		err := rows.Scan(&d.Tenant, &d.ID, &d.Chat, &d.Kind, &received, &expires, &d.Attempt, &raw, &d.Reason, &died)
		if err != nil {
			return nil, failure(ctx, what, "", err)
		}
		d.Raw, d.ExpiresAt = raw, timeOf(expires)
		d.ReceivedAt, d.DiedAt = time.UnixMicro(received).UTC(), time.UnixMicro(died).UTC()
		if !room.Take(len(raw) + len(d.Reason)) {
			return page, nil
		}
		page = append(page, d)
	}
	if err := rows.Err(); err != nil {
		return nil, failure(ctx, what, "", err)
	}
	return page, nil
}

// Replay implements [inbox.Inbox].
func (in *Inbox) Replay(ctx context.Context, refs []inbox.Ref) (int, error) {
	return in.exhume(ctx, "replay dead letters", refs, func(t *inboxTx, r inbox.Ref) (int64, error) {
		var chat, kind string
		var received int64
		var raw []byte
		err := t.row(readDead, r.Tenant, r.ID).Scan(&chat, &kind, &received, &raw)
		if err == sql.ErrNoRows {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		added, err := t.exec(insertUpdate, r.Tenant, chat, r.ID, kind, received, nil, 0, raw)
		if err != nil || added == 0 { // another one has its id, and waits: it stays dead
			return 0, err
		}
		if _, err := t.exec(dropDead, r.Tenant, r.ID); err != nil {
			return 0, err
		}
		return 1, t.makeReady(r.Tenant, chat)
	})
}

// Drop implements [inbox.Inbox].
func (in *Inbox) Drop(ctx context.Context, refs []inbox.Ref) (int, error) {
	return in.exhume(ctx, "drop dead letters", refs, func(t *inboxTx, r inbox.Ref) (int64, error) {
		return t.exec(dropDead, r.Tenant, r.ID)
	})
}

func (in *Inbox) exhume(ctx context.Context, what string, refs []inbox.Ref, f func(*inboxTx, inbox.Ref) (int64, error)) (int, error) {
	if len(refs) == 0 && ctx.Err() == nil {
		return 0, nil
	}
	refs = slices.Clone(refs)
	var total int64
	err := in.do(ctx, what, &inboxOp{durable: true, run: func(t *inboxTx) error {
		total = 0
		for _, r := range refs {
			n, err := f(t, r)
			if err != nil {
				return err
			}
			total += n
		}
		return nil
	}})
	if err != nil {
		return 0, err
	}
	for _, r := range refs {
		in.room.Forget(r.Tenant)
	}
	return int(total), nil
}

// Depth implements [inbox.Inbox].
func (in *Inbox) Depth(ctx context.Context, tenant string) (inbox.Depth, error) {
	var d inbox.Depth
	var oldest sql.NullInt64
	stmt := in.stmts.depthTenant
	if tenant == "" {
		stmt = in.stmts.depthOfAll
	}
	err := stmt.QueryRowContext(ctx, tenant, time.Now().UnixMicro()).Scan(&d.Waiting, &oldest, &d.Leased, &d.Dead)
	if err != nil {
		return inbox.Depth{}, failure(ctx, "measure inbox", tenant, err)
	}
	d.Waiting = max(0, d.Waiting-d.Leased)
	d.Oldest = timeOf(oldest)
	return d, nil
}

// Forget implements [inbox.Inbox].
func (in *Inbox) Forget(ctx context.Context, tenant string) error {
	err := in.do(ctx, "forget tenant", &inboxOp{durable: true, run: func(t *inboxTx) error {
		for _, stmt := range []int{forgetUpdates, forgetChats, forgetDead, forgetIDs} {
			if _, err := t.exec(stmt, tenant); err != nil {
				return err
			}
		}
		return nil
	}})
	in.room.Forget(tenant)
	return err
}
