package pgstore_test

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/inbox/inboxtest"
	"github.com/tgfleet/tgfleet/tenant/internal/hookbench"
	"github.com/tgfleet/tgfleet/tenant/seal"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

func BenchmarkStore(b *testing.B) {
	url := address(b)
	storetest.Benchmark(b, func(b *testing.B, keys *seal.Ring) tenant.Store {
		return open(b, url, newSchema(b, url), keys).Tenants()
	})
}

// BenchmarkReceive is package webhook's with an inbox in PostgreSQL.
func BenchmarkReceive(b *testing.B) {
	url := address(b)
	b.Run("tgfleet-postgres", func(b *testing.B) {
		hookbench.Receive(b, openInbox(b, url, newSchema(b, url), keys(b), inboxtest.Config{}), hookbench.Load{Connections: 200})
	})
}

// BenchmarkChangesAtOnce is many who change a tenant each, with an entry of the
// log. That entries are visible in order costs the difference to "any order".
func BenchmarkChangesAtOnce(b *testing.B) {
	url := address(b)
	for _, order := range []string{"in order", "any order"} {
		b.Run(order, func(b *testing.B) {
			schema := newSchema(b, url)
			s := open(b, withParam(url, "pool_max_conns=16"), schema, keys(b)).Tenants()
			if order == "any order" {
				execute(b, url, "DROP TRIGGER log_in_order ON "+schema+".log")
			}
			var next atomic.Int64
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				n := next.Add(1)
				r := storetest.Record(b, strconv.FormatInt(n, 10), n)
				for pb.Next() {
					var err error
					if r, err = s.Put(b.Context(), r, tenant.Entry{Action: "test"}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkInboxBacklog is one worker that leases and settles while as many wait:
// what it costs must not hang on that.
func BenchmarkInboxBacklog(b *testing.B) {
	url := address(b)
	for _, waiting := range []int{1_000, 10_000, 100_000} {
		b.Run(strconv.Itoa(waiting), func(b *testing.B) {
			in := openInbox(b, url, newSchema(b, url), keys(b), inboxtest.Config{})
			const tenants, chats, batch = 20, 1000, 1000
			id := int64(0)
			put := func(n int) {
				updates := make([]inbox.Update, n)
				for i := range updates {
					id++
					chat := int(id) % chats
					updates[i] = message(strconv.Itoa(chat%tenants), strconv.Itoa(chat), id)
				}
				_, err := in.Put(b.Context(), updates)
				require.NoError(b, err)
			}
			for range waiting / batch {
				put(batch)
			}
			var lease, settle time.Duration
			const work = 32
			for b.Loop() {
				begin := time.Now()
				leases, err := in.Lease(b.Context(), inbox.Want{Limit: work, TTL: time.Minute})
				lease += time.Since(begin)
				require.NoError(b, err)
				require.Len(b, leases, work)
				done := make([]inbox.Settlement, len(leases))
				for i, l := range leases {
					done[i] = inbox.Settlement{Lease: l, Verdict: inbox.Done}
				}
				begin = time.Now()
				_, err = in.Settle(b.Context(), done)
				settle += time.Since(begin)
				require.NoError(b, err)
				b.StopTimer()
				put(work)
				b.StartTimer()
			}
			b.ReportMetric(float64(lease.Microseconds())/float64(b.N), "µs/lease")
			b.ReportMetric(float64(settle.Microseconds())/float64(b.N), "µs/settle")
		})
	}
}

// TestDeliverer is the other process of BenchmarkReceive.
func TestDeliverer(t *testing.T) { hookbench.Deliverer(t) }

func BenchmarkHeld(b *testing.B) {
	url := address(b)
	inboxtest.BenchmarkHeld(b, func(b *testing.B) inbox.Inbox {
		return openInbox(b, url, newSchema(b, url), keys(b), inboxtest.Config{})
	})
}
