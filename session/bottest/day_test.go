package bottest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
)

// TestADayOfAnEchoBot lets a polling bot live through a day with a user who
// writes every ten minutes, two outages and a token that leaks at noon.
func TestADayOfAnEchoBot(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
		bot, ann := srv.NewBot("echo_bot"), srv.NewUser("Ann")
		b := client(t, srv, bot)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() {
			offset := int64(0)
			for ctx.Err() == nil {
				updates, err := b.GetUpdatesWithContext(ctx, &gotgbot.GetUpdatesOpts{Timeout: 50, Offset: offset})
				if err != nil {
					time.Sleep(5 * time.Second)
					b.Token = bot.Token()
					continue
				}
				for _, u := range updates {
					offset = u.UpdateId + 1
					_, _ = b.SendMessageWithContext(ctx, u.Message.Chat.Id, "echo "+u.Message.Text, nil)
				}
			}
		})
		start := time.Now()
		for i := range 24 * 6 {
			switch i {
			case 20:
				require.NoError(t, srv.Refuse(true))
			case 23:
				require.NoError(t, srv.Refuse(false))
			case 72:
				bot.RotateToken()
			case 100:
				defer srv.Fail(bottest.Fault{Method: "getUpdates", Times: 200, Do: bottest.HTML502()})()
			}
			ann.Write(bot, fmt.Sprint(i))
			time.Sleep(10 * time.Minute)
		}
		require.Equal(t, 24*time.Hour, time.Since(start))
		said := map[string]bool{}
		for _, m := range srv.Messages(ann.ID) {
			said[m.Text] = true
		}
		for i := range 24 * 6 {
			require.True(t, said[fmt.Sprint("echo ", i)], i)
		}
		require.Greater(t, srv.CallCount("getUpdates"), 24*60)
	})
}

// TestWorksAsABackendForManyBots has a hundred bots talk at once.
func TestWorksAsABackendForManyBots(t *testing.T) {
	srv := newServer(t, bottest.Config{})
	ann := srv.NewUser("Ann")
	var wg sync.WaitGroup
	for i := range 100 {
		bot := srv.NewBot(fmt.Sprintf("shop%d_bot", i))
		ann.Write(bot, "/start")
		wg.Go(func() {
			for range 5 {
				if got := call(t, srv, bot.Token(), "sendMessage", "chat_id", ann.ID, "text", "hi"); !got.OK {
					t.Error(got.Description)
				}
			}
		})
	}
	wg.Wait()
	require.Len(t, srv.Messages(ann.ID), 600)
	require.Equal(t, 500, srv.CallCount("sendMessage"))
}

func BenchmarkSendMessage(b *testing.B) {
	srv := newServer(b, bottest.Config{Limits: bottest.NoLimits(), KeepMessages: 100, KeepCalls: -1})
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	ann.Write(bot, "/start")
	url := "http://x/bot" + bot.Token() + "/sendMessage?chat_id=" + itoa(ann.ID) + "&text=hi"
	h := srv.Handler()
	b.Run("handler", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r, _ := http.NewRequest("POST", url, http.NoBody)
			h.ServeHTTP(discard{http.Header{}}, r)
		}
	})
	b.Run("in-memory", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r, _ := http.NewRequest("POST", url, http.NoBody)
			resp, err := srv.Transport().RoundTrip(r)
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body) // or the connection is not kept
			resp.Body.Close()
		}
	})
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
