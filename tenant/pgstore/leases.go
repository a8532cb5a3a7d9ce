package pgstore

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
	"github.com/tgfleet/tgfleet/tenant/polling"
)

// Leases are a [polling.Leases]. They end by the server's clock. Take them from
// [DB.Leases].
type Leases struct {
	db *DB

	take, owners, release string
	beat, leave, all      string
}

var _ polling.Leases = (*Leases)(nil)

// ownerPrefix tells owners from tenants, whose ids have no such character. An
// owner's row has what it wants in the place of who has it.
const ownerPrefix = "\x1f"

func newLeases(db *DB) *Leases {
	return &Leases{
		db: db,
		// A row that another has is locked all the same, so that owners finds
		// it as it is.
		take: db.name(`INSERT INTO {schema}.leases AS l (tenant, owner, until)
			SELECT t, $2, clock_timestamp() + $3::bigint * interval '1 microsecond' FROM unnest($1::text[]) AS t
			ON CONFLICT (tenant) DO UPDATE SET owner = excluded.owner, until = excluded.until
			WHERE l.owner = excluded.owner OR l.until <= clock_timestamp()`),
		owners: db.name("SELECT tenant, owner FROM {schema}.leases WHERE tenant = ANY ($1::text[])"),
		release: db.name(`WITH mine AS (
				SELECT tenant FROM {schema}.leases WHERE tenant = ANY ($1::text[]) AND owner = $2 ORDER BY tenant FOR UPDATE)
			DELETE FROM {schema}.leases AS l USING mine WHERE l.tenant = mine.tenant AND l.owner = $2`),
		beat: db.name(`INSERT INTO {schema}.leases AS l (tenant, owner, until)
			VALUES ($1, $2, clock_timestamp() + $3::bigint * interval '1 microsecond')
			ON CONFLICT (tenant) DO UPDATE SET owner = excluded.owner, until = excluded.until`),
		leave: db.name(`DELETE FROM {schema}.leases WHERE tenant IN (
			SELECT tenant FROM {schema}.leases WHERE tenant >= $1 AND tenant < ' ' AND (until <= clock_timestamp() OR tenant = $2)
			FOR UPDATE SKIP LOCKED)`),
		all: db.name(`SELECT tenant, owner FROM {schema}.leases WHERE tenant >= $1 AND tenant < ' ' AND until > clock_timestamp()`),
	}
}

// inOrder returns ids in the order in which their rows are locked, each once.
func inOrder(ids []string) []string {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}

func storable(op string, texts ...string) error {
	for _, t := range texts {
		if !sqlstore.Storable(t) {
			return sqlstore.Fail(op, "", errors.BadRequest, errors.New("a name is not UTF-8 or has a NUL"))
		}
	}
	return nil
}

// nameable checks the names of a call.
func nameable(op, owner string, tenants []string) error {
	for _, t := range tenants {
		if strings.HasPrefix(t, ownerPrefix) {
			return sqlstore.Fail(op, "", errors.BadRequest, errors.New("a tenant's name begins with a control character"))
		}
	}
	return storable(op, append([]string{owner}, tenants...)...)
}

// Acquire implements [polling.Leases], on one way to the server and back.
func (l *Leases) Acquire(ctx context.Context, owner string, tenants []string, ttl time.Duration) ([]string, error) {
	const op = "acquire leases"
	if len(tenants) == 0 && ctx.Err() == nil {
		return nil, nil
	}
	if err := nameable(op, owner, tenants); err != nil {
		return nil, err
	}
	ids := inOrder(tenants)
	owners := make(map[string]string, len(ids))
	err := l.db.change(ctx, func(conn *pgxpool.Conn) error {
		clear(owners)
		b := &pgx.Batch{}
		l.db.begin(b)
		b.Queue(l.take, ids, owner, ttl.Microseconds())
		b.Queue(l.owners, ids).Query(func(rows pgx.Rows) error {
			var tenant, owner string
			_, err := pgx.ForEachRow(rows, []any{&tenant, &owner}, func() error {
				owners[tenant] = owner
				return nil
			})
			return err
		})
		b.Queue("COMMIT")
		return conn.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return nil, failure(ctx, op, "", err)
	}
	holders := make([]string, len(tenants))
	for i, t := range tenants {
		holders[i] = owners[t]
	}
	return holders, nil
}

// Release implements [polling.Leases].
func (l *Leases) Release(ctx context.Context, owner string, tenants []string) error {
	const op = "release leases"
	if len(tenants) == 0 && ctx.Err() == nil {
		return nil
	}
	if err := nameable(op, owner, tenants); err != nil {
		return err
	}
	err := l.db.change(ctx, func(conn *pgxpool.Conn) error {
		_, err := conn.Exec(ctx, l.release, inOrder(tenants), owner)
		return err
	})
	return failure(ctx, op, "", err)
}

// Heartbeat implements [polling.Leases], on one way to the server and back.
func (l *Leases) Heartbeat(ctx context.Context, owner string, want int, ttl time.Duration) (map[string]int, error) {
	const op = "tell of a process that polls"
	if err := storable(op, owner); err != nil {
		return nil, err
	}
	wants := make(map[string]int)
	err := l.db.repeat(ctx, func(conn *pgxpool.Conn) error {
		clear(wants)
		b := &pgx.Batch{}
		l.db.begin(b)
		leaves := "" // nobody
		if ttl > 0 {
			b.Queue(l.beat, ownerPrefix+owner, strconv.Itoa(want), ttl.Microseconds())
		} else {
			leaves = ownerPrefix + owner
		}
		b.Queue(l.leave, ownerPrefix, leaves)
		b.Queue(l.all, ownerPrefix).Query(func(rows pgx.Rows) error {
			var name, want string
			_, err := pgx.ForEachRow(rows, []any{&name, &want}, func() error {
				wants[strings.TrimPrefix(name, ownerPrefix)], _ = strconv.Atoi(want)
				return nil
			})
			return err
		})
		b.Queue("COMMIT")
		return conn.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return nil, failure(ctx, op, "", err)
	}
	return wants, nil
}
