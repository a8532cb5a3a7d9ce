package ownership_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/ownership"
)

// A bot may not send before its owner has followed a link.
func Example() {
	srv := bottest.New(bottest.Config{}) // stands for Telegram
	defer srv.Close()
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	ctx := context.Background()

	v, _ := ownership.New(ownership.NewMemoryStore(), []byte("a secret of at least 32 bytes...."), ownership.Config{})
	s, _ := session.New(session.Config{Transport: srv.Transport(), Middleware: []session.Middleware{v.Require(nil)}})
	defer s.Close(ctx)
	pool, _ := tenant.NewPool(s, tenant.NewMemoryStore(), tenant.PoolConfig{})
	defer pool.Close(ctx)
	manager := tenant.NewManager(pool, tenant.ManagerConfig{})
	record, _ := manager.Register(ctx, "customer-7", bot.Token())

	send := func() error {
		return pool.Do(ctx, "customer-7", func(ctx context.Context, t *tenant.Tenant) error {
			_, err := t.Bot.SendMessageWithContext(ctx, ann.ID, "welcome", nil)
			return err
		})
	}
	fmt.Println(errors.Friendly(send(), "en"))

	invitation, _ := v.Invite(ctx, record, 0)
	_, payload, _ := strings.Cut(invitation.Link, "https://t.me/shop_bot?start=")
	result, _ := v.Check(ctx, received("customer-7", *ann.Start(bot, payload)))
	fmt.Println(result.Outcome, result.Proof.User == ann.ID)
	fmt.Println(send())
	// Output:
	// Please confirm first that this bot is yours. Open the confirmation link in Telegram and press Start.
	// proved true
	// <nil>
}

// received is an update as a source puts it into the inbox.
func received(id string, m gotgbot.Message) inbox.Update {
	u, _ := parse(id, 1, "message", m)
	return u
}

// What the bot says to who sends a code is the service's.
func ExampleVerifier_Middleware() {
	v, _ := ownership.New(ownership.NewMemoryStore(), []byte("a secret of at least 32 bytes...."), ownership.Config{})
	answer := func(ctx context.Context, t *tenant.Tenant, r ownership.Result) error {
		text := "This code is not valid (any more). Please get a new one on our site."
		switch {
		case r.Again:
			return nil
		case r.Outcome == ownership.Proved:
			text = "Thank you! This bot is yours."
		case !r.Link:
			return nil // it may be no code at all
		}
		_, err := t.Bot.SendMessageWithContext(ctx, r.User, text, nil)
		return err
	}
	bot := inbox.HandlerFunc(func(context.Context, *tenant.Tenant, inbox.Update) error { return nil })
	handler := inbox.Chain(bot, v.Middleware(answer))
	fmt.Println(handler != nil)
	// Output: true
}
