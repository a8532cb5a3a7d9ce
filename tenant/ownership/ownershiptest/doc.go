// Package ownershiptest tests that an [ownership.Store] keeps its contract.
// Those of this repository run it, and so should yours:
//
//	func TestStore(t *testing.T) {
//		ownershiptest.TestStore(t, ownershiptest.Harness{
//			Open: func(t *testing.T) ownership.Store {
//				return openMyStore(t) // empty, closed when t ends
//			},
//		})
//	}
//
// Run it with the race detector.
package ownershiptest
