package pgstore_test

import (
	"context"
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/pgstore"
)

// counter counts what statements are sent, and how many values with them.
type counter struct{ statements, values atomic.Int64 }

func (c *counter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	for _, q := range data.Batch.QueuedQueries {
		c.statements.Add(1)
		for _, arg := range q.Arguments {
			if v := reflect.ValueOf(arg); v.Kind() == reflect.Slice {
				c.values.Add(int64(v.Len()))
			} else {
				c.values.Add(1)
			}
		}
	}
	return ctx
}

func (*counter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (*counter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}
func (*counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (*counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// A worker of which thousands of tenants are suspended does not tell the server
// of them with every lease, nor has it tell of all that wait.
func TestALeaseDoesNotTellTheServerOfThousandsOfTenants(t *testing.T) {
	url := address(t)
	config, err := pgxpool.ParseConfig(withParam(url, "pool_max_conns=3"))
	require.NoError(t, err)
	var sent counter
	config.ConnConfig.Tracer = &sent
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	db, err := pgstore.New(t.Context(), pool, pgstore.Config{Keys: keys(t), Schema: newSchema(t, url)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	in := db.Inbox()
	const many = 5000
	want := inbox.Want{Limit: 32, TTL: time.Hour, PerTenant: 16, Held: make(map[string]int)}
	var batch []inbox.Update
	for n := range many {
		tenant := fmt.Sprintf("held %04d", n)
		want.Held[tenant] = want.PerTenant
		batch = append(batch, message(tenant, "1", 1))
	}
	for n := range 300 { // more than one question's worth
		batch = append(batch, message(fmt.Sprintf("free %03d", n), "1", 1), message(fmt.Sprintf("free %03d", n), "2", 2))
	}
	_, err = in.Put(t.Context(), batch)
	require.NoError(t, err)
	lent := make(map[string]int)
	for round := 1; len(lent) < 300; round++ {
		sent.statements.Store(0)
		sent.values.Store(0)
		leases, err := in.Lease(t.Context(), want)
		require.NoError(t, err)
		require.NotEmpty(t, leases)
		for _, l := range leases {
			require.Zero(t, want.Held[l.Tenant])
			lent[l.Tenant]++
			require.LessOrEqual(t, lent[l.Tenant], 1+round*32/300, "turns go on from call to call")
		}
		assert.LessOrEqual(t, sent.values.Load(), int64(500))
		assert.LessOrEqual(t, sent.statements.Load(), int64(10))
	}
}
