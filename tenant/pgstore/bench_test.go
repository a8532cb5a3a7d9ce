package pgstore_test

import (
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/tgfleet/tgfleet/tenant"
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
		hookbench.Receive(b, openInbox(b, url, newSchema(b, url), keys(b), inboxtest.Config{}))
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
