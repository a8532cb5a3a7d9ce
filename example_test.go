package tgfleet_test

import (
	"context"
	"fmt"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
)

// The tour: a customer's bot from its token to its first message.
func Example() {
	telegram := bottest.New(bottest.Config{}) // a fake one
	defer telegram.Close()
	account, ann := telegram.NewBot("shop_bot"), telegram.NewUser("Ann")
	ann.Start(account, "")

	ctx := context.Background()
	s, err := session.New(session.Config{Transport: telegram.Transport()})
	if err != nil {
		panic(err)
	}
	defer s.Close(ctx)
	pool, err := tenant.NewPool(s, tenant.NewMemoryStore(), tenant.PoolConfig{})
	if err != nil {
		panic(err)
	}
	defer pool.Close(ctx)
	manager := tenant.NewManager(pool, tenant.ManagerConfig{})

	record, err := manager.Register(ctx, "customer-7", account.Token())
	if err != nil {
		panic(err)
	}
	fmt.Println("registered", record.Username)

	send := func(chat int64) error {
		return pool.Do(ctx, "customer-7", func(ctx context.Context, t *tenant.Tenant) error {
			_, err := t.Bot.SendMessageWithContext(ctx, chat, "your order has left", nil)
			return err
		})
	}
	fmt.Println("to Ann:", send(ann.ID))

	ann.Block(account)
	if err := send(ann.ID); errors.Is(err, errors.Blocked) {
		fmt.Println("Ann no longer wants to hear from us")
	}

	account.Revoke()
	_ = send(ann.ID)
	fmt.Println(errors.Friendly(send(ann.ID), "en"))
	// Output:
	// registered shop_bot
	// to Ann: <nil>
	// Ann no longer wants to hear from us
	// This bot is suspended. Please contact support to have it resumed.
}
