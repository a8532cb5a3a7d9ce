// Package usage counts what each tenant's bot does, hour by hour, and reports it.
//
//	recorder, err := usage.New(usage.Config{Store: store})
//	...
//	err = recorder.Start(context.Background())
//	...
//	// When the process is asked to end, with a while of its own to flush:
//	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
//	defer cancel()
//	err = recorder.Stop(ctx)
//
//	recorder.Observe("customer-7", usage.Call{Method: "sendMessage", Chat: usage.Chat{ID: 42}, Latency: took})
//	recorder.Update("customer-7", usage.Update{Type: "message", Chat: usage.Chat{ID: 42}})
//
//	reporter := usage.NewReporter(store, monitor)
//	mux.Handle("GET /api/bots/{id}/analytics", usage.Handler(reporter, tenantOf))
//
// A [Recorder] counts in memory and adds to a [Store] every 30 s. Each flush has
// a number, under which the store applies it once: what a replica repeats after
// a lost answer does not count twice, and replicas add up. A crash loses what
// was counted since the last flush, and so does the end of Start's context,
// which is not that which a signal ends.
//
// What is kept of an hour is a [Rollup] of bounded size: requests, failures by
// kind, methods, updates by type, how long calls took, how many chats there
// were and which were the most active. Latencies are within 2 %, see
// [health.Sketch]; for chats see [Distinct] and [Top].
//
// A failure here is any error that a caller got, also that a user blocked the
// bot: it is the owner's view of what came of the bot's messages. Whether the
// bot is well is package health's, which counts less as a failure. What this
// program held back itself was never sent: it is counted apart, as refused.
//
// # The decision to make
//
// How long to keep it. After 35 days the hours of a day become one roll-up, and
// after 400 days it is removed. Reports of older days have all but the hours.
// That of tenants who are gone is removed once a day, where [Config] has a Gone.
//
// # What it does not do
//
// It keeps no texts, names or users: of a chat it knows the number or the
// public username. It bills nobody: what a crash loses is lost.
package usage
