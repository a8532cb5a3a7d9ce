package webhook_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/PaulSonOfLars/gotgbot/v2/ext"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// BenchmarkReceive delivers messages as Telegram does, by 40 connections over
// loopback, each waiting for its answer, to handlers that do nothing. An
// iteration is an update that was delivered and handled.
func BenchmarkReceive(b *testing.B) {
	b.Run("gotgbot-updater", func(b *testing.B) {
		var handled sync.WaitGroup
		d := ext.NewDispatcher(&ext.DispatcherOpts{Logger: slog.New(slog.DiscardHandler)})
		d.AddHandler(nop{func() { handled.Done() }})
		u := ext.NewUpdater(d, nil)
		for i := range benchTenants {
			bot := &gotgbot.Bot{Token: strconv.Itoa(i+1) + ":x"}
			require.NoError(b, u.AddWebhook(bot, fmt.Sprint("hook", i), &ext.AddWebhookOpts{SecretToken: "0123456789012345678901234567890123456789abc"}))
		}
		server := httptest.NewServer(u.GetHandlerFunc("/"))
		defer server.Close()
		deliver(b, server, &handled, func(i int) (string, string) {
			return fmt.Sprint("/hook", i), "0123456789012345678901234567890123456789abc"
		})
		u.StopAllBots()
		d.Stop()
	})
	b.Run("tgfleet", func(b *testing.B) {
		var handled sync.WaitGroup
		in, err := inbox.NewMemory(inbox.MemoryConfig{})
		require.NoError(b, err)
		workers, err := inbox.NewWorkers(in, lend{}, inbox.HandlerFunc(func(context.Context, *tenant.Tenant, inbox.Update) error {
			handled.Done()
			return nil
		}), inbox.WorkersConfig{})
		require.NoError(b, err)
		require.NoError(b, workers.Start(context.Background()))
		keys, err := webhook.NewKeys(webhook.Key{Master: bytes.Repeat([]byte{7}, 32), Generation: 1})
		require.NoError(b, err)
		receiver, err := webhook.NewReceiver(in, keys, webhook.Config{})
		require.NoError(b, err)
		server := httptest.NewServer(receiver)
		defer server.Close()
		deliver(b, server, &handled, func(i int) (string, string) {
			id := fmt.Sprint("tenant", i)
			return "/webhook/" + keys.Path(id), keys.Secret(id)
		})
		require.NoError(b, workers.Stop(context.Background()))
	})
}

const (
	benchTenants     = 20
	benchConnections = 40
)

// lend lends tenants that are open already.
type lend struct{}

func (lend) Do(ctx context.Context, id string, f func(context.Context, *tenant.Tenant) error) error {
	return f(ctx, &opened)
}

var opened tenant.Tenant

// nop is a handler of gotgbot's that does nothing.
type nop struct{ done func() }

func (nop) CheckUpdate(*gotgbot.Bot, *ext.Context) bool     { return true }
func (n nop) HandleUpdate(*gotgbot.Bot, *ext.Context) error { n.done(); return nil }
func (nop) Name() string                                    { return "nop" }

// deliver sends b.N updates and waits until all are handled.
func deliver(b *testing.B, server *httptest.Server, handled *sync.WaitGroup, target func(tenant int) (path, secret string)) {
	b.Helper()
	var next atomic.Int64
	var clients sync.WaitGroup
	heads := make([]string, benchTenants)
	for i := range heads {
		path, secret := target(i)
		heads[i] = "POST " + path + " HTTP/1.1\r\nHost: hooks.example.com\r\nX-Telegram-Bot-Api-Secret-Token: " + secret +
			"\r\nContent-Type: application/json\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nContent-Length: "
	}
	texts := updateTexts()
	handled.Add(b.N)
	before := cpuTime(b)
	b.ResetTimer()
	for range benchConnections {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		require.NoError(b, err)
		clients.Go(func() {
			defer conn.Close()
			answers := bufio.NewReader(conn)
			var out, body []byte
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					return
				}
				body = strconv.AppendInt(append(body[:0], `{"update_id":`...), 100_000_000+n, 10)
				body = append(body, texts[n%1000]...)
				out = append(out[:0], heads[n%benchTenants]...)
				out = strconv.AppendInt(out, int64(len(body)), 10)
				out = append(append(out, "\r\n\r\n"...), body...)
				if _, err := conn.Write(out); err != nil {
					panic(err)
				}
				if err := answer200(answers); err != nil {
					panic(err)
				}
			}
		})
	}
	clients.Wait()
	handled.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op") // also the client's
}

// cpuTime is what the process has used, which a busy machine changes less than
// it does the time that passes.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// answer200 reads an answer without a body.
func answer200(r *bufio.Reader) error {
	for line := 0; ; line++ {
		text, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if line == 0 && !bytes.HasPrefix(text, []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("answer is %q", text)
		}
		if bytes.HasPrefix(text, []byte("Content-Length:")) && !bytes.Equal(bytes.TrimSpace(text), []byte("Content-Length: 0")) {
			return fmt.Errorf("answer has a body")
		}
		if len(text) <= 2 {
			return nil
		}
	}
}

// updateTexts are what follows the update_id of what bots get most: by turns a
// message, which is a reply with some formatting, and a press of a button under
// a message with six, in one of 1000 chats. They are made ahead, since what the
// client takes is taken from the server.
var updateTexts = sync.OnceValue(func() (texts []string) {
	for n := range 1000 {
		user := strconv.Itoa(500_000_000 + n)
		ann := `{"id":` + user + `,"is_bot":false,"first_name":"Ann","last_name":"Example","username":"ann_example","language_code":"en"}`
		shop := `{"id":77,"is_bot":true,"first_name":"Shop","username":"shop_bot"}`
		chat := `{"id":` + user + `,"first_name":"Ann","last_name":"Example","username":"ann_example","type":"private"}`
		if n%2 == 0 {
			texts = append(texts, `,"message":{"message_id":1043,"from":`+ann+`,"chat":`+chat+`,"date":1750000000,"reply_to_message":{"message_id":1042,"from":`+shop+
				`,"chat":`+chat+`,"date":1749999990,"text":"What would you like to order today?"},"text":"/order two pizzas, please: https://example.com/menu",`+
				`"entities":[{"offset":0,"length":6,"type":"bot_command"},{"offset":27,"length":24,"type":"url"}],"link_preview_options":{"is_disabled":true}}}`)
			continue
		}
		texts = append(texts, `,"callback_query":{"id":"2147483648000000001","from":`+ann+`,"message":{"message_id":1044,"from":`+shop+`,"chat":`+chat+
			`,"date":1749999995,"text":"Which pizza shall it be?","entities":[{"offset":6,"length":5,"type":"bold"}],"reply_markup":{"inline_keyboard":[`+
			`[{"text":"Margherita","callback_data":"pizza:1"},{"text":"Marinara","callback_data":"pizza:2"}],`+
			`[{"text":"Quattro Formaggi","callback_data":"pizza:3"},{"text":"Diavola","callback_data":"pizza:4"}],`+
			`[{"text":"Back","callback_data":"menu"},{"text":"Menu","url":"https://example.com/menu"}]]}},`+
			`"chat_instance":"-1234567890123456789","data":"pizza:3"}}`)
	}
	return texts
})
