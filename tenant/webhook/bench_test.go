package webhook_test

import (
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"testing"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/PaulSonOfLars/gotgbot/v2/ext"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/internal/hookbench"
)

// BenchmarkReceive delivers messages as Telegram does, from another process, by
// 40 connections over loopback, each waiting for its answer, to handlers that do
// nothing. An iteration is an update that was delivered and handled. On Linux
// the sender has a processor of its own, so on a machine with two what is
// measured is what a receiver does with one. The durable inboxes, in their
// modules, have 200 connections, ten for each bot, and all processors together with
// the sender, since they wait for a disk or a server:
//
//	go test ./tenant/webhook ./tenant/sqlitestore ./tenant/pgstore -run '^$' -bench Receive
func BenchmarkReceive(b *testing.B) {
	load := hookbench.Load{Connections: 40, Apart: true}
	b.Run("gotgbot-updater", func(b *testing.B) {
		var handled sync.WaitGroup
		d := ext.NewDispatcher(&ext.DispatcherOpts{Logger: slog.New(slog.DiscardHandler)})
		d.AddHandler(nop{func() { handled.Done() }})
		u := ext.NewUpdater(d, nil)
		for i := range hookbench.Tenants {
			bot := &gotgbot.Bot{Token: strconv.Itoa(i+1) + ":x"}
			require.NoError(b, u.AddWebhook(bot, fmt.Sprint("hook", i), &ext.AddWebhookOpts{SecretToken: "0123456789012345678901234567890123456789abc"}))
		}
		hookbench.Deliver(b, u.GetHandlerFunc("/"), &handled, load, func(i int) (string, string) {
			return fmt.Sprint("/hook", i), "0123456789012345678901234567890123456789abc"
		})
		u.StopAllBots()
		d.Stop()
	})
	b.Run("tgfleet", func(b *testing.B) {
		in, err := inbox.NewMemory(inbox.MemoryConfig{})
		require.NoError(b, err)
		hookbench.Receive(b, in, load)
	})
}

// nop is a handler of gotgbot's that does nothing.
type nop struct{ done func() }

func (nop) CheckUpdate(*gotgbot.Bot, *ext.Context) bool     { return true }
func (n nop) HandleUpdate(*gotgbot.Bot, *ext.Context) error { n.done(); return nil }
func (nop) Name() string                                    { return "nop" }

// TestDeliverer is the other process of BenchmarkReceive.
func TestDeliverer(t *testing.T) { hookbench.Deliverer(t) }
