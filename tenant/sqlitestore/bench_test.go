package sqlitestore_test

import (
	"path/filepath"
	"testing"

	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/seal"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, func(b *testing.B, keys *seal.Ring) tenant.Store {
		return open(b, filepath.Join(b.TempDir(), "fleet.db"), keys).Tenants()
	})
}
