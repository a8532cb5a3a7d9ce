package bottest_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
)

func TestGetUpdatesWaitsForAnUpdate(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
		bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
		go func() {
			time.Sleep(20 * time.Second)
			ann.Write(bot, "hello")
		}()
		var got reply
		took := elapsed(func() { got = call(t, srv, bot.Token(), "getUpdates", "timeout", 30) })
		require.Equal(t, 20*time.Second, took)
		updates := got.updates(t)
		require.Len(t, updates, 1)
		require.Equal(t, "hello", updates[0].Message.Text)
		require.Equal(t, "private", updates[0].Message.Chat.Type)

		offset := updates[0].UpdateId + 1
		took = elapsed(func() { got = call(t, srv, bot.Token(), "getUpdates", "timeout", 500, "offset", offset) })
		require.Equal(t, 50*time.Second, took, "a poll lasts 50 s at most")
		require.Empty(t, got.updates(t))
		require.Zero(t, bot.Pending(), "the offset has confirmed the update")
	})
}

func TestGetUpdatesOffsets(t *testing.T) {
	virtual(t, bottest.Config{Limits: bottest.NoLimits()}, func(t *testing.T, srv *bottest.Server) {
		bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
		for i := range 5 {
			ann.Write(bot, fmt.Sprint(i))
		}
		poll := func(params ...any) []string {
			var texts []string
			for _, u := range call(t, srv, bot.Token(), "getUpdates", params...).updates(t) {
				texts = append(texts, u.Message.Text)
			}
			return texts
		}
		first := call(t, srv, bot.Token(), "getUpdates").updates(t)[0].UpdateId
		require.Equal(t, []string{"0", "1"}, poll("limit", 2))
		require.Equal(t, []string{"0", "1", "2", "3", "4"}, poll("limit", 1000), "nothing was confirmed")
		require.Equal(t, []string{"1", "2", "3", "4"}, poll("offset", first+1))
		require.Equal(t, []string{"3", "4"}, poll("offset", -2), "a negative offset forgets all but the last")
		require.Equal(t, []string{"3", "4"}, poll("offset", "nonsense"))
		require.Empty(t, poll("offset", first+100))
	})
}

func TestTheOlderPollerIsTerminated(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
		bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
		older := make(chan reply, 3)
		poll := func() { older <- call(t, srv, bot.Token(), "getUpdates", "timeout", 50) }
		go poll()
		synctest.Wait()
		go poll()
		got := <-older
		require.Equal(t, 409, got.Status)
		require.Equal(t, "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
			got.Description)

		go poll()
		require.Equal(t, 3*time.Second, elapsed(func() { got = <-older }), "a second 409 comes late")
		require.Equal(t, 409, got.Status)
		ann.Write(bot, "hi")
		require.Len(t, (<-older).updates(t), 1, "the newest poller has the update")
	})
}

func TestPollingTheSameOffsetAgainIsDelayed(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
		bot := srv.NewBot("shop_bot")
		token := bot.Token()
		poll := func(offset int) time.Duration {
			return elapsed(func() { call(t, srv, token, "getUpdates", "offset", offset) })
		}
		require.Zero(t, poll(7))
		require.Equal(t, 3*time.Second, poll(7))
		time.Sleep(3 * time.Second)
		require.Zero(t, poll(7))
		require.Zero(t, poll(8))
	})
}

