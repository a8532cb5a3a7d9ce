package sqlitestore_test

import (
	"testing"

	"github.com/tgfleet/tgfleet/tenant/polling"
	"github.com/tgfleet/tgfleet/tenant/polling/pollingtest"
)

func TestLeasesKeepTheContract(t *testing.T) {
	ring := keys(t)
	paths := map[polling.Leases]string{}
	pollingtest.TestLeases(t, pollingtest.Harness{
		Open: func(t *testing.T) polling.Leases {
			path := readyFile(t)
			s := open(t, path, ring).Leases()
			paths[s] = path
			return s
		},
		Again: func(t *testing.T, s polling.Leases) polling.Leases { return open(t, paths[s], ring).Leases() },
	})
}
