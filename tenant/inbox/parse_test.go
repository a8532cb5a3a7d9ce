package inbox_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func TestAnUpdateIsInItsChatsOrder(t *testing.T) {
	user, chat := gotgbot.User{Id: 7, FirstName: "Ann"}, gotgbot.Chat{Id: -100123, Type: "supergroup"}
	msg := &gotgbot.Message{MessageId: 1, Date: 1, Chat: chat, From: &user, Text: `{"chat":{"id":1}} "`, ReplyToMessage: &gotgbot.Message{
		MessageId: 2, Date: 1, Chat: gotgbot.Chat{Id: 99, Type: "private"}, Text: "x"}}
	for name, test := range map[string]struct {
		update gotgbot.Update
		kind   string
		chat   string
		keep   time.Duration
	}{
		"a message in its chat's":                   {gotgbot.Update{Message: msg}, "message", "-100123", 0},
		"an edit in its chat's":                     {gotgbot.Update{EditedMessage: msg}, "edited_message", "-100123", 0},
		"a channel post in its channel's":           {gotgbot.Update{ChannelPost: msg}, "channel_post", "-100123", 0},
		"a business message in its chat's":          {gotgbot.Update{BusinessMessage: msg}, "business_message", "-100123", 0},
		"deleted business messages in their chat's": {gotgbot.Update{DeletedBusinessMessages: &gotgbot.BusinessMessagesDeleted{BusinessConnectionId: "b", Chat: chat}}, "deleted_business_messages", "-100123", 0},
		"a guest message in its chat's":             {gotgbot.Update{GuestMessage: msg}, "guest_message", "-100123", 0},
		"a reaction in its chat's":                  {gotgbot.Update{MessageReaction: &gotgbot.MessageReactionUpdated{Chat: chat, User: &user}}, "message_reaction", "-100123", 0},
		"a reaction count in its chat's":            {gotgbot.Update{MessageReactionCount: &gotgbot.MessageReactionCountUpdated{Chat: chat}}, "message_reaction_count", "-100123", 0},
		"a member's change in its chat's":           {gotgbot.Update{ChatMember: &gotgbot.ChatMemberUpdated{Chat: chat, From: user, OldChatMember: gotgbot.ChatMemberLeft{User: user}, NewChatMember: gotgbot.ChatMemberMember{User: user}}}, "chat_member", "-100123", 0},
		"the bot's own change in its chat's":        {gotgbot.Update{MyChatMember: &gotgbot.ChatMemberUpdated{Chat: chat, From: user, OldChatMember: gotgbot.ChatMemberLeft{User: user}, NewChatMember: gotgbot.ChatMemberMember{User: user}}}, "my_chat_member", "-100123", 0},
		"a join request in its chat's":              {gotgbot.Update{ChatJoinRequest: &gotgbot.ChatJoinRequest{Chat: chat, From: user}}, "chat_join_request", "-100123", 0},
		"a boost in its chat's":                     {gotgbot.Update{ChatBoost: &gotgbot.ChatBoostUpdated{Chat: chat, Boost: gotgbot.ChatBoost{BoostId: "b", Source: gotgbot.ChatBoostSourcePremium{User: user}}}}, "chat_boost", "-100123", 0},
		"a callback query in its message's chat's":  {gotgbot.Update{CallbackQuery: &gotgbot.CallbackQuery{Id: "1", From: user, Message: *msg}}, "callback_query", "-100123", 150 * time.Second},
		"one of an inaccessible message too":        {gotgbot.Update{CallbackQuery: &gotgbot.CallbackQuery{Id: "1", From: user, Message: gotgbot.InaccessibleMessage{Chat: chat, MessageId: 4}}}, "callback_query", "-100123", 150 * time.Second},
		"one of an inline message in its user's":    {gotgbot.Update{CallbackQuery: &gotgbot.CallbackQuery{Id: "1", From: user, InlineMessageId: "x"}}, "callback_query", "7", 150 * time.Second},
		"an inline query in its user's":             {gotgbot.Update{InlineQuery: &gotgbot.InlineQuery{Id: "55", From: user}}, "inline_query", "7", 30 * time.Second},
		"a chosen result in its user's":             {gotgbot.Update{ChosenInlineResult: &gotgbot.ChosenInlineResult{ResultId: "1", From: user}}, "chosen_inline_result", "7", 0},
		"a shipping query in its user's":            {gotgbot.Update{ShippingQuery: &gotgbot.ShippingQuery{Id: "1", From: user}}, "shipping_query", "7", 150 * time.Second},
		"a pre-checkout query in its user's own":    {gotgbot.Update{PreCheckoutQuery: &gotgbot.PreCheckoutQuery{Id: "1", From: user}}, "pre_checkout_query", "checkout:7", 10 * time.Second},
		"bought media in its user's":                {gotgbot.Update{PurchasedPaidMedia: &gotgbot.PaidMediaPurchased{From: user}}, "purchased_paid_media", "7", 0},
		"a poll's state in the poll's":              {gotgbot.Update{Poll: &gotgbot.Poll{Id: "5001", Type: "regular"}}, "poll", "poll:5001", 0},
		"a poll's answer in its user's":             {gotgbot.Update{PollAnswer: &gotgbot.PollAnswer{PollId: "5001", User: &user}}, "poll_answer", "7", 0},
		"a chat's answer to a poll in the chat's":   {gotgbot.Update{PollAnswer: &gotgbot.PollAnswer{PollId: "5001", User: &user, VoterChat: &chat}}, "poll_answer", "-100123", 0},
		"a business connection in its user's":       {gotgbot.Update{BusinessConnection: &gotgbot.BusinessConnection{Id: "b", User: user, UserChatId: 7}}, "business_connection", "7", 0},
		"a managed bot in its owner's":              {gotgbot.Update{ManagedBot: &gotgbot.ManagedBotUpdated{User: user, Bot: gotgbot.User{Id: 1000}}}, "managed_bot", "7", 0},
		"a subscription in its user's":              {gotgbot.Update{Subscription: &gotgbot.BotSubscriptionUpdated{User: user}}, "subscription", "7", 0},
	} {
		t.Run(name, func(t *testing.T) {
			test.update.UpdateId = 42
			raw, err := json.Marshal(test.update)
			require.NoError(t, err)
			u, err := inbox.Parse("acme", raw, noon)
			require.NoError(t, err)
			assert.Equal(t, int64(42), u.ID)
			assert.Equal(t, test.kind, u.Kind)
			assert.Equal(t, test.chat, u.Chat)
			assert.Equal(t, noon, u.ReceivedAt)
			assert.NoError(t, u.Validate())
			if test.keep == 0 {
				assert.True(t, u.ExpiresAt.IsZero())
			} else {
				assert.Equal(t, noon.Add(test.keep), u.ExpiresAt)
			}
		})
	}
}

