package webhook_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// The webhooks of a fleet are set, and a user's message reaches the handler.
func Example() {
	mux := http.NewServeMux()
	srv := bottest.New(bottest.Config{WebhookTransport: bottest.HandlerTransport(mux)}) // stands for Telegram
	defer srv.Close()
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")

	ctx := context.Background()
	store := tenant.NewMemoryStore()
	s, _ := session.New(session.Config{Transport: srv.Transport()})
	defer s.Close(ctx)
	pool, _ := tenant.NewPool(s, store, tenant.PoolConfig{})
	defer pool.Close(ctx)
	manager := tenant.NewManager(pool, tenant.ManagerConfig{})
	_, _ = manager.Register(ctx, "customer-7", bot.Token())

	handled := make(chan string)
	var handler inbox.Mux
	handler.HandleFunc("message", func(ctx context.Context, t *tenant.Tenant, u inbox.Update) error {
		update, err := u.Decode()
		if err != nil {
			return inbox.Permanent(err)
		}
		handled <- t.ID() + " got: " + update.Message.Text
		return nil
	})
	in, _ := inbox.NewMemory(inbox.MemoryConfig{})
	workers, _ := inbox.NewWorkers(in, pool, &handler, inbox.WorkersConfig{})
	_ = workers.Start(ctx)
	defer workers.Stop(ctx)

	master := []byte("32 random bytes from the secrets") // of a vault, in earnest
	keys, _ := webhook.NewKeys(webhook.Key{Master: master, Generation: 1})
	receiver, _ := webhook.NewReceiver(in, keys, webhook.Config{Tenants: store, Networks: webhook.TelegramNetworks()})
	mux.Handle("POST /webhook/{opaque}", receiver)

	hooks, _ := webhook.NewManager(pool, manager, keys, webhook.ManagerConfig{
		URL: "https://hooks.example.com/webhook", AllowedUpdates: inbox.KindsOf(&handler),
	})
	report, err := hooks.Reconcile(ctx, webhook.Reconcile{})
	fmt.Println(report.Changed, "set", err)
	report, err = hooks.Reconcile(ctx, webhook.Reconcile{})
	fmt.Println(report.Changed, "set", err)

	ann.Write(bot, "two pizzas, please")
	fmt.Println(<-handled)
	// Output:
	// 1 set <nil>
	// 0 set <nil>
	// customer-7 got: two pizzas, please
}

// A fleet of two replicas rotates its key: all accept the next one before the
// first sets webhooks with it.
func ExampleKeys() {
	master := []byte("32 random bytes from the secrets") // of a vault, in earnest
	one, next := webhook.Key{Master: master, Generation: 1}, webhook.Key{Master: master, Generation: 2}
	a, _ := webhook.NewKeys(one)
	b, _ := webhook.NewKeys(one)
	for _, replica := range []*webhook.Keys{a, b} {
		if err := replica.Accept(next, time.Time{}); err != nil {
			panic(err)
		}
	}
	for _, replica := range []*webhook.Keys{a, b} {
		if err := replica.Rotate(next, 48*time.Hour); err != nil { // and then Reconcile
			panic(err)
		}
	}
	fmt.Println(a, "and", b)
	_ = a.Rotate(one, 48*time.Hour) // back, should it be needed
	fmt.Println(a)
	// Output:
	// webhook keys 2 1 and webhook keys 2 1
	// webhook keys 1 2
}

// A server whose limits fit the receiver's, and the order in which it ends.
func ExampleReceiver() {
	keys, _ := webhook.NewKeys(webhook.Key{Master: make([]byte, 32)})
	in, _ := inbox.NewMemory(inbox.MemoryConfig{})
	receiver, err := webhook.NewReceiver(in, keys, webhook.Config{ReplyWithin: 5 * time.Second})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /webhook/{opaque}", receiver)
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second, // of who sends a header byte by byte
		MaxHeaderBytes:    16 << 10,        // many times what Telegram sends
		IdleTimeout:       2 * time.Minute, // longer than a proxy's, so that it does not meet a closed connection
		WriteTimeout:      time.Minute,     // longer than an answer takes; Telegram waits no longer either
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	done := make(chan error)
	go func() { done <- server.Serve(listener) }()

	// First nothing more comes in, then the workers end, then the inbox.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err = server.Shutdown(ctx)
	fmt.Println(<-done, err)
	// Output: http: Server closed <nil>
}

// A handler that answers callback queries in the webhook's answer saves a
// request for each, and makes the call itself where that can't be.
func ExampleReply() {
	handler := inbox.HandlerFunc(func(ctx context.Context, t *tenant.Tenant, u inbox.Update) error {
		update, err := u.Decode()
		if err != nil {
			return inbox.Permanent(err)
		}
		query := update.CallbackQuery
		err = webhook.Reply(ctx, "answerCallbackQuery", map[string]any{"callback_query_id": query.Id})
		if err != nil {
			_, err = t.Bot.AnswerCallbackQueryWithContext(ctx, query.Id, nil)
		}
		return err
	})
	in, _ := inbox.NewMemory(inbox.MemoryConfig{})
	keys, _ := webhook.NewKeys(webhook.Key{Master: make([]byte, 32)})
	receiver, _ := webhook.NewReceiver(in, keys, webhook.Config{
		ReplyWithin: 3 * time.Second,
		ReplyTo:     func(u inbox.Update) bool { return u.Kind == "callback_query" },
	})
	_ = inbox.Chain(handler, receiver.Replies()) // give this to the workers
}

// A run that takes hours says how far it is, so that another process can go on
// where one has ended.
func ExampleManager_Reconcile() {
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	ctx := context.Background()
	s, _ := session.New(session.Config{Transport: srv.Transport()})
	defer s.Close(ctx)
	pool, _ := tenant.NewPool(s, tenant.NewMemoryStore(), tenant.PoolConfig{})
	defer pool.Close(ctx)
	manager := tenant.NewManager(pool, tenant.ManagerConfig{})
	for _, id := range []string{"a", "b", "c"} {
		_, _ = manager.Register(ctx, id, srv.NewBot(id+"_bot").Token())
	}
	keys, _ := webhook.NewKeys(webhook.Key{Master: make([]byte, 32)})
	hooks, _ := webhook.NewManager(pool, manager, keys, webhook.ManagerConfig{
		URL: "https://hooks.example.com/webhook", Starts: []ratelimit.Limit{}, // a server of one's own has no such limit
	})
	saved := "a" // where a run ended
	report, err := hooks.Reconcile(ctx, webhook.Reconcile{After: saved, Progress: func(next string) { saved = next }})
	fmt.Println(report.Changed, saved, err)
	// Output: 2 c <nil>
}
