package bottest

import (
	"github.com/PaulSonOfLars/gotgbot/v2"
)

// topic is one of a forum. Its number is that of the message it began with.
type topic struct {
	name    string
	creator int64
	closed  bool
}

// maxTopicName is how long a topic's name may be (TDLib,
// MAX_FORUM_TOPIC_TITLE_LENGTH); what is longer is cut.
const maxTopicName = 128

// generalTopic is every forum's first topic, whose messages have no thread.
const generalTopic = 1

// EnableTopics makes a forum of a supergroup: [createForumTopic] works in it, and
// messages may name a topic in message_thread_id. A user writes to one by
// [User.SendIn] with MessageThreadId. It panics for what is no supergroup.
//
// [createForumTopic]: https://core.telegram.org/bots/api#createforumtopic
func (g *Group) EnableTopics() {
	c := g.current()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.info.Type != "supergroup" {
		panic("bottest: EnableTopics: a " + c.info.Type + " can't be a forum")
	}
	c.info.IsForum = true
	if c.topics == nil {
		c.topics = make(map[int64]*topic)
	}
}

// thread puts a message into the topic that it names, or into that of the
// message it replies to. The caller holds mu.
func (c *chat) thread(m *gotgbot.Message, by int64) *apiError {
	id := m.MessageThreadId
	m.MessageThreadId, m.IsTopicMessage = 0, false
	if c.info.Type != "private" && !c.info.IsForum {
		return nil // the server takes no notice of it
	}
	if r := m.ReplyToMessage; id == 0 && r != nil && r.IsTopicMessage {
		id = r.MessageThreadId
	}
	if id == 0 {
		return nil
	}
	t := c.topics[id]
	switch {
	case t == nil:
		return badRequest("message thread not found")
	case t.closed && !c.mayManage(t, by):
		return badRequest("TOPIC_CLOSED")
	}
	m.MessageThreadId, m.IsTopicMessage = id, true
	return nil
}

// mayManage reports whether somebody may close, reopen and rename a topic. The
// caller holds mu.
func (c *chat) mayManage(t *topic, id int64) bool {
	m := c.members[id]
	return t.creator == id || m != nil && (m.status == administrator || m.status == creator)
}

func (q *request) inForum(do func(*chat) (any, *apiError)) (any, *apiError) {
	return q.inChat(toWrite, func(c *chat) (any, *apiError) {
		if !c.info.IsForum {
			return nil, badRequest("the chat is not a forum")
		}
		return do(c)
	})
}

// inTopic runs do in the topic that the call names, which the bot may manage; if
// not, the server says what it can't do.
func (q *request) inTopic(what string, do func(*chat, *topic, int64) (any, *apiError)) (any, *apiError) {
	id := q.params.id("message_thread_id")
	return q.inForum(func(c *chat) (any, *apiError) {
		t := c.topics[id]
		switch {
		case id <= 0:
			return nil, badRequest("invalid forum topic identifier specified")
		case t == nil:
			return nil, badRequest("TOPIC_ID_INVALID")
		case !c.mayManage(t, q.bot.id):
			return nil, badRequest("not enough rights to " + what + " the topic")
		}
		return do(c, t, id)
	})
}

// topicName is a name as the server keeps it.
func topicName(text string) string {
	if runes := []rune(text); len(runes) > maxTopicName {
		return string(runes[:maxTopicName])
	}
	return text
}

// topicColors are what an icon may have (Bot API, createForumTopic).
var topicColors = []int64{0x6FB9F0, 0xFFD67E, 0xCB86DB, 0x8EEE98, 0xFF93B2, 0xFB6F5F}

func createForumTopic(q *request) (any, *apiError) {
	name := topicName(q.params.get("name"))
	return q.inForum(func(c *chat) (any, *apiError) {
		m := c.members[q.bot.id]
		switch {
		case m == nil || m.status != administrator:
			return nil, badRequest("not enough rights to create a topic")
		case name == "":
			return nil, badRequest("title must be non-empty")
		}
		made := gotgbot.ForumTopic{Name: name, IconColor: topicColors[0], IconCustomEmojiId: q.params.get("icon_custom_emoji_id")}
		for _, color := range topicColors {
			if color == q.params.id("icon_color") {
				made.IconColor = color
			}
		}
		me := q.bot.profile()
		id := c.history.last + 1
		if id == generalTopic {
			id = c.history.next() + 1
		}
		c.topics[id] = &topic{name: name, creator: q.bot.id}
		c.post(&gotgbot.Message{
			From: &me, MessageThreadId: id, IsTopicMessage: true,
			ForumTopicCreated: &gotgbot.ForumTopicCreated{Name: name, IconColor: made.IconColor, IconCustomEmojiId: made.IconCustomEmojiId},
		}, q.bot)
		made.MessageThreadId = id
		return made, nil
	})
}

func editForumTopic(q *request) (any, *apiError) {
	name := topicName(q.params.get("name"))
	icon, changesIcon := q.params["icon_custom_emoji_id"]
	return q.inTopic("edit", func(c *chat, t *topic, id int64) (any, *apiError) {
		switch {
		case name == "" && !changesIcon:
			return true, nil
		case name == t.name && !changesIcon:
			return nil, badRequest("TOPIC_NOT_MODIFIED")
		}
		edited := &gotgbot.ForumTopicEdited{IconCustomEmojiId: icon}
		if name != "" && name != t.name {
			t.name, edited.Name = name, name
		}
		q.postIn(c, id, gotgbot.Message{ForumTopicEdited: edited})
		return true, nil
	})
}

// postIn posts a service message of the bot's into a topic.
func (q *request) postIn(c *chat, id int64, m gotgbot.Message) {
	me := q.bot.profile()
	m.From, m.MessageThreadId, m.IsTopicMessage = &me, id, true
	c.post(&m, q.bot)
}

// setClosed closes or reopens a topic.
func setClosed(closed bool) func(*request) (any, *apiError) {
	return func(q *request) (any, *apiError) {
		return q.inTopic("close or open", func(c *chat, t *topic, id int64) (any, *apiError) {
			if t.closed == closed {
				return nil, badRequest("TOPIC_NOT_MODIFIED")
			}
			t.closed = closed
			if closed {
				q.postIn(c, id, gotgbot.Message{ForumTopicClosed: &gotgbot.ForumTopicClosed{}})
			} else {
				q.postIn(c, id, gotgbot.Message{ForumTopicReopened: &gotgbot.ForumTopicReopened{}})
			}
			return true, nil
		})
	}
}

// deleteForumTopic deletes a topic with its messages.
func deleteForumTopic(q *request) (any, *apiError) {
	return q.inTopic("delete", func(c *chat, _ *topic, id int64) (any, *apiError) {
		if m := c.members[q.bot.id]; m == nil || m.status != administrator {
			return nil, badRequest("not enough rights to delete the topic")
		}
		delete(c.topics, id)
		for _, e := range append([]entry(nil), c.history.entries...) {
			if m := e.message(); m.IsTopicMessage && m.MessageThreadId == id {
				c.history.remove(e.id)
			}
		}
		return true, nil
	})
}
