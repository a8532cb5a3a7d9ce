package storetest_test

import (
	"testing"

	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/seal"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

// The whole of what a store in memory has to say.
func TestMemoryStore(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		Open:   func(*testing.T, *seal.Ring) tenant.Store { return tenant.NewMemoryStore() },
		Health: func(tenant.Store) health.Store { return health.NewMemoryStore() },
		Usage:  func(tenant.Store) usage.Store { return usage.NewMemoryStore() },
	})
}
