package pgstore_test

import (
	"testing"

	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/health/usage/usagetest"
)

func TestUsageStore(t *testing.T) {
	url := address(t)
	usagetest.TestStore(t, func(t *testing.T) usage.Store { return open(t, url, newSchema(t, url), keys(t)).Usage() })
}
