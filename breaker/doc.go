// Package breaker stops calling what fails, and finds out when it works again.
//
// A [Breaker] stands before calls to one callee. While it is closed calls
// pass. When too many fail, or take too long, it opens, and calls are refused
// at once with an error that matches [ErrOpen]. After a while it is half-open:
// a few calls go through as probes, and as they turn out it closes or opens
// again, for longer.
//
//	b, err := breaker.New(breaker.Config{})
//	...
//	err = b.Do(ctx, func(ctx context.Context) error {
//		return fetch(ctx)
//	})
//	if errors.Is(err, breaker.ErrOpen) {
//		// fetch was not called
//	}
//
// A middleware, which has no function to hand over, does it in two steps. The
// permit is a small value and costs no allocation; giving it back twice, or a
// copy of it, counts once.
//
//	permit, err := b.Allow()
//	if err != nil {
//		return err
//	}
//	defer permit.Cancel() // for a panic; nothing after Done
//	err = next(ctx)
//	permit.Done(ctx, err)
//
// A [Group] has a breaker for every key, in bounded memory.
//
// # The decision to make
//
// Which results are failures. Without a [Config].Classify every error is one,
// but for a call that its caller gave up: an answer such as "not found", which
// says that the callee works, must then not be returned as an error through
// the breaker. With it, such an answer is a [Success], and what says nothing of
// the callee, such as an error of your own before the call, an [Ignore].
//
// The second is what opens it. Failures in a row, which is the default, suit
// a callee with few calls. Where many are under way at once, and all of them
// hang until their time-out, the first failure comes late: set
// [Config].SlowAfter. A call counts as slow as soon as it has lasted that
// long, not only when it ends.
//
// # What it does not do
//
// It does not repeat calls, bound how long they take or how many there are.
// It starts no goroutine and no timer: an open breaker becomes half-open when
// a call comes after its time. It knows nothing of what it protects.
package breaker
