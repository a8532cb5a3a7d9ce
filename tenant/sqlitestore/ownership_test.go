package sqlitestore_test

import (
	"testing"

	"github.com/tgfleet/tgfleet/tenant/ownership"
	"github.com/tgfleet/tgfleet/tenant/ownership/ownershiptest"
)

func TestProofsKeepTheContract(t *testing.T) {
	ring := keys(t)
	paths := map[ownership.Store]string{}
	ownershiptest.TestStore(t, ownershiptest.Harness{
		Open: func(t *testing.T) ownership.Store {
			path := readyFile(t)
			s := open(t, path, ring).Ownership()
			paths[s] = path
			return s
		},
		Again: func(t *testing.T, s ownership.Store) ownership.Store { return open(t, paths[s], ring).Ownership() },
	})
}
