package polling_test

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/polling"
)

// A service polls all its active tenants.
func Example() {
	srv := bottest.New(bottest.Config{}) // stands for Telegram
	defer srv.Close()
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	ctx := context.Background()
	s, _ := session.New(session.Config{Transport: srv.Transport()})
	defer s.Close(ctx)
	store := tenant.NewMemoryStore()
	pool, _ := tenant.NewPool(s, store, tenant.PoolConfig{})
	defer pool.Close(ctx)
	manager := tenant.NewManager(pool, tenant.ManagerConfig{})
	_, _ = manager.Register(ctx, "customer-7", bot.Token())
	in, _ := inbox.NewMemory(inbox.MemoryConfig{})

	p, err := polling.New(s, store, in, polling.Config{
		Tenants: func(ctx context.Context) iter.Seq2[tenant.Record, error] {
			return manager.List(ctx, tenant.Filter{Status: []tenant.Status{tenant.Active}})
		},
		Watch:    store.Watch,
		OnChange: polling.Quarantine(pool),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	arrived := in.Wake()
	if err := p.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	ann.Write(bot, "one pizza, please")

	<-arrived
	leases, _ := in.Lease(ctx, inbox.Want{Limit: 10, TTL: time.Minute})
	for _, l := range leases {
		u, _ := l.Decode()
		fmt.Println(l.Tenant, "got:", u.Message.Text)
	}
	fmt.Println(p.Stop(ctx))
	// Output:
	// customer-7 got: one pizza, please
	// <nil>
}

// A bot moves from polling to a webhook while the service runs.
func ExampleSupervisor_HandOver() {
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	bot := srv.NewBot("shop_bot")
	ctx := context.Background()
	s, _ := session.New(session.Config{Transport: srv.Transport()})
	defer s.Close(ctx)
	store := tenant.NewMemoryStore()
	pool, _ := tenant.NewPool(s, store, tenant.PoolConfig{})
	defer pool.Close(ctx)
	manager := tenant.NewManager(pool, tenant.ManagerConfig{})
	_, _ = manager.Register(ctx, "customer-7", bot.Token())
	in, _ := inbox.NewMemory(inbox.MemoryConfig{})
	p, _ := polling.New(s, store, in, polling.Config{})
	_ = p.Start(ctx)
	defer p.Stop(ctx)
	p.Add("customer-7")

	err := p.HandOver(ctx, "customer-7", func(ctx context.Context) error {
		return pool.Do(ctx, "customer-7", func(ctx context.Context, t *tenant.Tenant) error {
			_, err := t.Bot.SetWebhookWithContext(ctx, "https://example.com/hooks/3f9a", nil)
			return err
		})
	})
	_, polled := p.Status("customer-7")
	fmt.Println(err, polled)
	// Output: <nil> false
}
