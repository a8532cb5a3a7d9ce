// Package pollingtest tests that [polling.Leases] keep their contract. Those of
// this repository run it, and so should yours:
//
//	func TestLeases(t *testing.T) {
//		pollingtest.TestLeases(t, pollingtest.Harness{
//			Open: func(t *testing.T) polling.Leases {
//				return openMyLeases(t) // empty, closed when t ends
//			},
//		})
//	}
//
// Run it with the race detector. Leases in a database are tested on its clock:
// the suite waits for some to end, which takes a few seconds.
package pollingtest
