package pgstore_test

import (
	"testing"

	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

func BenchmarkUsage(b *testing.B) {
	url := address(b)
	storetest.BenchmarkUsage(b, func(t testing.TB) usage.Store { return open(t, url, newSchema(t, url), keys(t)).Usage() })
}
