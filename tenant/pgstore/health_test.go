package pgstore_test

import (
	"testing"

	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/healthtest"
)

func BenchmarkHealth(b *testing.B) {
	url := address(b)
	healthtest.BenchmarkStore(b, func(t testing.TB) health.Store { return open(t, url, newSchema(t, url), keys(t)).Health() })
}
