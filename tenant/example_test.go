package tenant_test

import (
	"context"
	"fmt"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
)

// A customer brings a bot, and the service uses it.
func Example() {
	srv := bottest.New(bottest.Config{}) // stands for Telegram
	defer srv.Close()
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	ann.Start(bot, "")

	ctx := context.Background()
	s, _ := session.New(session.Config{Transport: srv.Transport()})
	defer s.Close(ctx)
	pool, _ := tenant.NewPool(s, tenant.NewMemoryStore(), tenant.PoolConfig{})
	defer pool.Close(ctx)
	manager := tenant.NewManager(pool, tenant.ManagerConfig{})

	record, err := manager.Register(ctx, "customer-7", bot.Token())
	fmt.Println(record.Username, record.Token.ID() == bot.ID(), err)

	err = pool.Do(ctx, "customer-7", func(ctx context.Context, t *tenant.Tenant) error {
		_, err := t.Bot.SendMessageWithContext(ctx, ann.ID, "your order has left", nil)
		return err
	})
	fmt.Println(err)
	// Output:
	// shop_bot true <nil>
	// <nil>
}

// What went wrong with a token is told to people in their words.
func ExampleManager_Register() {
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	s, _ := session.New(session.Config{Transport: srv.Transport()})
	defer s.Close(context.Background())
	pool, _ := tenant.NewPool(s, tenant.NewMemoryStore(), tenant.PoolConfig{})
	defer pool.Close(context.Background())
	manager := tenant.NewManager(pool, tenant.ManagerConfig{})

	_, err := manager.Register(context.Background(), "customer-7", "hello")
	fmt.Println(errors.KindOf(err).String())
	fmt.Println(errors.Friendly(err, "en"))
	// Output:
	// invalid_token
	// This is not a valid bot token. Please copy the whole token from @BotFather and try again.
}

// A hook opens what belongs to a bot, and ends it with the bot.
func ExampleHook() {
	type counterKey struct{}
	counter := func(_ context.Context, t *tenant.Tenant) (func(context.Context) error, error) {
		n := new(int)
		t.SetValue(counterKey{}, n)
		return func(context.Context) error {
			fmt.Println(t, "was used", *n, "times")
			return nil
		}, nil
	}
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	ctx := context.Background()
	s, _ := session.New(session.Config{Transport: srv.Transport()})
	defer s.Close(ctx)
	pool, _ := tenant.NewPool(s, tenant.NewMemoryStore(), tenant.PoolConfig{OnOpen: []tenant.Hook{counter}})
	manager := tenant.NewManager(pool, tenant.ManagerConfig{})
	_, _ = manager.Register(ctx, "customer-7", srv.NewBot("shop_bot").Token())

	for range 3 {
		_ = pool.Do(ctx, "customer-7", func(_ context.Context, t *tenant.Tenant) error {
			*t.Value(counterKey{}).(*int)++
			return nil
		})
	}
	_ = pool.Close(ctx)
	// Output: tenant "customer-7" was used 3 times
}
