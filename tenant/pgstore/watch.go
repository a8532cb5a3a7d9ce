package pgstore

import (
	"context"
	"strconv"
	"strings"
	"sync"
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

// errWatchClosed ends those who watch.
var errWatchClosed = errors.New("the database was closed")

// watches are those who watch, until they are closed.
type watches struct {
	mu     sync.Mutex // guards closed, and Add of work against Wait
	closed bool
	work   sync.WaitGroup

	ctx  context.Context // ended by close
	stop context.CancelCauseFunc
}

func newWatches() *watches {
	w := &watches{}
	w.ctx, w.stop = context.WithCancelCause(context.Background())
	return w
}

// begin returns a context that close ends, too, or false after close.
func (w *watches) begin(ctx context.Context) (_ context.Context, end func(), ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, nil, false
	}
	w.work.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	forget := context.AfterFunc(w.ctx, func() { cancel(errWatchClosed) })
	return ctx, func() {
		forget()
		cancel(nil)
		w.work.Done()
	}, true
}

// close ends all watches and waits for them.
func (w *watches) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.stop(errWatchClosed)
	w.work.Wait()
}

// Watch implements [tenant.Store]. It takes a connection out of the pool for
// as long as it lasts. [DB.Close] ends it with an error of kind [errors.Closed];
// f does not call that.
func (s *Tenants) Watch(ctx context.Context, f func(tenant.Change)) error {
	const op = "watch tenants"
	ctx, end, ok := s.db.watches.begin(ctx)
	if !ok {
		return sqlstore.Fail(op, "", errors.Closed, errWatchClosed)
	}
	defer end()
	err := s.watch(ctx, f)
	// The connection may break before the one context has ended the other.
	if context.Cause(ctx) == errWatchClosed || ctx.Err() == nil && s.db.watches.ctx.Err() != nil {
		return sqlstore.Fail(op, "", errors.Closed, errWatchClosed)
	}
	return failure(ctx, op, "", err)
}

func (s *Tenants) watch(ctx context.Context, f func(tenant.Change)) error {
	pooled, err := s.db.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	conn := pooled.Hijack() // with LISTEN on, it is not for anybody else
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{s.db.channel()}.Sanitize()); err != nil {
		return err
	}
	f(tenant.Change{})
	for {
		c, ok, err := s.db.next(ctx, conn)
		if err != nil {
			return err
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
