// Package healthtest has the suite that every [health.Store] must pass:
//
//	func TestStore(t *testing.T) {
//		healthtest.TestStore(t, func(t *testing.T) health.Store { return openEmptyStore(t) })
//	}
package healthtest
