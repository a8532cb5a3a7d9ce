package pgstore_test

import (
	"testing"

	"github.com/tgfleet/tgfleet/tenant/ownership"
	"github.com/tgfleet/tgfleet/tenant/ownership/ownershiptest"
)

func TestProofsKeepTheContract(t *testing.T) {
	url, ring := address(t), keys(t)
	schemas := map[ownership.Store]string{}
	ownershiptest.TestStore(t, ownershiptest.Harness{
		Open: func(t *testing.T) ownership.Store {
			schema := newSchema(t, url)
			s := open(t, url, schema, ring).Ownership()
			schemas[s] = schema
			return s
		},
		Again: func(t *testing.T, s ownership.Store) ownership.Store {
			return open(t, url, schemas[s], ring).Ownership()
		},
	})
}
