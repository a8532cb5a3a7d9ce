package pgstore_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/inbox/inboxtest"
)

// What expired while no worker ran may be more than can be dropped in the time
// that a worker has for a lease, and what a lease has dropped stays dropped.
func TestALeaseDropsWhatHasExpiredBitByBit(t *testing.T) {
	url := address(t)
	schema := newSchema(t, url)
	in := openInbox(t, url, schema, keys(t), inboxtest.Config{})
	conn := connect(t, url)
	named := func(sql string) string { return strings.ReplaceAll(sql, "s.", schema+".") }
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := conn.Exec(t.Context(), named(sql), args...)
		require.NoError(t, err)
	}
	expired := func() (n int) {
		t.Helper()
		require.NoError(t, conn.QueryRow(t.Context(), named("SELECT count(*) FROM s.inbox_updates WHERE expires_at IS NOT NULL")).Scan(&n))
		return n
	}
	const n = 10_000
	exec(`INSERT INTO s.inbox_updates SELECT 'tenant-' || lpad((n % 1000)::text, 4, '0'), n, n, 'message', now(),
		CASE WHEN n % 5000 <> 999 THEN now() - interval '1 hour' END, 0, '{}' FROM generate_series(1, $1::integer) AS n`, n)
	exec("INSERT INTO s.inbox_chats (tenant, chat, at) SELECT tenant, chat, id FROM s.inbox_updates")
	exec("ANALYZE s.inbox_updates; ANALYZE s.inbox_chats")
	require.Equal(t, n-2, expired())

	// As where a while has passed since a lease began: it ends after what it is at.
	late := time.Now().Add(-10 * time.Second).UnixMicro()
	exec("SELECT s.inbox_lease('', 2, $1::bigint, $1::bigint + 60000000, 16, '{}', '{}')", late)
	require.Equal(t, n-3, expired())
	exec("SELECT s.inbox_lease_of('{tenant-0002,tenant-0003}', '{2,2}', 2, 2, $1::bigint, $1::bigint + 60000000)", late)
	require.Equal(t, n-4, expired())

	for _, of := range []string{"any", "some"} {
		want := inbox.Want{Limit: 1, TTL: time.Hour, PerTenant: 16, Held: make(map[string]int)}
		if of == "some" {
			for n := range 100 {
				want.Held["held "+string(rune('A'+n))] = want.PerTenant
			}
		}
		for {
			ctx, cancel := context.WithTimeout(t.Context(), 7500*time.Millisecond) // a quarter of the usual LeaseTTL
			leases, err := in.Lease(ctx, want)
			cancel()
			require.NoError(t, err)
			if len(leases) > 0 {
				assert.Equal(t, "tenant-0999", leases[0].Tenant)
				break
			}
		}
	}
	var more []inbox.Lease
	for range 100 { // what is left of it
		leases, err := in.Lease(t.Context(), inbox.Want{Limit: 1, TTL: time.Hour})
		require.NoError(t, err)
		more = append(more, leases...)
		if expired() == 0 {
			break
		}
	}
	assert.Empty(t, more)
	assert.Zero(t, expired())
}
