package pgstore_test

import (
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
