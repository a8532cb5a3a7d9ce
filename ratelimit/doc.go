// Package ratelimit admits requests: how many, whose first, and when.
//
// [Bucket] is a token bucket and [Keyed] one for every key. They answer at
// once. [Scheduler] is for callers that wait: it admits requests of many
// tenants at three levels at once and keeps the room that there is in fair
// hands.
//
//	s, err := ratelimit.NewScheduler[string](ratelimit.Config{
//		Total: ratelimit.Per(100, time.Second),
//		Tenant: ratelimit.Limits{
//			Classes: []ratelimit.Limit{ratelimit.Per(30, time.Second)},
//			Keys:    []ratelimit.Limit{ratelimit.Per(1, time.Second)},
//		},
//	})
//	...
//	permit, err := s.Admit(ctx, ratelimit.Request[string]{Tenant: "acme", Key: "room 7"})
//	if err != nil {
//		return err // a *Refusal, which says how long it would have taken
//	}
//	defer permit.Release()
//
// The decision to make is how far to go ahead of the other side. With limits
// set the scheduler holds requests back before they are refused. With none it
// only learns: call [Scheduler.Freeze] when a request was refused, and all of
// that scope waits.
//
// Limits are kept in this process. [Limiter] is where a limit plugs in that
// others draw on too; [Config].Shared takes one.
//
// The package knows nothing of what it admits. Package session uses it for
// calls of bots, package httplimit for requests of HTTP clients.
package ratelimit
