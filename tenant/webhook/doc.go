// Package webhook receives the updates of many bots by webhook, and sets their
// webhooks.
//
//	keys, err := webhook.NewKeys(webhook.Key{Master: master, Generation: 1})
//	receiver, err := webhook.NewReceiver(in, keys, webhook.Config{Tenants: store})
//	mux.Handle("POST /webhook/{opaque}", receiver)
//
//	hooks, err := webhook.NewManager(pool, manager, keys, webhook.ManagerConfig{
//		URL:            "https://hooks.example.com/webhook",
//		AllowedUpdates: inbox.KindsOf(handler),
//	})
//	report, err := hooks.Reconcile(ctx, webhook.Reconcile{})
//
// A [Receiver] puts what Telegram delivers into an inbox, from which workers
// take it; see package inbox. It confirms an update only when the inbox has it.
// Many that come at the same time are stored together, so an inbox on disk
// keeps up too.
//
// A [Manager] compares what Telegram says of each webhook with how it should
// be, and sets those that differ. It keeps to the rate at which Telegram lets
// bots start, can be stopped and resumed, and may run in several replicas.
//
// Run [Manager.Reconcile] at the start and every few hours; [Manager.Ensure]
// whenever OnActive of tenant.ManagerConfig is called, which is after each
// Register, Rotate and Resume, since Telegram keeps a webhook by the bot's token
// and forgets it with that; and [Manager.Remove] before each Remove.
//
// # The decision to make
//
// Where the master key of [Keys] comes from: 32 random bytes that every replica
// has at each start, and nobody else. Each tenant's path and secret are derived of it, so
// nothing is stored, and what is lost when it is lost is only a Reconcile with
// a new one of a greater generation. [Keys] says how to rotate it.
//
// # Strangers
//
// The path is not the token and tells nothing of the tenant. A request without
// the right path and secret is refused before anything is read, asked or
// remembered. Its HTTP/1.1 connection is closed; of an HTTP/2 connection only
// its stream ends, since a proxy may have others on it.
//
// What comes before a request is the [http.Server]'s: give it a
// ReadHeaderTimeout, or who sends a header byte by byte holds a connection for
// as long as they like, and an IdleTimeout. The receiver bounds the body itself.
// A WriteTimeout must be longer than an answer may take: BodyTimeout, twice
// PutTimeout, ReplyWithin and some seconds more. The example of [Receiver] has
// all of them.
//
// # What it does not do
//
// It serves no TLS, and knows no self-signed certificates: put a proxy that
// terminates TLS before it, or an [http.Server] with a certificate. Limits on
// how many requests a stranger may make are package httplimit's.
package webhook
