package pgstore_test

import (
	"testing"

	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/seal"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

func BenchmarkStore(b *testing.B) {
	url := address(b)
	storetest.Benchmark(b, func(b *testing.B, keys *seal.Ring) tenant.Store {
		return open(b, url, newSchema(b, url), keys).Tenants()
	})
}
