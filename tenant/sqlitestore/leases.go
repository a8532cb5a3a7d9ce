package sqlitestore

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
	"github.com/tgfleet/tgfleet/tenant/polling"
)

// Leases are a [polling.Leases] for the processes of one machine. Take them
// from [DB.Leases].
type Leases struct {
	db *DB

	take, owner, release  *sql.Stmt
	beat, sweep, all, end *sql.Stmt
}

var _ polling.Leases = (*Leases)(nil)

// ownerPrefix tells owners from tenants, whose ids have no such character. An
// owner's row has what it wants in the place of who has it.
const ownerPrefix = "\x1f"

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
		{&l.beat, "INSERT OR REPLACE INTO leases (tenant, owner, until) VALUES (?, ?, ?)"},
		{&l.end, "DELETE FROM leases WHERE tenant = ?"},
		{&l.sweep, "DELETE FROM leases WHERE tenant >= char(31) AND tenant < ' ' AND until <= ?"},
		{&l.all, "SELECT tenant, owner FROM leases WHERE tenant >= char(31) AND tenant < ' '"},
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
	if err := areTenants("acquire leases", tenants); err != nil {
		return nil, err
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
	if err := areTenants("release leases", tenants); err != nil {
		return err
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

func areTenants(op string, names []string) error {
	for _, name := range names {
		if strings.HasPrefix(name, ownerPrefix) {
			return sqlstore.Fail(op, "", errors.BadRequest, errors.New("a tenant's name begins with a control character"))
		}
	}
	return nil
}

// Heartbeat implements [polling.Leases].
func (l *Leases) Heartbeat(ctx context.Context, owner string, want int, ttl time.Duration) (map[string]int, error) {
	wants := make(map[string]int)
	err := l.db.change(ctx, func(tx *sql.Tx) (err error) {
		clear(wants)
		now := time.Now()
		if ttl > 0 {
			_, err = tx.StmtContext(ctx, l.beat).ExecContext(ctx, ownerPrefix+owner, strconv.Itoa(want), now.Add(ttl).UnixMicro())
		} else {
			_, err = tx.StmtContext(ctx, l.end).ExecContext(ctx, ownerPrefix+owner)
		}
		if err != nil {
			return err
		}
		if _, err := tx.StmtContext(ctx, l.sweep).ExecContext(ctx, now.UnixMicro()); err != nil {
			return err
		}
		rows, err := tx.StmtContext(ctx, l.all).QueryContext(ctx)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name, want string
			if err := rows.Scan(&name, &want); err != nil {
				return err
			}
			wants[strings.TrimPrefix(name, ownerPrefix)], _ = strconv.Atoi(want)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, failure(ctx, "tell of a process that polls", "", err)
	}
	return wants, nil
}