func TestPollersAreToldWhenTheirTokenOrPlaceIsGone(t *testing.T) {
	tests := []struct {
		name string
		do   func(t *testing.T, srv *bottest.Server, bot *bottest.Bot)
		code int
		text string
	}{
		{"a rotated token", func(_ *testing.T, _ *bottest.Server, b *bottest.Bot) { b.RotateToken() }, 401, "Unauthorized"},
		{"a revoked token", func(_ *testing.T, _ *bottest.Server, b *bottest.Bot) { b.Revoke() }, 401, "Unauthorized"},
		{"a webhook", func(t *testing.T, srv *bottest.Server, b *bottest.Bot) {
			require.True(t, call(t, srv, b.Token(), "setWebhook", "url", "https://example.com/hook").OK)
		}, 409, "Conflict: terminated by setWebhook request"},
		{"a logout", func(t *testing.T, srv *bottest.Server, b *bottest.Bot) {
			require.True(t, call(t, srv, b.Token(), "logOut").OK)
		}, 400, "Logged out"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
				bot := srv.NewBot("shop_bot")
				token, got := bot.Token(), make(chan reply)
				go func() { got <- call(t, srv, token, "getUpdates", "timeout", 50) }()
				synctest.Wait()
				test.do(t, srv, bot)
				answer := <-got
				require.Equal(t, test.code, answer.Status)
				require.Equal(t, test.text, answer.Description)
			})
		})
	}
}

func TestGetUpdatesIsRefusedWhileAWebhookIsSet(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
		bot := srv.NewBot("shop_bot")
		require.True(t, call(t, srv, bot.Token(), "setWebhook", "url", "https://example.com/hook").OK)
		got := call(t, srv, bot.Token(), "getUpdates")
		require.Equal(t, 409, got.Status)
		require.Equal(t, "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete"+
			" the webhook first", got.Description)
		require.True(t, call(t, srv, bot.Token(), "deleteWebhook").OK)
		require.True(t, call(t, srv, bot.Token(), "getUpdates").OK)
	})
}

func TestAllowedUpdatesAreRemembered(t *testing.T) {
	virtual(t, bottest.Config{Limits: bottest.NoLimits()}, func(t *testing.T, srv *bottest.Server) {
		bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
		call(t, srv, bot.Token(), "getUpdates", "allowed_updates", `["callback_query","nonsense"]`)
		m := call(t, srv, bot.Token(), "getMe")
		require.True(t, m.OK)
		ann.Write(bot, "not wanted")
		require.Zero(t, bot.Pending())
		sent := call(t, srv, bot.Token(), "sendMessage", "chat_id", ann.ID, "text", "press").message(t)
		ann.Press(&sent, "yes")
		updates := call(t, srv, bot.Token(), "getUpdates").updates(t)
		require.Len(t, updates, 1)
		require.Equal(t, "yes", updates[0].CallbackQuery.Data)
		require.Equal(t, sent.MessageId, updates[0].CallbackQuery.Message.GetMessageId())
		call(t, srv, bot.Token(), "getUpdates", "allowed_updates", `[]`)
		ann.Write(bot, "wanted again")
		require.Equal(t, 2, bot.Pending())
	})
}

func TestUpdatesExpire(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
		bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
		ann.Write(bot, "kept 24 hours")
		sent := call(t, srv, bot.Token(), "sendMessage", "chat_id", ann.ID, "text", "press").message(t)
		ann.Press(&sent, "kept 150 seconds")
		ann.Ask(bot, "kept 30 seconds")
		require.Equal(t, 3, bot.Pending())
		time.Sleep(31 * time.Second)
		require.Equal(t, 2, bot.Pending())
		time.Sleep(120 * time.Second)
		require.Equal(t, 1, bot.Pending())
		time.Sleep(24*time.Hour - 152*time.Second)
		require.Equal(t, 1, bot.Pending())
		time.Sleep(2 * time.Second)
		require.Zero(t, bot.Pending())
	})
}

func TestUpdateIDsGrowAndStartAnewAfterAWeek(t *testing.T) {
	virtual(t, bottest.Config{Seed: 1}, func(t *testing.T, srv *bottest.Server) {
		bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
		next := func() int64 {
			ann.Write(bot, "hi")
			updates := call(t, srv, bot.Token(), "getUpdates", "offset", -1, "timeout", 0).updates(t)
			return updates[0].UpdateId
		}
		first := next()
		require.Equal(t, first+1, next())
		time.Sleep(6 * 24 * time.Hour)
		require.Equal(t, first+2, next())
		time.Sleep(7 * 24 * time.Hour)
		require.NotEqual(t, first+3, next())
	})
}
