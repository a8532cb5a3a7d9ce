package bottest_test

import (
	"strings"
	"testing"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
)

func TestATopicIsMadeWrittenToAndClosed(t *testing.T) {
	srv := newServer(t, bottest.Config{Limits: bottest.NoLimits()})
	bot, helper, ann := srv.NewBot("support_bot"), srv.NewBot("helper_bot"), srv.NewUser("Ann")
	b, h := client(t, srv, bot), client(t, srv, helper)
	group := srv.NewSupergroup("support", ann, bot, helper)

	_, err := b.CreateForumTopic(group.ID, "Order 7", nil)
	assert.ErrorContains(t, err, "the chat is not a forum")
	sent, err := b.SendMessage(group.ID, "hi", &gotgbot.SendMessageOpts{MessageThreadId: 99})
	require.NoError(t, err)
	assert.Zero(t, sent.MessageThreadId, "of no forum the server takes no notice of it")

	group.EnableTopics()
	_, err = b.CreateForumTopic(group.ID, "Order 7", nil)
	assert.ErrorContains(t, err, "not enough rights to create a topic")
	group.Promote(bot)
	topic, err := b.CreateForumTopic(group.ID, strings.Repeat("ö", 130), &gotgbot.CreateForumTopicOpts{IconColor: 0xFB6F5F})
	require.NoError(t, err)
	assert.Equal(t, strings.Repeat("ö", 128), topic.Name)
	assert.Equal(t, int64(0xFB6F5F), topic.IconColor)
	id := topic.MessageThreadId
	first := srv.Messages(group.ID)[len(srv.Messages(group.ID))-1]
	assert.Equal(t, id, first.MessageId, "its number is that of the message it began with")
	assert.NotNil(t, first.ForumTopicCreated)
	assert.True(t, first.Chat.IsForum)

	chat, err := b.GetChat(group.ID, nil)
	require.NoError(t, err)
	assert.True(t, chat.IsForum)
	me, err := b.GetChatMember(group.ID, bot.ID(), nil)
	require.NoError(t, err)
	assert.True(t, me.MergeChatMember().CanManageTopics)

	in := &gotgbot.SendMessageOpts{MessageThreadId: id}
	sent, err = b.SendMessage(group.ID, "How can I help?", in)
	require.NoError(t, err)
	assert.Equal(t, id, sent.MessageThreadId)
	assert.True(t, sent.IsTopicMessage)
	general, err := b.SendMessage(group.ID, "to all", nil)
	require.NoError(t, err)
	assert.Zero(t, general.MessageThreadId)
	assert.False(t, general.IsTopicMessage)
	for _, none := range []int64{id + 1000, 1} {
		_, err = b.SendMessage(group.ID, "lost", &gotgbot.SendMessageOpts{MessageThreadId: none})
		assert.ErrorContains(t, err, "message thread not found")
	}
	moved, err := b.ForwardMessage(group.ID, group.ID, sent.MessageId, nil)
	require.NoError(t, err)
	assert.False(t, moved.IsTopicMessage, "a copy goes where it is sent to, not where it comes from")

	wrote := ann.SendIn(group, gotgbot.Message{MessageThreadId: id, Text: "My tea is cold"})
	assert.True(t, wrote.IsTopicMessage)
	reply, err := b.SendMessage(group.ID, "Sorry", &gotgbot.SendMessageOpts{ReplyParameters: &gotgbot.ReplyParameters{MessageId: wrote.MessageId}})
	require.NoError(t, err)
	assert.Equal(t, id, reply.MessageThreadId, "an answer is where the question is")
	updates, err := b.GetUpdates(nil)
	require.NoError(t, err)
	got := updates[len(updates)-1].Message
	assert.Equal(t, id, got.MessageThreadId)
	assert.True(t, got.IsTopicMessage)
	assert.Panics(t, func() { ann.SendIn(group, gotgbot.Message{MessageThreadId: 5000, Text: "x"}) })

	_, err = h.CloseForumTopic(group.ID, id, nil)
	assert.ErrorContains(t, err, "not enough rights to close or open the topic")
	_, err = h.EditForumTopic(group.ID, id, &gotgbot.EditForumTopicOpts{Name: "mine"})
	assert.ErrorContains(t, err, "not enough rights to edit the topic")
	_, err = b.EditForumTopic(group.ID, id, &gotgbot.EditForumTopicOpts{Name: "Order 7, cold"})
	require.NoError(t, err)
	_, err = b.EditForumTopic(group.ID, id, &gotgbot.EditForumTopicOpts{Name: "Order 7, cold"})
	assert.ErrorContains(t, err, "TOPIC_NOT_MODIFIED")
	_, err = b.CloseForumTopic(group.ID, id, nil)
	require.NoError(t, err)
	_, err = b.CloseForumTopic(group.ID, id, nil)
	assert.ErrorContains(t, err, "TOPIC_NOT_MODIFIED")
	_, err = h.SendMessage(group.ID, "me too", in)
	assert.ErrorContains(t, err, "TOPIC_CLOSED")
	_, err = b.SendMessage(group.ID, "closed", in)
	require.NoError(t, err, "who manages it may")
	ben := srv.NewUser("Ben")
	assert.Panics(t, func() { ben.SendIn(group, gotgbot.Message{MessageThreadId: id, Text: "x"}) })
	_, err = b.ReopenForumTopic(group.ID, id, nil)
	require.NoError(t, err)
	_, err = h.SendMessage(group.ID, "me too", in)
	require.NoError(t, err)

	_, err = b.DeleteForumTopic(group.ID, id, nil)
	require.NoError(t, err)
	for _, m := range srv.Messages(group.ID) {
		assert.NotEqual(t, id, m.MessageThreadId, "its messages are gone")
	}
	_, err = b.SendMessage(group.ID, "still there?", in)
	assert.ErrorContains(t, err, "message thread not found")
	_, err = b.DeleteForumTopic(group.ID, id, nil)
	assert.ErrorContains(t, err, "TOPIC_ID_INVALID")
	_, err = b.DeleteForumTopic(group.ID, 0, nil)
	assert.ErrorContains(t, err, "invalid forum topic identifier specified")

	ann.Start(bot, "")
	_, err = b.SendMessage(ann.ID, "x", in)
	assert.ErrorContains(t, err, "message thread not found", "this bot's private chats have no topics")
	assert.Panics(t, func() { srv.NewGroup("basic", ann).EnableTopics() })
}
