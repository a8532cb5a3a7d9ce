// Embed is an echo bot made with gotgbot, as its documentation has it, that
// sends through a tgfleet session. The lines that differ from a bot without
// tgfleet are marked.
//
//	BOT_TOKEN=123456:... go run ./examples/embed
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/PaulSonOfLars/gotgbot/v2/ext"
	"github.com/PaulSonOfLars/gotgbot/v2/ext/handlers"
	"github.com/PaulSonOfLars/gotgbot/v2/ext/handlers/filters/message"
	"github.com/tgfleet/tgfleet/errors"  // tgfleet
	"github.com/tgfleet/tgfleet/session" // tgfleet
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv("BOT_TOKEN"), session.Config{}); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, token string, cfg session.Config) error {
	s, err := session.New(cfg) // tgfleet
	if err != nil {            // tgfleet
		return err // tgfleet
	} // tgfleet
	defer s.Close(context.WithoutCancel(ctx)) // tgfleet

	bot, err := gotgbot.NewBot(token, &gotgbot.BotOpts{
		BotClient: s.Client("echo"), // tgfleet
	})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}

	dispatcher := ext.NewDispatcher(&ext.DispatcherOpts{
		Error: func(_ *gotgbot.Bot, _ *ext.Context, err error) ext.DispatcherAction {
			log.Println(errors.KindOf(err), err) // tgfleet: no token, no user's text
			return ext.DispatcherActionNoop
		},
	})
	dispatcher.AddHandler(handlers.NewMessage(message.Text, echo))
	updater := ext.NewUpdater(dispatcher, nil)
	err = updater.StartPolling(bot, &ext.PollingOpts{GetUpdatesOpts: &gotgbot.GetUpdatesOpts{
		Timeout:     9,
		RequestOpts: &gotgbot.RequestOpts{Timeout: 10 * time.Second},
	}})
	if err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	log.Printf("%s is running", bot.Username)
	<-ctx.Done()
	return updater.Stop()
}

func echo(b *gotgbot.Bot, ctx *ext.Context) error {
	_, err := ctx.EffectiveMessage.Reply(b, ctx.EffectiveMessage.Text, nil)
	return err
}
