package inboxtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// BenchmarkHeld leases and gives back the one update of a tenant that may be
// had, beside as many others of which the worker wants nothing: with an update
// in each of ten chats, or with none. It is to take as long beside thousands as
// beside none. open returns an empty inbox.
func BenchmarkHeld(b *testing.B, open func(b *testing.B) inbox.Inbox) {
	for _, held := range []int{0, 5000} {
		for _, chats := range []int{0, 10} {
			if held == 0 && chats > 0 {
				continue
			}
			b.Run(fmt.Sprintf("held=%d/chats=%d", held, chats), func(b *testing.B) {
				in, ctx := open(b), context.Background()
				want := inbox.Want{Limit: 32, TTL: time.Hour, PerTenant: 16, Held: make(map[string]int)}
				var batch []inbox.Update
				for n := range held {
					tenant := fmt.Sprintf("held-%06d", n)
					want.Held[tenant] = want.PerTenant
					for c := range chats {
						batch = append(batch, update(tenant, fmt.Sprint(c), int64(c+1)))
					}
					if len(batch) >= 5000 || n == held-1 {
						_, err := in.Put(ctx, batch)
						require.NoError(b, err)
						batch = batch[:0]
					}
				}
				_, err := in.Put(ctx, []inbox.Update{update("may be had", "1", 1)})
				require.NoError(b, err)
				for b.Loop() {
					leases, err := in.Lease(ctx, want)
					require.NoError(b, err)
					require.Len(b, leases, 1)
					b.StopTimer()
					_, err = in.Settle(ctx, []inbox.Settlement{{Lease: leases[0], Verdict: inbox.Return}})
					require.NoError(b, err)
					b.StartTimer()
				}
			})
		}
	}
}
