// Package polling receives the updates of many bots by long polls, and puts
// them into an inbox.
//
//	p, err := polling.New(s, store, in, polling.Config{
//		Tenants: func(ctx context.Context) iter.Seq2[tenant.Record, error] {
//			return manager.List(ctx, tenant.Filter{Status: []tenant.Status{tenant.Active}})
//		},
//		Watch:    store.Watch, // a changed record counts at once
//		OnChange: polling.Quarantine(pool),
//	})
//	err = p.Start(ctx)
//	...
//	err = p.Stop(ctx)
//
// Telegram keeps an update until it is confirmed, and it is confirmed here only
// once the inbox has it: what a crash, a full inbox or a broken network leaves
// behind comes again, and the inbox knows what it had.
//
// # The decision to make
//
// How many processes there are. One needs nothing. More of them share [Leases],
// of which each tenant has one, so that no two poll the same bot; give all of
// them the same tenants. They share the tenants evenly: one that comes is given
// its part by the others, a few bots at a time, each of which nobody polls for
// some seconds. What a process polled that ends is taken over at once, and of
// one that dies after about one [Config.LeaseTTL]. One without a network yields
// its tenants to the others until it has one.
//
// Where some tenants have webhooks, [Config.Wants] says which are polled.
//
// # What can go wrong
//
// Each has its own way, none is a busy loop, and [Supervisor.Status] names it:
//
//   - 401 and 404 "Not Found": Telegram rejects the token. The bot is [Rejected]. The
//     supervisor reads the record for another token and asks again, less and
//     less often, because such answers may pass. It stops once the record says that
//     the tenant is quarantined. [Quarantine] has the manager decide that. Call
//     [Supervisor.Add] in the manager's OnAccepted, so that polling goes on at once
//     when Telegram accepts the token again.
//   - 409: somebody else receives the bot's updates. Another program that polls
//     is given way to, longer each time; a webhook is left or deleted, as
//     [Config.DeleteWebhook] says. The bot is [Conflicting], and so not
//     healthy, until nobody was in the way for two minutes.
//   - 429, and limits of this process: the next call waits as long as it is
//     told, and a moment longer.
//   - The network, Telegram's server errors, the inbox: again after 1 s, 2 s and
//     so on up to a minute, with jitter, and at once when a call succeeds. When
//     it lasts, another process is given a try.
//   - A full inbox: nothing is confirmed past what it took, and the rest waits
//     at Telegram.
//   - What is no update, or what the inbox will never take, is passed over, since
//     all later ones would wait for it. It is logged and counted in [Stats].
//
// # What it costs
//
// A tenant that is polled has a goroutine and some 13 KiB, stack included
// (BenchmarkIdle), and a long poll under way, for which net/http has a
// goroutine too. One that waits or that another process polls has 400 bytes. An
// idle bot makes 72 calls an hour.
//
// A long poll holds a stream of HTTP/2 for as long as it lasts, and a server
// allows some 100 to a connection: ten thousand take a hundred connections. From
// a Bot API server of one's own, which speaks HTTP/1.1, each takes one. These
// are not among the connections that [session.Config] bounds, so polls never
// keep other calls waiting; the process needs as many open files.
// With a session whose chain has [session.Limit], bots start as fast as
// Telegram loads them: 20 a minute and 600 an hour for an address.
//
// A bot need not be open in the pool to be polled.
//
// # What it does not do
//
// It does not handle updates: a worker takes them from the inbox.
package polling
