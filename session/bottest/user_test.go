package bottest_test

import (
	"testing"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
)

func TestBlockAndUnblock(t *testing.T) {
	virtual(t, bottest.Config{Limits: bottest.NoLimits()}, func(t *testing.T, srv *bottest.Server) {
		bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
		ann.Start(bot, "deep")
		ann.Block(bot)
		ann.Block(bot)
		require.Equal(t, 403, call(t, srv, bot.Token(), "sendMessage", "chat_id", ann.ID, "text", "hi").Status)
		ann.Write(bot, "back again")
		require.Equal(t, 200, call(t, srv, bot.Token(), "sendMessage", "chat_id", ann.ID, "text", "hi").Status)
		ann.Deactivate()
		require.Equal(t, "Forbidden: user is deactivated",
			call(t, srv, bot.Token(), "sendMessage", "chat_id", ann.ID, "text", "hi").Description)

		updates := call(t, srv, bot.Token(), "getUpdates").updates(t)
		require.Len(t, updates, 4)
		require.Equal(t, "/start deep", updates[0].Message.Text)
		require.Equal(t, gotgbot.MessageEntity{Type: "bot_command", Length: 6}, updates[0].Message.Entities[0])
		require.Equal(t, "kicked", updates[1].MyChatMember.NewChatMember.MergeChatMember().Status)
		require.Equal(t, "member", updates[2].MyChatMember.NewChatMember.MergeChatMember().Status)
		require.Equal(t, "back again", updates[3].Message.Text)
	})
}

func TestButtonsAndTheirAnswers(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
		bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
		g := srv.NewGroup("team", ann, bot)
		m := call(t, srv, bot.Token(), "sendMessage", "chat_id", g.ID, "text", "press").message(t)
		answer := func(id string) reply {
			return call(t, srv, bot.Token(), "answerCallbackQuery", "callback_query_id", id, "text", "thanks")
		}
		first := ann.Press(&m, "a")
		require.True(t, answer(first.Id).OK)
		require.False(t, answer(first.Id).OK, "once only")
		second := ann.Press(&m, "b")
		time.Sleep(151 * time.Second)
		require.Equal(t, "Bad Request: query is too old and response timeout expired or query ID is invalid",
			answer(second.Id).Description)
		inline := ann.Ask(bot, "cats")
		require.True(t, call(t, srv, bot.Token(), "answerInlineQuery", "inline_query_id", inline.Id, "results", "[]").OK)
		require.Panics(t, func() { ann.Press(&gotgbot.Message{MessageId: 99, Chat: m.Chat}, "x") })
	})
}

func TestUsersEdit(t *testing.T) {
	srv := newServer(t, bottest.Config{})
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	other := srv.NewBot("other_bot")
	ann.Write(other, "helo") // the same id and text elsewhere
	g := srv.NewGroup("team", ann, bot)
	m := ann.Write(bot, "helo there")
	ann.EditMessage(m, "hello")
	ann.EditMessage(m, "hello #now")
	ann.EditMessage(ann.WriteIn(g, "helo"), "hello all")
	var edits []string
	for _, u := range call(t, srv, bot.Token(), "getUpdates").updates(t) {
		if u.EditedMessage != nil {
			edits = append(edits, u.EditedMessage.Text)
		}
	}
	require.Equal(t, []string{"hello", "hello #now", "hello all"}, edits)
	require.Equal(t, "hello #now", bot.Messages(ann.ID)[0].Text)
	require.Len(t, srv.Messages(ann.ID), 2, "both bots' chats")
	require.Panics(t, func() { ann.EditMessage(&gotgbot.Message{MessageId: 99}, "x") })
}

func TestGroupLife(t *testing.T) {
	virtual(t, bottest.Config{Limits: bottest.NoLimits()}, func(t *testing.T, srv *bottest.Server) {
		bot, ann, ben := srv.NewBot("shop_bot"), srv.NewUser("Ann"), srv.NewUser("Ben")
		watcher := srv.NewBot("watch_bot")
		g := srv.NewGroup("team", ann, watcher)
		g.Promote(watcher)
		g.Add(bot, ann)
		g.Add(bot, ann)
		ben.WriteIn(g, "hello")
		g.Kick(bot)
		ann.WriteIn(g, "it is gone")

		kinds := func(b *bottest.Bot) (all []string) {
			for _, u := range call(t, srv, b.Token(), "getUpdates").updates(t) {
				switch {
				case u.MyChatMember != nil:
					all = append(all, "I am "+u.MyChatMember.NewChatMember.MergeChatMember().Status)
				case u.Message != nil && len(u.Message.NewChatMembers) > 0:
					all = append(all, u.Message.NewChatMembers[0].FirstName+" joined")
				case u.Message != nil && u.Message.LeftChatMember != nil:
					all = append(all, u.Message.LeftChatMember.FirstName+" left")
				case u.Message != nil:
					all = append(all, u.Message.From.FirstName+": "+u.Message.Text)
				}
			}
			return all
		}
		require.Equal(t, []string{"I am member", "shop_bot joined", "Ben joined", "Ben: hello", "I am kicked"}, kinds(bot))
		require.Equal(t, []string{"I am member", "I am administrator", "shop_bot joined", "Ben joined", "Ben: hello",
			"shop_bot left", "Ann: it is gone"}, kinds(watcher))
	})
}

