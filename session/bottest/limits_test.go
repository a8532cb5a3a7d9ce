package bottest_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
)

// sendUntilRefused sends as fast as it can and returns how many were let
// through, and the refusal.
func sendUntilRefused(t *testing.T, most int, send func(i int) reply) (int, reply) {
	t.Helper()
	for i := range most {
		if got := send(i); !got.OK {
			return i, got
		}
	}
	return most, reply{}
}

func TestSendingLimits(t *testing.T) {
	tests := []struct {
		name    string
		limits  bottest.Limits
		group   bool
		many    bool // to many chats
		params  []any
		let     int
		wait    int // seconds, in retry_after
		refills int // how many more are let through after that wait
	}{
		{name: "a private chat gets a burst of 5, then 1 per second", let: 5, wait: 1, refills: 1},
		{name: "a group gets 20 per minute", group: true, let: 20, wait: 3, refills: 1},
		{name: "a bot sends 30 per second", many: true, let: 30, wait: 1, refills: 30},
		{name: "a paid broadcast sends 1000 per second", many: true, params: []any{"allow_paid_broadcast", true},
			let: 1000, wait: 1, refills: 1000},
		{name: "a limit can be changed", limits: bottest.Limits{PrivateBurst: 2}, let: 2, wait: 1, refills: 1},
		{name: "a limit can be off", limits: bottest.Limits{PrivatePerSecond: bottest.Off}, let: 30, wait: 1, refills: 30},
		{name: "all can be off", limits: bottest.NoLimits(), let: 2000},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			virtual(t, bottest.Config{Limits: test.limits, KeepCalls: -1}, func(t *testing.T, srv *bottest.Server) {
				bot := srv.NewBot("shop_bot")
				var chats []int64
				switch {
				case test.group:
					chats = append(chats, srv.NewGroup("team", bot).ID)
				default:
					for range map[bool]int{true: 2000, false: 1}[test.many] {
						ann := srv.NewUser("Ann")
						ann.Write(bot, "/start")
						chats = append(chats, ann.ID)
					}
				}
				sent := 0
				send := func(int) reply {
					sent++
					params := append([]any{"chat_id", chats[sent%len(chats)], "text", "hi"}, test.params...)
					return call(t, srv, bot.Token(), "sendMessage", params...)
				}
				let, refusal := sendUntilRefused(t, 2000, send)
				require.Equal(t, test.let, let)
				if test.wait == 0 {
					return
				}
				require.Equal(t, 429, refusal.Status)
				require.Equal(t, test.wait, refusal.Parameters.RetryAfter)
				require.Equal(t, fmt.Sprint(test.wait), refusal.Header.Get("Retry-After"))
				require.Equal(t, fmt.Sprintf("Too Many Requests: retry after %d", test.wait), refusal.Description)
				for range 100 {
					send(0) // what is refused consumes nothing
				}
				time.Sleep(time.Duration(test.wait) * time.Second)
				again, _ := sendUntilRefused(t, 2000, send)
				require.Equal(t, test.refills, again)
			})
		})
	}
}

func TestARefusalInOneLimitConsumesNothingOfAnother(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
		bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
		ann.Write(bot, "/start")
		for range 500 { // 5 pass, 495 are refused for the chat's sake
			call(t, srv, bot.Token(), "sendMessage", "chat_id", ann.ID, "text", "hi")
		}
		g := srv.NewGroup("team", bot)
		let, _ := sendUntilRefused(t, 100, func(int) reply {
			return call(t, srv, bot.Token(), "sendMessage", "chat_id", g.ID, "text", "hi")
		})
		require.Equal(t, 20, let)
	})
}

func TestAnAlbumIsLetInWholeAndPaidForInFull(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
		bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
		ann.Write(bot, "/start")
		media := `[{"type":"photo","media":"https://example.com/1.jpg"}`
		for i := 2; i <= 10; i++ {
			media += fmt.Sprintf(`,{"type":"photo","media":"https://example.com/%d.jpg"}`, i)
		}
		require.True(t, call(t, srv, bot.Token(), "sendMediaGroup", "chat_id", ann.ID, "media", media+"]").OK)
		got := call(t, srv, bot.Token(), "sendMessage", "chat_id", ann.ID, "text", "hi")
		require.Equal(t, 6, got.Parameters.RetryAfter)
	})
}

