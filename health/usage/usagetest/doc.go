// Package usagetest has the suite that every [usage.Store] must pass:
//
//	func TestStore(t *testing.T) {
//		usagetest.TestStore(t, func(t *testing.T) usage.Store { return openEmptyStore(t) })
//	}
package usagetest
