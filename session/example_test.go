package session_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
)

// Two bots share one session.
func Example() {
	srv := bottest.New(bottest.Config{}) // stands for Telegram
	defer srv.Close()
	shop, news := srv.NewBot("shop_bot"), srv.NewBot("news_bot")
	ann := srv.NewUser("Ann")
	ann.Start(shop, "")
	ann.Start(news, "")

	ctx := context.Background()
	s, err := session.New(session.Config{Transport: srv.Transport()})
	if err != nil {
		panic(err)
	}
	defer s.Close(ctx)

	for _, account := range []*bottest.Bot{shop, news} {
		token, err := session.ParseToken(account.Token())
		if err != nil {
			panic(err)
		}
		bot, err := s.NewBot(ctx, account.Username(), token)
		if err != nil {
			panic(err)
		}
		if _, err := bot.SendMessage(ann.ID, "hello from "+bot.Username, nil); err != nil {
			panic(err)
		}
	}
	fmt.Println(srv.CallCount("sendMessage"), "messages")
	// Output: 2 messages
}

// An existing bot changes the line with its BotClient.
func ExampleSession_Client() {
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	s, _ := session.New(session.Config{Transport: srv.Transport()})
	defer s.Close(context.Background())

	token := srv.NewBot("old_bot").Token()
	bot, err := gotgbot.NewBot(token, &gotgbot.BotOpts{BotClient: s.Client("old")})
	fmt.Println(bot.Username, err)
	// Output: old_bot <nil>
}

// A guard keeps to Telegram's limits and repeats what may be repeated. The bot
// of a busy shop has limits of its own.
func ExampleNewGuard() {
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	guard, err := session.NewGuard(session.GuardConfig{
		Limit: session.LimitConfig{Total: ratelimit.Per(25, time.Second)},
	})
	if err != nil {
		panic(err)
	}
	defer guard.Close()
	s, err := session.New(session.Config{Transport: srv.Transport(), Guard: guard})
	if err != nil {
		panic(err)
	}
	defer s.Close(context.Background())
	if err := guard.SetTenant("shop", session.Limits{Weight: 3, Concurrent: 20}); err != nil {
		panic(err)
	}

	token, _ := session.ParseToken(srv.NewBot("shop_bot").Token())
	srv.Fail(bottest.Fault{Do: bottest.Restart500(), Times: 1})
	bot, err := s.NewBot(context.Background(), "shop", token) // a second later
	fmt.Println(bot.Username, err)
	// Output: shop_bot <nil>
}

// A newsletter waits behind what the bot answers to people.
func ExampleBulk() {
	newsletter := func(ctx context.Context, bot *gotgbot.Bot, readers []int64, text string) error {
		ctx = session.Bulk(ctx)
		for _, reader := range readers {
			_, err := bot.SendMessageWithContext(ctx, reader, text, nil)
			if err != nil && !errors.Is(err, errors.Blocked) {
				return err
			}
		}
		return nil
	}
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	s, _ := session.New(session.Config{Transport: srv.Transport()})
	defer s.Close(context.Background())
	account, ann := srv.NewBot("news_bot"), srv.NewUser("Ann")
	ann.Start(account, "")
	token, _ := session.ParseToken(account.Token())
	bot := s.Bot("news", token, gotgbot.User{})
	fmt.Println(newsletter(context.Background(), bot, []int64{ann.ID}, "what is new"))
	// Output: <nil>
}

// A middleware that refuses calls in a maintenance window.
func ExampleMiddleware() {
	maintenance := true
	refuse := func(next session.Invoker) session.Invoker {
		return session.InvokerFunc(func(ctx context.Context, call *session.Call) (json.RawMessage, error) {
			if maintenance && strings.HasPrefix(call.Method, "send") {
				return nil, &errors.Error{Kind: errors.Closed, Op: call.Method, Key: call.Key, Delivery: errors.NotDelivered}
			}
			return next.Invoke(ctx, call)
		})
	}
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	s, _ := session.New(session.Config{Transport: srv.Transport(), Middleware: []session.Middleware{refuse}})
	defer s.Close(context.Background())

	token, _ := session.ParseToken(srv.NewBot("shop_bot").Token())
	bot, _ := s.NewBot(context.Background(), "shop", token)
	_, err := bot.SendMessage(1, "hi", nil)
	fmt.Println(err)
	// Output: sendMessage: "shop": closed
}

// A token shows its secret to nobody who does not ask for it by name.
func ExampleToken() {
	token, err := session.ParseToken("123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr")
	fmt.Println(token, err)
	fmt.Printf("%+v %#v %q\n", token, token, token)
	// Output:
	// 123456:*** <nil>
	// 123456:*** 123456:*** "123456:***"
}

// Files are fetched without a URL that holds the token.
func ExampleSession_Download() {
	srv := bottest.New(bottest.Config{})
	defer srv.Close()
	s, _ := session.New(session.Config{Transport: srv.Transport()})
	defer s.Close(context.Background())
	account := srv.NewBot("shop_bot")
	token, _ := session.ParseToken(account.Token())
	bot, _ := s.NewBot(context.Background(), "shop", token)

	sent := account.AddFile("price-list.txt", []byte("apples 3"))
	file, err := bot.GetFile(sent.FileId, nil)
	if err != nil {
		panic(err)
	}
	body, err := s.Download(context.Background(), bot, file.FilePath)
	if err != nil {
		panic(err)
	}
	defer body.Close()
	text, _ := io.ReadAll(body)
	fmt.Println(string(text))
	// Output: apples 3
}
