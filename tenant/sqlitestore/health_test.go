package sqlitestore_test

import (
	"path/filepath"
	"testing"

	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/healthtest"
	"github.com/tgfleet/tgfleet/tenant/sqlitestore"
)

func TestHealthStore(t *testing.T) {
	healthtest.TestStore(t, func(t *testing.T) health.Store { return open(t, newFile(t), keys(t)).Health() })
}

func TestHealthStoreInMemory(t *testing.T) {
	healthtest.TestStore(t, func(t *testing.T) health.Store { return open(t, sqlitestore.Memory, keys(t)).Health() })
}

func BenchmarkHealth(b *testing.B) {
	healthtest.BenchmarkStore(b, func(t testing.TB) health.Store {
		return open(t, filepath.Join(t.TempDir(), "fleet.db"), keys(t)).Health()
	})
}
