package pgstore

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

// How a watch finds that its connection is dead: a NOTIFY that does not come
// is no sign.
const (
	quietTime = 30 * time.Second
	pingTime  = 10 * time.Second
)

// Watch implements [tenant.Store]. It takes a connection out of the pool for
// as long as it lasts.
func (s *Tenants) Watch(ctx context.Context, f func(tenant.Change)) error {
	const op = "watch tenants"
	pooled, err := s.db.pool.Acquire(ctx)
	if err != nil {
		return failure(ctx, op, "", err)
	}
	conn := pooled.Hijack() // with LISTEN on, it is not for anybody else
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{s.db.channel()}.Sanitize()); err != nil {
		return failure(ctx, op, "", err)
	}
	f(tenant.Change{})
	for {
		c, ok, err := s.db.next(ctx, conn)
		if err != nil {
			return failure(ctx, op, "", err)
		}
		if ok {
			f(c)
		}
	}
}

// next waits for a change, and returns none after a quiet time.
func (db *DB) next(ctx context.Context, conn *pgx.Conn) (c tenant.Change, ok bool, err error) {
	payload, ok, err := db.notification(ctx, conn)
	if err != nil || !ok {
		return c, false, err
	}
	c, err = parseChange(payload)
	return c, err == nil, err
}

// notification waits for one. After a quiet time it looks whether the server is
// still there, and returns none.
func (db *DB) notification(ctx context.Context, conn *pgx.Conn) (payload string, ok bool, err error) {
	quiet, cancel := context.WithTimeout(ctx, quietTime)
	defer cancel()
	n, err := conn.WaitForNotification(quiet)
	switch {
	case err == nil:
		return n.Payload, true, nil
	case ctx.Err() != nil || quiet.Err() == nil || conn.IsClosed():
		return "", false, err
	}
	ping, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	return "", false, conn.Ping(ping)
}

// parseChange reads what the trigger wrote: version, status and id.
func parseChange(text string) (c tenant.Change, err error) {
	version, rest, _ := strings.Cut(text, " ")
	status, id, ok := strings.Cut(rest, " ")
	c.ID = id
	if c.Version, err = strconv.ParseInt(version, 10, 64); err == nil && c.Version != 0 {
		c.Status = sqlstore.StatusOf(status)
	}
	if err != nil || !ok {
		return c, sqlstore.Fail("watch tenants", "", errors.Internal, errors.New("notification is not understood"))
	}
	return c, nil
}