func TestColdStartIsLimitedPerSource(t *testing.T) {
	tests := []struct {
		name   string
		limits bottest.Limits
		let    int
	}{
		{"it is off unless asked for", bottest.Limits{}, 50},
		{"it is among the real limits", bottest.RealLimits(), 20},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			virtual(t, bottest.Config{Limits: test.limits}, func(t *testing.T, srv *bottest.Server) {
				var bots []*bottest.Bot
				let, refusal := sendUntilRefused(t, 50, func(i int) reply {
					bots = append(bots, srv.NewBot(fmt.Sprintf("shop%d_bot", i)))
					return call(t, srv, bots[i].Token(), "getMe")
				})
				require.Equal(t, test.let, let)
				require.True(t, call(t, srv, bots[0].Token(), "getMe").OK, "a loaded bot is not cold")
				if refusal.OK || let == 50 {
					return
				}
				require.Equal(t, 3, refusal.Parameters.RetryAfter)
				bots[0].Restart()
				require.Equal(t, 429, call(t, srv, bots[0].Token(), "getMe").Status)
			})
		})
	}
}

func TestTooManyRequestsInFlight(t *testing.T) {
	virtual(t, bottest.Config{Limits: bottest.Limits{InFlight: 3, BotPerSecond: bottest.Off}}, func(t *testing.T, srv *bottest.Server) {
		bot := srv.NewBot("shop_bot")
		srv.Fail(bottest.Fault{Method: "getMe", Times: 3, Do: bottest.Latency(time.Minute)})
		var slow sync.WaitGroup
		defer slow.Wait()
		for range 3 {
			slow.Go(func() { call(t, srv, bot.Token(), "getMe") })
		}
		synctest.Wait()
		var got reply
		require.Equal(t, 3*time.Second, elapsed(func() { got = call(t, srv, bot.Token(), "getMe") }), "it comes late")
		require.Equal(t, 60, got.Parameters.RetryAfter)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.True(t, call(t, srv, bot.Token(), "getMe").OK)
	})
}

func TestTooManyUnsentMessagesToAChat(t *testing.T) {
	limits := bottest.NoLimits()
	limits.UnsentPerChat = 2
	virtual(t, bottest.Config{Limits: limits}, func(t *testing.T, srv *bottest.Server) {
		bot, ann, ben := srv.NewBot("shop_bot"), srv.NewUser("Ann"), srv.NewUser("Ben")
		ann.Write(bot, "/start")
		ben.Write(bot, "/start")
		srv.Fail(bottest.Fault{Method: "sendMessage", Times: 2, Do: bottest.Latency(time.Minute)})
		var slow sync.WaitGroup
		defer slow.Wait()
		for range 2 {
			slow.Go(func() { call(t, srv, bot.Token(), "sendMessage", "chat_id", ann.ID, "text", "slow") })
		}
		synctest.Wait()
		require.Equal(t, 60, call(t, srv, bot.Token(), "sendMessage", "chat_id", ann.ID, "text", "x").Parameters.RetryAfter)
		require.True(t, call(t, srv, bot.Token(), "sendMessage", "chat_id", ben.ID, "text", "x").OK)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.True(t, call(t, srv, bot.Token(), "sendMessage", "chat_id", ann.ID, "text", "x").OK)
	})
}

func TestSetWebhookOncePerSecond(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
		token := srv.NewBot("shop_bot").Token()
		require.True(t, call(t, srv, token, "setWebhook", "url", "https://example.com/1").OK)
		require.Equal(t, 1, call(t, srv, token, "setWebhook", "url", "https://example.com/2").Parameters.RetryAfter)
		time.Sleep(time.Second)
		require.True(t, call(t, srv, token, "setWebhook", "url", "https://example.com/2").OK)
	})
}
