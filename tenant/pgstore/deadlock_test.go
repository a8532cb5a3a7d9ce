package pgstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/pgstore"
)

// deadlocks counts statements that the server ended for a deadlock. Who made
// them makes them again, a second later.
type deadlocks struct{ atomic.Int64 }

func (d *deadlocks) see(err error) {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "40P01" {
		d.Add(1)
	}
}

func (d *deadlocks) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}
func (d *deadlocks) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	d.see(data.Err)
}
func (d *deadlocks) TraceBatchEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	d.see(data.Err)
}
func (d *deadlocks) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (d *deadlocks) TraceQueryEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	d.see(data.Err)
}

// Whatever two processes do to the same few tenants at once, they wait for each
// other in one order.
func TestTheInboxDoesNotDeadlock(t *testing.T) {
	url, ring := address(t), keys(t)
	schema := newSchema(t, url)
	var seen deadlocks
	var inboxes []inbox.Inbox
	for range 2 {
		config, err := pgxpool.ParseConfig(withParam(url, "pool_max_conns=5"))
		require.NoError(t, err)
		config.ConnConfig.Tracer = &seen
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		db, err := pgstore.New(t.Context(), pool, pgstore.Config{Keys: ring, Schema: schema, Inbox: pgstore.InboxConfig{MaxPerTenant: 40, MaxDeadPerTenant: 5}})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		inboxes = append(inboxes, db.Inbox())
	}
	const rounds = 60
	var next atomic.Int64
	tenants := []string{"a", "b", "c"}
	var wg sync.WaitGroup
	for n := range 8 {
		in := inboxes[n%len(inboxes)]
		wg.Go(func() {
			ctx := t.Context()
			for range rounds {
				var err error
				switch what := (n / 2) % 4; {
				case what < 2:
					var batch []inbox.Update
					for range 12 {
						u := message(tenants[rand.IntN(3)], fmt.Sprint(rand.IntN(6)), next.Add(1))
						if rand.IntN(4) == 0 {
							u.ExpiresAt = u.ReceivedAt.Add(time.Millisecond)
						}
						batch = append(batch, u)
					}
					_, err = in.Put(ctx, batch)
				case what == 2:
					var leases []inbox.Lease
					leases, err = in.Lease(ctx, inbox.Want{Limit: 12, TTL: 50 * time.Millisecond})
					if !assert.NoError(t, err) {
						return
					}
					_, err = in.Extend(ctx, leases, time.Minute)
					if !assert.NoError(t, err) {
						return
					}
					var all []inbox.Settlement
					for _, i := range rand.Perm(len(leases)) {
						v := []inbox.Verdict{inbox.Done, inbox.Bury, inbox.Bury, inbox.Retry}[rand.IntN(4)]
						all = append(all, inbox.Settlement{Lease: leases[i], Verdict: v})
					}
					_, err = in.Settle(ctx, all)
				default:
					var letters []inbox.DeadLetter
					letters, err = in.Dead(ctx, inbox.DeadFilter{})
					if !assert.NoError(t, err) {
						return
					}
					var refs []inbox.Ref
					for _, i := range rand.Perm(len(letters)) {
						refs = append(refs, letters[i].Ref())
					}
					switch rand.IntN(4) {
					case 0:
						err = in.Forget(ctx, tenants[rand.IntN(3)])
					case 1:
						_, err = in.Drop(ctx, refs)
					default:
						_, err = in.Replay(ctx, refs)
					}
				}
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	assert.Zero(t, seen.Load(), "deadlocks")
}