func TestBotsLeave(t *testing.T) {
	srv := newServer(t, bottest.Config{})
	bot := srv.NewBot("shop_bot")
	g := srv.NewSupergroup("team", bot)
	require.True(t, call(t, srv, bot.Token(), "leaveChat", "chat_id", g.ID).OK)
	require.Equal(t, "Forbidden: bot is not a member of the supergroup chat",
		call(t, srv, bot.Token(), "sendMessage", "chat_id", g.ID, "text", "hi").Description)
	require.Equal(t, 403, call(t, srv, bot.Token(), "getChat", "chat_id", g.ID).Status)
}

func TestMessagesOfAllBotsAreInOrder(t *testing.T) {
	srv := newServer(t, bottest.Config{})
	ann := srv.NewUser("Ann")
	var want, got []string
	bots := []*bottest.Bot{srv.NewBot("a_bot"), srv.NewBot("b_bot"), srv.NewBot("c_bot")}
	for i := range 30 {
		want = append(want, itoa(int64(i)))
		ann.Write(bots[i%3], itoa(int64(i)))
	}
	for _, m := range srv.Messages(ann.ID) {
		got = append(got, m.Text)
	}
	require.Equal(t, want, got)
}

func TestPrivacyMode(t *testing.T) {
	srv := newServer(t, bottest.Config{})
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	bot.SetPrivacy(true)
	g := srv.NewGroup("team", ann, bot)
	m := call(t, srv, bot.Token(), "sendMessage", "chat_id", g.ID, "text", "hi").message(t)
	for _, text := range []string{"idle talk", "/help", "/help@other_bot", "/help@shop_bot", "hey @shop_bot", "and/or"} {
		ann.WriteIn(g, text)
	}
	ann.SendIn(g, gotgbot.Message{Text: "a reply", ReplyToMessage: &m})
	var seen []string
	for _, u := range call(t, srv, bot.Token(), "getUpdates").updates(t) {
		if u.Message != nil {
			seen = append(seen, u.Message.Text)
		}
	}
	require.Equal(t, []string{"/help", "/help@shop_bot", "hey @shop_bot", "a reply"}, seen)
}

func TestChannels(t *testing.T) {
	srv := newServer(t, bottest.Config{})
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	news := srv.NewChannel("daily_news", ann, bot)
	ann.WriteIn(news, "breaking")
	updates := call(t, srv, bot.Token(), "getUpdates").updates(t)
	require.Len(t, updates, 2)
	require.Equal(t, "breaking", updates[1].ChannelPost.Text)
	require.Nil(t, updates[1].ChannelPost.From)
	m := call(t, srv, bot.Token(), "sendMessage", "chat_id", "@daily_news", "text", "more").message(t)
	require.Equal(t, news.ID, m.SenderChat.Id)
	ann.Press(&m, "like")
}

func TestMessagesAreBounded(t *testing.T) {
	srv := newServer(t, bottest.Config{KeepMessages: 3})
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	for range 10 {
		ann.Write(bot, "hi")
	}
	all := srv.Messages(ann.ID)
	require.Len(t, all, 3)
	require.EqualValues(t, 8, all[0].MessageId)
	require.Empty(t, srv.Messages(-1))
	require.Empty(t, srv.Messages(1))
}

func TestPushSendsAnyUpdate(t *testing.T) {
	srv := newServer(t, bottest.Config{})
	bot := srv.NewBot("shop_bot")
	require.NoError(t, bot.Push("poll", gotgbot.Poll{Id: "7", Question: "why?"}))
	require.Error(t, bot.Push("poll", func() {}))
	require.Equal(t, "why?", call(t, srv, bot.Token(), "getUpdates").updates(t)[0].Poll.Question)
}
