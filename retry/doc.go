// Package retry repeats what failed: how often, after how long, and whether at
// all.
//
// The zero [Policy] repeats a function up to three times, after a random part
// of 1, 2 and 4 seconds:
//
//	var policy retry.Policy
//	err := policy.Do(ctx, func(ctx context.Context) error {
//		return fetch(ctx, url)
//	})
//
// [New] makes a policy of a [Config], and [DoValue] is for functions that
// return something. A policy is a small value that any number of goroutines
// may use at once. Where nothing fails it allocates nothing.
//
// # What to decide
//
// The decision to make is which errors may be repeated: what is done twice can
// be worse than what is not done. By itself the package repeats every error
// but a cancelled context's and one that says no (see [Classify]), which is
// right for functions that do no harm when they run twice. For others give
// [Config].Classify a function that knows better.
//
// # Rate limits
//
// A refusal that says when to come again is no failure. It is waited for, not
// sooner than it says, and counted apart from the failures. If the wait does
// not fit the deadline, the error that asked for it comes back at once.
//
// # Budget
//
// Repeating helps when a few calls fail and harms when all do. A [Budget]
// bounds all retries together, and each key's, to a share of the calls:
//
//	budget, err := retry.NewBudget(retry.BudgetConfig{})
//	...
//	policy, err := retry.New(retry.Config{Budget: budget})
//	...
//	err = policy.For("acme").Do(ctx, call)
//
// # One step at a time
//
// [Policy.Start] returns the [State] of one operation, for callers that have a
// loop of their own: a middleware that sends something else each time, or that
// waits in a queue.
//
// # What it does not do
//
// It sets no time-out for an attempt, and it can't know whether an attempt that
// failed has had an effect. It knows nothing of what it repeats; package session
// uses it for calls of bots.
package retry
