package sqlitestore_test

import (
	"path/filepath"
	"testing"

	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox/inboxtest"
	"github.com/tgfleet/tgfleet/tenant/internal/hookbench"
	"github.com/tgfleet/tgfleet/tenant/seal"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, func(b *testing.B, keys *seal.Ring) tenant.Store {
		return open(b, filepath.Join(b.TempDir(), "fleet.db"), keys).Tenants()
	})
}

// BenchmarkReceive is package webhook's with an inbox on disk.
func BenchmarkReceive(b *testing.B) {
	b.Run("tgfleet-sqlite", func(b *testing.B) {
		hookbench.Receive(b, openInbox(b, filepath.Join(b.TempDir(), "fleet.db"), keys(b), inboxtest.Config{}), hookbench.Load{Connections: 200})
	})
}

// TestDeliverer is the other process of BenchmarkReceive.
func TestDeliverer(t *testing.T) { hookbench.Deliverer(t) }
