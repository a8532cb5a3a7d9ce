package sqlitestore_test

import (
	"testing"

	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/health/usage/usagetest"
	"github.com/tgfleet/tgfleet/tenant/sqlitestore"
)

func TestUsageStore(t *testing.T) {
	usagetest.TestStore(t, func(t *testing.T) usage.Store { return open(t, newFile(t), keys(t)).Usage() })
}

func TestUsageStoreInMemory(t *testing.T) {
	usagetest.TestStore(t, func(t *testing.T) usage.Store { return open(t, sqlitestore.Memory, keys(t)).Usage() })
}
