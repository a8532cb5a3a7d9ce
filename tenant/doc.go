// Package tenant keeps the bots of many customers: who they are, with which
// token, and which of them are open right now.
//
//	pool, err := tenant.NewPool(s, store, tenant.PoolConfig{})
//	manager := tenant.NewManager(pool, tenant.ManagerConfig{})
//
//	record, err := manager.Register(ctx, "customer-7", tokenFromTheForm)
//
//	err = pool.Do(ctx, "customer-7", func(ctx context.Context, t *tenant.Tenant) error {
//		_, err := t.Bot.SendMessageWithContext(ctx, chatID, "hello", nil)
//		return err
//	})
//
// A [Pool] opens a bot when it is first wanted, lends it, and closes it when it
// has been idle. An open bot is cheap, about a kilobyte: it has no connection
// and no goroutine of its own, since the session has them. What makes it worth
// closing is what [Hook]s attach to it.
//
// A [Manager] registers tenants, rotates their tokens, suspends and removes
// them.
//
// Telegram may reject a token because it was revoked, or by a mistake that passes within
// minutes. Therefore a manager that was started confirms each rejection, for an hour
// by default ([ManagerConfig].ConfirmFor). Meanwhile the tenant's calls and leases fail
// here with [errors.Unauthorized], so a revoked token costs a few questions and not
// a call for every message, and workers leave its updates in the inbox. As soon as
// Telegram accepts the token, the tenant works again. Otherwise the manager
// quarantines it, and asks Telegram about it once a day from then on. A manager
// that was not started quarantines at the first 401.
//
// With a health.Monitor as Health in [ManagerConfig] that knows who is suspended
// and who is gone, after restarts too.
//
// # The decision to make
//
// Where records live. [MemoryStore] needs nothing and keeps nothing; package
// sqlitestore keeps them in a file and pgstore in a PostgreSQL, each a module of
// its own, with their tokens sealed. For a [Store] of your own, package
// storetest has the tests. In a service of several processes [Manager.Start]
// makes each hear of the others' changes.
//
// # Errors
//
// They have kinds, of package errors. A tenant that is not there is NotFound,
// one that may not be used is Suspended, and when every place is in use it is
// PoolFull. A failed open is remembered for a moment, so that not every caller
// repeats it; until then the same error comes with a RetryAfter.
//
// # What it does not do
//
// It does not limit or repeat calls, which is the session's chain, and it
// receives no updates.
package tenant
