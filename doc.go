// Package tgfleet runs many customers' Telegram bots in one service, on top of
// gotgbot. It holds no code itself; this is the tour of the packages that do.
//
// # One session for all bots
//
// Package [github.com/tgfleet/tgfleet/session] is the way out. A Session owns
// the HTTP connections, the DNS cache and the chain of middlewares that every
// call passes; each bot has a client of two words. An existing gotgbot bot
// moves over by changing its BotClient:
//
//	s, err := session.New(session.Config{})
//	bot, err := gotgbot.NewBot(token, &gotgbot.BotOpts{BotClient: s.Client("me")})
//
// # A guard before Telegram
//
// A Guard is the part of that chain that keeps calls safe. It holds them back
// so that Telegram need not refuse them, fairly among the bots; it stops
// calling what fails; it makes a call again where that helps, and never so
// that a message comes twice:
//
//	guard, err := session.NewGuard(session.GuardConfig{})
//	s, err := session.New(session.Config{Guard: guard})
//
// What it is made of knows nothing of Telegram, and is useful by itself:
// [github.com/tgfleet/tgfleet/ratelimit] has buckets and the fair scheduler,
// [github.com/tgfleet/tgfleet/ratelimit/httplimit] limits HTTP clients by
// address, [github.com/tgfleet/tgfleet/breaker] has circuit breakers and
// [github.com/tgfleet/tgfleet/retry] back-off, bounds and budgets.
//
// # Tenants
//
// Package [github.com/tgfleet/tgfleet/tenant] knows whose bot is whose. Its
// Manager registers tenants by their token, its Pool opens their bots when they
// are wanted and closes them when they are not:
//
//	pool, err := tenant.NewPool(s, tenant.NewMemoryStore(), tenant.PoolConfig{})
//	manager := tenant.NewManager(pool, tenant.ManagerConfig{})
//	_, err = manager.Register(ctx, "customer-7", token)
//	err = pool.Do(ctx, "customer-7", func(ctx context.Context, t *tenant.Tenant) error {
//		_, err := t.Bot.SendMessageWithContext(ctx, chatID, "hello", nil)
//		return err
//	})
//
// Where records live is a Store's: [github.com/tgfleet/tgfleet/tenant/sqlitestore]
// is a file and [github.com/tgfleet/tgfleet/tenant/pgstore] a PostgreSQL, with
// tokens that [github.com/tgfleet/tgfleet/tenant/seal] has sealed. Whether a
// tenant owns its bot, [github.com/tgfleet/tgfleet/tenant/ownership] finds out.
//
// # Updates in
//
// Package [github.com/tgfleet/tgfleet/tenant/inbox] keeps what was received until
// it is handled. [github.com/tgfleet/tgfleet/tenant/webhook] or
// [github.com/tgfleet/tgfleet/tenant/polling] brings it, and workers call a
// handler, which may be gotgbot's dispatcher:
//
//	d := inbox.NewDispatcher(nil)
//	d.AddHandler(handlers.NewCommand("start", start))
//	workers, err := inbox.NewWorkers(db.Inbox(), pool, d, inbox.WorkersConfig{})
//	err = workers.Start(context.Background())
//	receiver, err := webhook.NewReceiver(db.Inbox(), keys, webhook.Config{Tenants: db.Tenants()})
//	mux.Handle("POST /webhook/{opaque}", receiver)
//
// The example Service of package sqlitestore is such a service as a whole.
//
// # Health and usage
//
// Package [github.com/tgfleet/tgfleet/health] knows how each bot does, and tells
// before its owner notices; [github.com/tgfleet/tgfleet/health/usage] counts what
// it did. The guard and the manager tell them:
//
//	monitor, err := health.New(health.Config{Store: store})
//	recorder, err := usage.New(usage.Config{Store: counts})
//	guard, err := session.NewGuard(session.GuardConfig{Health: monitor, Usage: recorder})
//	...
//	manager := tenant.NewManager(pool, tenant.ManagerConfig{
//		Health: monitor,
//		Forget: []tenant.Forgetter{recorder},
//	})
//
// # The end
//
// What was made later is ended earlier: first what brings in work (the web
// server, a Supervisor of polling), then the Workers, the Manager, the Pool, the
// Session, the Guard, the Monitor and the Recorder, and at last the database. A
// defer behind each part has this order.
//
// What has a Start runs until its Stop, or until the context of Start ends, which
// breaks off what is under way. So that context is not the one which a signal
// ends, but outlives it; and Stop and Close get one that leaves them some
// seconds.
//
// # Errors
//
// Package [github.com/tgfleet/tgfleet/errors] is the standard one and more:
// kinds for programs, friendly texts for people, problem documents for HTTP
// clients. It says what a token, a user or Telegram did wrong, and whether a
// call may be repeated without sending a message twice.
//
// # Tests
//
// Package [github.com/tgfleet/tgfleet/session/bottest] is a Bot API server for
// tests: in memory or over a socket, with users who write, limits that are
// enforced and faults on demand.
//
// # Tokens
//
// A session.Token prints as "123456:***" whatever prints it, and so do the
// bots, calls and errors that are made with one.
package tgfleet
