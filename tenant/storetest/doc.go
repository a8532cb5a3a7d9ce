// Package storetest tests that a [tenant.Store] keeps its contract, and the
// stores of health and usage beside it theirs. The stores of this repository run
// it, and so should yours:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, storetest.Harness{
//			Open: func(t *testing.T, keys *seal.Ring) tenant.Store {
//				return openMyStore(t, keys) // empty, closed when t ends
//			},
//		})
//	}
//
// Run it with the race detector.
//
// # The decision to make
//
// How much of the [Harness] to give. Open alone tests one process and its
// memory. With Again the suite tests what several processes do to each other,
// with Dump that no secret is stored in the clear, with Rows that keys can be
// rotated, with Health and Usage what else the database keeps, and with Faults
// that a change is whole or not there when the disk is full or the connection
// breaks.
//
// # What it does not do
//
// It does not measure, and it does not test that data outlives a power cut.
package storetest