func TestAKindThatIsNotKnownYetIsReadByTheSameRules(t *testing.T) {
	for raw, want := range map[string][2]string{
		`{"update_id":1,"story_reply":{"chat":{"id":5},"from":{"id":6}}}`:                    {"story_reply", "5"},
		`{"update_id":1,"story_reply":{"from":{"id":6},"chat":{"id":5}}}`:                    {"story_reply", "5"},
		`{"story_reply":{"user":{"id":6}},"update_id":1}`:                                    {"story_reply", "6"},
		`{"update_id":1,"story_reply":{"text":"hello"}}`:                                     {"story_reply", "kind:story_reply"},
		`{"update_id":1,"note":{"chat":{"id":5}},"message":{"chat":{"id":8}}}`:               {"message", "8"},
		`{"update_id":1,"message":{"chat":{"id":8}},"note":{"chat":{"id":5}}}`:               {"message", "8"},
		`{"update_id":1,"version":2,"list":[{"chat":{"id":5}}],"message":{"chat":{"id":8}}}`: {"message", "8"},
		`{"update_id":1,"Bad Kind\u0000":{"chat":{"id":8}}}`:                                 {"unknown", "8"},
		`{"update_id":1}`:                                        {"unknown", "kind:unknown"},
		`{"update_id":1,"message":null}`:                         {"unknown", "kind:unknown"},
		`{"update_id":1,"message":{"chat":{"id":1.5}}}`:          {"message", "kind:message"},
		`{"update_id":1,"message":{"chat":null,"id":7}}`:         {"message", "kind:message"},
		`{"update_id":1,"poll":{"id":"a b"}}`:                    {"poll", "kind:poll"},
		`{"update_id":1,"mess\u0061ge":{"ch\u0061t":{"id":-5}}}`: {"message", "-5"},
	} {
		u, err := inbox.Parse("acme", []byte(raw), noon)
		require.NoError(t, err, raw)
		assert.Equal(t, want, [2]string{u.Kind, u.Chat}, raw)
		assert.NoError(t, u.Validate(), raw)
	}
}

func TestWhatIsNoUpdateIsRefusedAndNotQuoted(t *testing.T) {
	for _, raw := range []string{
		"", " ", "null", "[]", "{}", "{", "secret", `{"update_id":1} {}`, `{"update_id":1,}`, `{"update_id":"1"}`,
		`{"update_id":-1}`, `{"update_id":0}`, `{"update_id":1.0}`, `{"update_id":1e3}`, `{"update_id":9223372036854775808}`,
		`{"update_id":1,"update_id":2}`, `{"message":{"chat":{"id":1}}}`, `{"update_id":01}`, `{"update_id":1,"a":tru}`,
		`{"update_id":1,"a":"` + "\x01" + `"}`, `{"update_id":1,"a":"\x"}`, `{"update_id":1,"a":"\u12g4"}`, `{"update_id":1,"secret":{"a":}}`,
		`{"update_id":1,"a":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`,
		`{"update_id":1,"a":` + strings.Repeat(`{"a":`, 100_000),
	} {
		_, err := inbox.Parse("acme", []byte(raw), noon)
		require.ErrorIs(t, err, errors.BadRequest, "%.60s", raw)
		assert.NotContains(t, err.Error(), "secret")
	}
}

