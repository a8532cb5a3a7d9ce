package inbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/PaulSonOfLars/gotgbot/v2/ext"
	"github.com/PaulSonOfLars/gotgbot/v2/ext/handlers"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// A source puts an update into the inbox, and a worker hands it to the handler
// with the tenant it is for.
func Example() {
	srv := bottest.New(bottest.Config{}) // stands for Telegram
	defer srv.Close()
	bot := srv.NewBot("shop_bot")
	ctx := context.Background()
	s, _ := session.New(session.Config{Transport: srv.Transport()})
	defer s.Close(ctx)
	pool, _ := tenant.NewPool(s, tenant.NewMemoryStore(), tenant.PoolConfig{})
	defer pool.Close(ctx)
	_, _ = tenant.NewManager(pool, tenant.ManagerConfig{}).Register(ctx, "customer-7", bot.Token())

	handled := make(chan string)
	handler := inbox.HandlerFunc(func(ctx context.Context, t *tenant.Tenant, u inbox.Update) error {
		handled <- fmt.Sprintf("@%s got a %s in chat %s", t.Bot.Username, u.Kind, u.Chat)
		return nil
	})
	in, _ := inbox.NewMemory(inbox.MemoryConfig{})
	workers, _ := inbox.NewWorkers(in, pool, handler, inbox.WorkersConfig{})
	_ = workers.Start(ctx)
	defer workers.Stop(ctx)

	raw := []byte(`{"update_id":1,"message":{"message_id":1,"date":1,"chat":{"id":42,"type":"private"},"text":"hello"}}`)
	u, _ := inbox.Parse("customer-7", raw, time.Now())
	outcomes, err := in.Put(ctx, []inbox.Update{u, u})
	fmt.Println(outcomes[0].Duplicate, outcomes[1].Duplicate, err) // now it may be confirmed
	fmt.Println(<-handled)
	// Output:
	// false true <nil>
	// @shop_bot got a message in chat 42
}

// The handlers of a bot that is written for gotgbot's dispatcher need one
// other line.
func ExampleDispatcher() {
	d := inbox.NewDispatcher(nil) // was: ext.NewDispatcher(nil)
	d.AddHandler(handlers.NewCommand("start", func(b *gotgbot.Bot, ctx *ext.Context) error {
		_, err := ctx.EffectiveMessage.Reply(b, "welcome", nil)
		return err
	}))
	d.AddHandler(handlers.NewCallback(nil, func(b *gotgbot.Bot, ctx *ext.Context) error {
		_, err := ctx.CallbackQuery.Answer(b, nil)
		return err
	}))
	d.Retry(errors.Temporary) // what fails because of the network is tried again
	fmt.Println(d.Kinds())
	// Output: [callback_query message]
}

// setUp is what an existing bot has: it adds its handlers to gotgbot's
// dispatcher.
func setUp(d *ext.Dispatcher) {
	d.AddHandler(handlers.NewCommand("start", func(b *gotgbot.Bot, ctx *ext.Context) error {
		_, err := ctx.EffectiveMessage.Reply(b, "welcome to @"+b.Username, nil)
		return err
	}))
}

// An existing bot's code stays as it is, and serves all tenants. Handlers that
// are added to the dispatcher inside are not seen, so their kinds are said.
func ExampleNewDispatcher_existing() {
	srv := bottest.New(bottest.Config{}) // stands for Telegram
	defer srv.Close()
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	ann.Start(bot, "")
	ctx := context.Background()
	s, _ := session.New(session.Config{Transport: srv.Transport()})
	defer s.Close(ctx)
	pool, _ := tenant.NewPool(s, tenant.NewMemoryStore(), tenant.PoolConfig{})
	defer pool.Close(ctx)
	_, _ = tenant.NewManager(pool, tenant.ManagerConfig{}).Register(ctx, "customer-7", bot.Token())

	d := inbox.NewDispatcher(nil)
	setUp(d.Dispatcher)
	d.Want("message")

	in, _ := inbox.NewMemory(inbox.MemoryConfig{})
	handled := make(chan error)
	handler := inbox.Chain(d, func(next inbox.Handler) inbox.Handler {
		return inbox.Wrap(next, func(ctx context.Context, t *tenant.Tenant, u inbox.Update) error {
			err := next.HandleUpdate(ctx, t, u)
			handled <- err
			return err
		})
	})
	workers, _ := inbox.NewWorkers(in, pool, handler, inbox.WorkersConfig{})
	_ = workers.Start(ctx)
	defer workers.Stop(ctx)
	raw := fmt.Appendf(nil, `{"update_id":1,"message":{"message_id":1,"date":1,"from":{"id":%d,"first_name":"Ann"},"chat":{"id":%[1]d,"type":"private"},
		"text":"/start","entities":[{"type":"bot_command","offset":0,"length":6}]}}`, ann.ID)
	u, _ := inbox.Parse("customer-7", raw, time.Now())
	_, _ = in.Put(ctx, []inbox.Update{u})
	err := <-handled
	sent := bot.Messages(ann.ID)
	fmt.Println(inbox.KindsOf(handler), sent[len(sent)-1].Text, err)
	// Output: [message] welcome to @shop_bot <nil>
}

// Dead letters are what failed for good. Once its cause is mended, a letter is
// replayed: it is tried again before all later updates of its chat.
func ExampleInbox_Replay() {
	ctx := context.Background()
	in, _ := inbox.NewMemory(inbox.MemoryConfig{})
	u, _ := inbox.Parse("customer-7", []byte(`{"update_id":1,"message":{"chat":{"id":42}}}`), time.Now())
	_, _ = in.Put(ctx, []inbox.Update{u})
	leases, _ := in.Lease(ctx, inbox.Want{Limit: 1, TTL: time.Minute})
	_, _ = in.Settle(ctx, []inbox.Settlement{{Lease: leases[0], Verdict: inbox.Bury, Reason: "the shop's database was down"}})

	letters, _ := in.Dead(ctx, inbox.DeadFilter{Tenant: "customer-7"})
	for _, l := range letters {
		fmt.Println(l.Update, "-", l.Reason)
		n, _ := in.Replay(ctx, []inbox.Ref{l.Ref()})
		fmt.Println(n, "replayed")
	}
	// Output:
	// message 1 of tenant "customer-7" - the shop's database was down
	// 1 replayed
}

// Middleware adds to what every handler does, the first outermost.
func ExampleChain() {
	var mux inbox.Mux
	mux.HandleFunc("message", func(context.Context, *tenant.Tenant, inbox.Update) error { return nil })
	mux.HandleFunc("inline_query", func(context.Context, *tenant.Tenant, inbox.Update) error { return nil })
	timed := func(next inbox.Handler) inbox.Handler {
		return inbox.Wrap(next, func(ctx context.Context, t *tenant.Tenant, u inbox.Update) error {
			start := time.Now()
			defer func() { _ = time.Since(start) }() // to a histogram
			return next.HandleUpdate(ctx, t, u)
		})
	}
	handler := inbox.Chain(&mux,
		inbox.Log(slog.Default()),
		timed,
		inbox.Timeout(5*time.Second, "inline_query"),
	)
	fmt.Println(inbox.KindsOf(handler))
	// Output: [inline_query message]
}
