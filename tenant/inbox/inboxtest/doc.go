// Package inboxtest holds an implementation of [inbox.Inbox] to its contract.
// The smallest use is a test of the implementation's own:
//
//	func TestInbox(t *testing.T) {
//		inboxtest.Run(t, inboxtest.Harness{
//			New: func(t *testing.T, cfg inboxtest.Config) inbox.Inbox { ... },
//			Advance: func(t *testing.T, in inbox.Inbox, d time.Duration) { ... },
//		})
//	}
//
// The decision to make is how time passes. What lives in this process runs in
// testing/synctest bubbles: Harness.Bubble is synctest.Test, and Advance sleeps.
// What keeps its time elsewhere, in a database, can't: it moves what it has
// stored into the past, or its clock into the future.
//
// One test holds the inbox to a model, with random steps of three workers. It makes an inbox for
// each of its runs: a hundred in bubbles, and a dozen elsewhere, unless
// -rapid.checks says otherwise. In the end it handles all that is left, which
// must be all that was not handled before, in order and each once.
//
// It does not test what an implementation promises beyond the contract, nor
// how fast it is.
package inboxtest
