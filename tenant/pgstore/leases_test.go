package pgstore_test

import (
	"testing"

	"github.com/tgfleet/tgfleet/tenant/polling"
	"github.com/tgfleet/tgfleet/tenant/polling/pollingtest"
)

func TestLeasesKeepTheContract(t *testing.T) {
	url, ring := address(t), keys(t)
	schemas := map[polling.Leases]string{}
	pollingtest.TestLeases(t, pollingtest.Harness{
		Open: func(t *testing.T) polling.Leases {
			schema := newSchema(t, url)
			s := open(t, url, schema, ring).Leases()
			schemas[s] = schema
			return s
		},
		Again: func(t *testing.T, s polling.Leases) polling.Leases { return open(t, url, schemas[s], ring).Leases() },
	})
}
