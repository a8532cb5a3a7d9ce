package sqlitestore_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/inbox/inboxtest"
	"github.com/tgfleet/tgfleet/tenant/sqlitestore"
)

// backlog returns an inbox with that many updates in each of the chats, which
// are shared out among the tenants. Of every four tenants' chats one waits for
// another try, and with paused all do.
func backlog(b *testing.B, tenants, chats, each int, paused bool) *sqlitestore.Inbox {
	in := openInbox(b, filepath.Join(b.TempDir(), "fleet.db"), keys(b), inboxtest.Config{MaxPerTenant: 1_000_000})
	ctx := context.Background()
	var batch []inbox.Update
	put := func() {
		outcomes, err := in.Put(ctx, batch)
		require.NoError(b, err)
		for _, o := range outcomes {
			require.Equal(b, inbox.Outcome{}, o)
		}
		batch = batch[:0]
	}
	for n := range each {
		for c := range chats {
			u := message(fmt.Sprintf("tenant-%05d", c%tenants), fmt.Sprint("chat-", c), int64(n*chats+c+1))
			if batch = append(batch, u); len(batch) == 5000 {
				put()
			}
		}
	}
	put()
	leases, err := in.Lease(ctx, inbox.Want{Limit: chats, TTL: time.Hour})
	require.NoError(b, err)
	require.Len(b, leases, chats)
	var all []inbox.Settlement
	for i, l := range leases {
		s := inbox.Settlement{Lease: l, Verdict: inbox.Return}
		if paused || i%4 == 0 {
			s.Verdict, s.After = inbox.Retry, 24*time.Hour
		}
		all = append(all, s)
	}
	_, err = in.Settle(ctx, all)
	require.NoError(b, err)
	return in
}

// BenchmarkBacklog leases 32 updates and settles them, beside few that wait and
// beside many: it is to take as long. The updates come back, so that the backlog
// stays.
func BenchmarkBacklog(b *testing.B) {
	for _, tenants := range []int{1, 1000} {
		for _, each := range []int{2, 100} {
			b.Run(fmt.Sprintf("tenants=%d/updates=%d", tenants, 1000*each), func(b *testing.B) {
				in := backlog(b, tenants, 1000, each, false)
				var lease, settle time.Duration
				next := int64(1_000_000)
				for b.Loop() {
					start := time.Now()
					leases, err := in.Lease(b.Context(), inbox.Want{Limit: 32, TTL: time.Minute})
					lease += time.Since(start)
					require.NoError(b, err)
					require.Len(b, leases, 32)
					var done []inbox.Settlement
					var more []inbox.Update
					for _, l := range leases {
						done = append(done, inbox.Settlement{Lease: l, Verdict: inbox.Done})
						next++
						more = append(more, message(l.Tenant, l.Chat, next))
					}
					start = time.Now()
					_, err = in.Settle(b.Context(), done)
					settle += time.Since(start)
					require.NoError(b, err)
					b.StopTimer()
					_, err = in.Put(b.Context(), more)
					require.NoError(b, err)
					b.StartTimer()
				}
				b.ReportMetric(float64(lease.Microseconds())/float64(b.N), "µs/lease")
				b.ReportMetric(float64(settle.Microseconds())/float64(b.N), "µs/settle")
			})
		}
	}
}

// BenchmarkPaused leases where all that waits waits for another try, as when
// nothing can be sent.
func BenchmarkPaused(b *testing.B) {
	for _, tenants := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("tenants=%d", tenants), func(b *testing.B) {
			in := backlog(b, tenants, 10_000, 1, true)
			for b.Loop() {
				leases, err := in.Lease(b.Context(), inbox.Want{Limit: 32, TTL: time.Minute})
				require.NoError(b, err)
				require.Empty(b, leases)
			}
		})
	}
}

func BenchmarkHeld(b *testing.B) {
	inboxtest.BenchmarkHeld(b, func(b *testing.B) inbox.Inbox {
		return openInbox(b, filepath.Join(b.TempDir(), "fleet.db"), keys(b), inboxtest.Config{})
	})
}
