package sqlitestore_test

import (
	"path/filepath"
	"testing"

	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/healthtest"
)

func BenchmarkHealth(b *testing.B) {
	healthtest.BenchmarkStore(b, func(t testing.TB) health.Store {
		return open(t, filepath.Join(t.TempDir(), "fleet.db"), keys(t)).Health()
	})
}
