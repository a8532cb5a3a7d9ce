package usage_test

import (
	"testing"

	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/health/usage/usagetest"
)

func TestMemoryStore(t *testing.T) {
	usagetest.TestStore(t, func(*testing.T) usage.Store { return usage.NewMemoryStore() })
}
