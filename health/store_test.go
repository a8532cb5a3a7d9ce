package health_test

import (
	"testing"

	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/healthtest"
)

func TestMemoryStore(t *testing.T) {
	healthtest.TestStore(t, func(*testing.T) health.Store { return health.NewMemoryStore() })
}