func TestAnUpdatePrintsWithoutItsContent(t *testing.T) {
	u, err := inbox.Parse("acme", []byte(`{"update_id":9,"message":{"chat":{"id":5},"text":"my pin is 1234"}}`), noon)
	require.NoError(t, err)
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		text := fmt.Sprintf(format, u)
		assert.Equal(t, `message 9 of tenant "acme"`, text)
	}
	assert.NotContains(t, u.LogValue().String(), "1234")
	u.Raw = json.RawMessage(`{"update_id":"my pin is 1234"}`)
	_, err = u.Decode()
	require.ErrorIs(t, err, errors.BadReply)
	assert.NotContains(t, err.Error(), "1234")
}

func TestKindsAreThoseOfGotgbot(t *testing.T) {
	kinds := inbox.Kinds()
	assert.Len(t, kinds, 26)
	for _, kind := range kinds {
		var u gotgbot.Update
		dec := json.NewDecoder(strings.NewReader(`{"` + kind + `":null}`))
		dec.DisallowUnknownFields()
		assert.NoError(t, dec.Decode(&u), kind)
	}
}

// FuzzParse holds Parse to encoding/json: it takes what that takes, and finds
// what that finds.
func FuzzParse(f *testing.F) {
	for _, raw := range []string{
		`{"update_id":1,"message":{"message_id":1,"from":{"id":5},"chat":{"id":-100,"type":"group"},"text":"a\"b\\"}}`,
		`{"update_id":2,"callback_query":{"id":"1","from":{"id":5},"message":{"chat":{"id":7}},"data":"x"}}`,
		`{"update_id":3,"inline_query":{"id":"1","from":{"id":5},"query":"q","offset":""}}`,
		`{"update_id":4,"poll":{"id":"99","options":[{"text":"a"},1.5e-3,true,null,false]}}`,
		`{"update_id":5,"poll_answer":{"poll_id":"99","voter_chat":{"id":3},"user":{"id":4}}}`,
		" {\n\"update_id\" : 6 , \"new\\u005fkind\":{ } }\t", `{"update_id":7,"x":{"chat":{"id":"1"}}}`, `{"update_id":-1}`, `[]`,
	} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		u, err := inbox.Parse("t", raw, noon)
		var whole map[string]json.RawMessage
		valid := json.Unmarshal(raw, &whole) == nil && whole != nil
		id := int64(0)
		if valid {
			if json.Unmarshal(whole["update_id"], &id) != nil {
				id = 0
			}
		}
		if err != nil {
			if valid && id > 0 && strings.Count(string(raw), "update_id")+strings.Count(string(raw), `\u`) == 1 && strings.Count(string(raw), "[")+strings.Count(string(raw), "{") < 400 {
				t.Fatalf("refused %q: %v", raw, err)
			}
			return
		}
		require.True(t, valid)
		require.Equal(t, id, u.ID)
		require.NoError(t, u.Validate())
		if strings.Count(string(raw), `"chat"`)+strings.Count(string(raw), `"id"`) == 2 && !strings.Contains(string(raw), `\`) {
			var known struct {
				Message struct{ Chat struct{ Id json.Number } }
			}
			if u.Kind == "message" && json.Unmarshal(raw, &known) == nil {
				if n, err := strconv.ParseInt(string(known.Message.Chat.Id), 10, 64); err == nil && strings.Contains(string(whole["message"]), `"chat"`) &&
					exact(whole["message"], "chat", "id") {
					require.Equal(t, strconv.FormatInt(n, 10), u.Chat)
				}
			}
		}
	})
}

// exact reports whether the path of keys is in an object as it is written.
func exact(raw json.RawMessage, path ...string) bool {
	for _, key := range path {
		var m map[string]json.RawMessage
		if json.Unmarshal(raw, &m) != nil {
			return false
		}
		var ok bool
		if raw, ok = m[key]; !ok {
			return false
		}
	}
	return len(raw) > 0 && raw[0] != '"'
}

func BenchmarkParse(b *testing.B) {
	raw := []byte(`{"update_id":123456789,"message":{"message_id":1,"from":{"id":5,"is_bot":false,"first_name":"Ann","language_code":"en"},"chat":{"id":5,"first_name":"Ann","type":"private"},"date":1700000000,"text":"hello there, how are you?","entities":[{"offset":0,"length":5,"type":"bold"}]}}`)
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			if _, err := inbox.Parse("t", raw, noon); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			var u gotgbot.Update
			if err := json.Unmarshal(raw, &u); err != nil {
				b.Fatal(err)
			}
		}
	})
}
