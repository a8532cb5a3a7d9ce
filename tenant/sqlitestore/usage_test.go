package sqlitestore_test

import (
	"path/filepath"
	"testing"

	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

func BenchmarkUsage(b *testing.B) {
	storetest.BenchmarkUsage(b, func(t testing.TB) usage.Store {
		return open(t, filepath.Join(t.TempDir(), "fleet.db"), keys(t)).Usage()
	})
}
