package bottest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
)

// scene is a bot with people around it. Templates of parameters name them.
type scene struct {
	srv                     *bottest.Server
	bot, other              *bottest.Bot
	ann, ben, eve           *bottest.User // has started, has blocked, has only been met
	group, gone, moved, foe *bottest.Group
	news, private           *bottest.Group
	text, photo             int64 // messages in Ann's chat
}

func newScene(t *testing.T) *scene {
	srv := newServer(t, bottest.Config{Limits: bottest.NoLimits()})
	s := &scene{srv: srv, bot: srv.NewBot("shop_bot"), other: srv.NewBot("other_bot"), ann: srv.NewUser("Ann"), ben: srv.NewUser("Ben"), eve: srv.NewUser("Eve")}
	s.ann.Write(s.bot, "/start")
	s.ben.Write(s.bot, "/start")
	s.ben.Block(s.bot)
	s.group = srv.NewGroup("team", s.ann, s.bot)
	s.eve.WriteIn(s.group, "hello all")
	s.gone = srv.NewGroup("gone", s.ann, s.bot)
	s.gone.Kick(s.bot)
	s.moved = srv.NewGroup("moved", s.ann, s.bot)
	s.moved.Upgrade()
	s.foe = srv.NewSupergroup("foe", s.ann, s.bot)
	s.foe.Kick(s.bot)
	s.news = srv.NewChannel("daily_news", s.ann, s.bot)
	s.private = srv.NewChannel("", s.ann)
	s.text = call(t, srv, s.bot.Token(), "sendMessage", "chat_id", s.ann.ID, "text", "old text").message(t).MessageId
	s.photo = call(t, srv, s.bot.Token(), "sendPhoto", "chat_id", s.ann.ID, "photo", "https://example.com/a.jpg").message(t).MessageId
	return s
}

// fill replaces names in braces by ids.
func (s *scene) fill(text string) string {
	return strings.NewReplacer(
		"{ann}", itoa(s.ann.ID), "{ben}", itoa(s.ben.ID), "{eve}", itoa(s.eve.ID), "{other}", itoa(s.other.ID()), "{bot}", itoa(s.bot.ID()),
		"{group}", itoa(s.group.ID), "{gone}", itoa(s.gone.ID), "{moved}", itoa(s.moved.ID), "{foe}", itoa(s.foe.ID),
		"{news}", itoa(s.news.ID), "{private}", itoa(s.private.ID), "{text}", itoa(s.text), "{photo}", itoa(s.photo),
	).Replace(text)
}

func TestMethods(t *testing.T) {
	long := strings.Repeat("x", 4097)
	tests := []struct {
		method, params string // name=value, separated by ;
		want           string // the result without spaces, or part of it, or the error
	}{
		{"getMe", "", `"is_bot":true,"first_name":"shop_bot","username":"shop_bot","can_join_groups":true`},

		{"sendMessage", "chat_id={ann};text=hi", `"chat":{"id":{ann},"type":"private","first_name":"Ann"},"text":"hi"`},
		{"sendMessage", "chat_id=@daily_news;text=hi", `"sender_chat":{"id":{news},"type":"channel"`},
		{"sendMessage", "chat_id={group};text=see https://a.example and #tag", `"entities":[{"type":"url","offset":4,"length":17},{"type":"hashtag","offset":26,"length":4}]`},
		{"sendMessage", "chat_id={ann};text= <b>b<i>o</i></b>&lt;;parse_mode=HTML", `"text":"bo\u003c","entities":[{"type":"bold","offset":0,"length":2},{"type":"italic","offset":1,"length":1}]`},
		{"sendMessage", "chat_id={ann};text=*b* _i_;parse_mode=Markdown", `"text":"b i","entities":[{"type":"bold","offset":0,"length":1},{"type":"italic","offset":2,"length":1}]`},
		{"sendMessage", "chat_id={ann};text=*b* __u__ \\.;parse_mode=MarkdownV2", `"text":"b u .","entities":[{"type":"bold","offset":0,"length":1},{"type":"underline","offset":2,"length":1}]`},
		{"sendMessage", `chat_id={ann};text=bold;entities=[{"type":"bold","offset":0,"length":4}]`, `"entities":[{"type":"bold","offset":0,"length":4}]`},
		{"sendMessage", `chat_id={ann};text=k;reply_markup={"inline_keyboard":[[{"text":"a","callback_data":"b"}]]}`, `"reply_markup":{"inline_keyboard":[[{"text":"a","callback_data":"b"}]]}`},
		{"sendMessage", `chat_id={ann};text=k;reply_markup={"keyboard":[["a"]]}`, `"text":"k"`},
		{"sendMessage", `chat_id={ann};text=re;reply_parameters={"message_id":{text}}`, `"reply_to_message":{"message_id":{text},`},
		{"sendMessage", `chat_id={ann};text=re;reply_parameters={"message_id":999}`, "Bad Request: message to be replied not found"},
		{"sendMessage", `chat_id={ann};text=re;reply_parameters={"message_id":999,"allow_sending_without_reply":true}`, `"text":"re"`},
		{"sendMessage", "chat_id={ann}", "Bad Request: message text is empty"},
		{"sendMessage", "chat_id={ann};text= ", "Bad Request: text must be non-empty"},
		{"sendMessage", "chat_id={ann};text=" + long, "Bad Request: message is too long"},
		{"sendMessage", "text=hi", "Bad Request: chat_id is empty"},
		{"sendMessage", "chat_id=0;text=hi", "Bad Request: chat not found"},
		{"sendMessage", "chat_id=@nobody;text=hi", "Bad Request: chat not found"},
		{"sendMessage", "chat_id=999;text=hi", "Bad Request: chat not found"},
		{"sendMessage", "chat_id={private};text=hi", "Bad Request: chat not found"},
		{"sendMessage", "chat_id={ben};text=hi", "Forbidden: bot was blocked by the user"},
		{"sendMessage", "chat_id={eve};text=hi", "Forbidden: bot can't initiate conversation with a user"},
		{"sendMessage", "chat_id={other};text=hi", "Forbidden: bots can't send messages to bots"},
		{"sendMessage", "chat_id={gone};text=hi", "Forbidden: bot was kicked from the group chat"},
		{"sendMessage", "chat_id={foe};text=hi", "Forbidden: bot was kicked from the supergroup chat"},
		{"sendMessage", "chat_id={moved};text=hi", "Bad Request: group chat was upgraded to a supergroup chat"},
		{"sendMessage", "chat_id={ann};text=hi;parse_mode=BBCode", "Bad Request: unsupported parse_mode"},
		{"sendMessage", "chat_id={ann};text=<b>hi;parse_mode=HTML", `Bad Request: can't parse entities: Can't find end tag corresponding to start tag "b"`},
		{"sendMessage", "chat_id={ann};text=<b>hi</i>;parse_mode=HTML", `Bad Request: can't parse entities: Unmatched end tag at byte offset 5, expected "</b>", found "</i>"`},
		{"sendMessage", "chat_id={ann};text=<h1>hi</h1>;parse_mode=HTML", `Bad Request: can't parse entities: Unsupported start tag "h1" at byte offset 0`},
		{"sendMessage", "chat_id={ann};text=a _b;parse_mode=Markdown", "Bad Request: can't parse entities: Can't find end of the entity starting at byte offset 2"},
		{"sendMessage", "chat_id={ann};text=a *b;parse_mode=MarkdownV2", "Bad Request: can't parse entities: Can't find end of Bold entity at byte offset 2"},
		{"sendMessage", "chat_id={ann};text=a.;parse_mode=MarkdownV2", `Bad Request: can't parse entities: Character '.' is reserved and must be escaped with the preceding '\'`},
		{"sendMessage", `chat_id={ann};text=k;reply_markup={`, "Bad Request: can't parse reply keyboard markup JSON object"},
		{"sendMessage", `chat_id={ann};text=k;reply_markup=[]`, "Bad Request: object expected as reply markup"},
		{"sendMessage", `chat_id={ann};text=k;reply_markup={"inline_keyboard":[[{"text":"a"}]]}`,
			"Bad Request: can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard"},
		{"sendMessageDraft", "chat_id={ann};draft_id=1;text=typ", "true"},

		{"editMessageText", "chat_id={ann};message_id={text};text=new", `"text":"new"`},
		{"editMessageText", "chat_id={ann};message_id={text};text=old text", "Bad Request: message is not modified: specified new" +
			" message content and reply markup are exactly the same as a current content and reply markup of the message"},
		{"editMessageText", "chat_id={ann};message_id=999;text=new", "Bad Request: message to edit not found"},
		{"editMessageText", "chat_id={ann};message_id=1;text=new", "Bad Request: message can't be edited"},
		{"editMessageText", "chat_id={ann};message_id={photo};text=new", "Bad Request: there is no text in the message to edit"},
		{"editMessageText", "chat_id={ann};text=new", "Bad Request: message identifier is not specified"},
		{"editMessageText", "inline_message_id=x;text=new", "Bad Request: MESSAGE_ID_INVALID"},
		{"editMessageCaption", "chat_id={ann};message_id={photo};caption=new", `"caption":"new"`},
		{"editMessageCaption", "chat_id={ann};message_id={text};caption=new", "Bad Request: there is no caption in the message to edit"},
		{"editMessageMedia", `chat_id={ann};message_id={photo};media={"type":"video","media":"https://example.com/a.mp4","caption":"v"}`,
			`"caption":"v"`},
		{"editMessageMedia", "chat_id={ann};message_id={photo}", "Bad Request: input media is not specified"},
		{"editMessageReplyMarkup", `chat_id={ann};message_id={text};reply_markup={"inline_keyboard":[[{"text":"a","callback_data":"b"}]]}`,
			`"reply_markup":{"inline_keyboard"`},
		{"editMessageReplyMarkup", "chat_id={ann};message_id={text}", "Bad Request: message is not modified"},

		{"deleteMessage", "chat_id={ann};message_id={text}", "true"},
		{"deleteMessage", "chat_id={ann};message_id=999", "Bad Request: message to delete not found"},
		{"deleteMessage", "chat_id={group};message_id=1", "Bad Request: message can't be deleted"},
		{"deleteMessages", "chat_id={ann};message_ids=[{text},{photo},999]", "true"},
		{"deleteMessages", "chat_id={ann}", "Bad Request: message identifiers are not specified"},
		{"deleteMessages", "chat_id={ann};message_ids=[", "Bad Request: can't parse message_ids JSON object"},

		{"forwardMessage", "chat_id={group};from_chat_id={ann};message_id=1", `"forward_origin":{"type":"user","date":`},
		{"forwardMessage", "chat_id={group};from_chat_id={ann};message_id=999", "Bad Request: message to forward not found"},
		{"forwardMessage", "chat_id={group};message_id=1", "Bad Request: chat_id is empty"},
		{"forwardMessages", "chat_id={group};from_chat_id={ann};message_ids=[1,{text},999]", `[{"message_id":`},
		{"forwardMessages", "chat_id={group};from_chat_id={ann};message_ids=[999]", "Bad Request: there are no messages to forward"},
		{"copyMessage", "chat_id={group};from_chat_id={ann};message_id={photo};caption=copied", `{"message_id":`},
		{"copyMessage", "chat_id={group};from_chat_id={ann};message_id=999", "Bad Request: message to copy not found"},
		{"copyMessages", "chat_id={group};from_chat_id={ann};message_ids=[1,{text}]", `[{"message_id":`},

		{"sendPhoto", "chat_id={ann};photo=https://example.com/a.jpg;caption=a photo", `"caption":"a photo"`},
		{"sendPhoto", "chat_id={ann}", "Bad Request: there is no photo in the request"},
		{"sendPhoto", "chat_id={ann};photo=nonsense", "Bad Request: wrong file identifier/HTTP URL specified"},
		{"sendPhoto", "chat_id={ann};photo=http://", "Bad Request: wrong HTTP URL specified"},
		{"sendPhoto", "chat_id={ann};photo=https://example.com/a.jpg;caption=" + long, "Bad Request: message caption is too long"},
		{"sendDocument", "chat_id={ann};document=https://example.com/a.pdf", `"mime_type":"application/pdf"`},
		{"sendVideo", "chat_id={ann};video=https://example.com/a.mp4;width=10;duration=5", `"width":10,"height":720,"duration":5`},
		{"sendAudio", "chat_id={ann};audio=https://example.com/a.mp3;title=song", `"title":"song"`},
		{"sendVoice", "chat_id={ann};voice=https://example.com/a.ogg", `"voice":{`},
		{"sendAnimation", "chat_id={ann};animation=https://example.com/a.gif", `"animation":{`},
		{"sendVideoNote", "chat_id={ann};video_note=https://example.com/a.mp4", `"video_note":{`},
		{"sendVideoNote", "chat_id={ann}", "Bad Request: there is no video note in the request"},
		{"sendSticker", "chat_id={ann};sticker=https://example.com/a.webp", `"sticker":{`},
		{"sendMediaGroup", `chat_id={ann};media=[{"type":"photo","media":"https://example.com/1"},{"type":"video","media":"https://example.com/2"}]`,
			`"media_group_id":"`},
		{"sendMediaGroup", "chat_id={ann};media=[]", "Bad Request: there are no messages to send"},
		{"sendMediaGroup", "chat_id={ann};media=[1]", "Bad Request: can't parse InputMedia: expected an Object"},
		{"sendMediaGroup", "chat_id={ann};media=[{},{},{},{},{},{},{},{},{},{},{}]", "Bad Request: too many messages to send as an album"},
		{"sendMediaGroup", `chat_id={ann};media=[{"type":"photo","media":"https://example.com/1"},{"type":"document","media":"https://example.com/2"}]`,
			"Bad Request: document can't be mixed with other media types"},

		{"sendLocation", "chat_id={ann};latitude=52.5;longitude=13.4", `"location":{"latitude":52.5,"longitude":13.4`},
		{"sendLocation", "chat_id={ann};latitude=NaN;longitude=13.4", "Bad Request: location is invalid"},
		{"sendVenue", "chat_id={ann};latitude=1;longitude=2;title=Bar;address=Street 1", `"venue":{"location":{`},
		{"sendContact", "chat_id={ann};phone_number=123;first_name=Zoe", `"contact":{"phone_number":"123","first_name":"Zoe"`},
		{"sendPoll", `chat_id={ann};question=Why?;options=["a",{"text":"b"}]`, `"poll":{"id":`},
		{"sendPoll", `chat_id={ann};options=["a"]`, "Bad Request: poll question must be non-empty"},
		{"sendDice", "chat_id={ann}", `"dice":{"emoji":"🎲","value":`},
		{"sendChatAction", "chat_id={ann};action=typing", "true"},
		{"sendChatAction", "chat_id={ann};action=yawning", "Bad Request: wrong parameter action in request"},

		{"answerCallbackQuery", "callback_query_id=1", "Bad Request: query is too old and response timeout expired or query ID is invalid"},
		{"answerInlineQuery", "inline_query_id=1;results=[]", "Bad Request: query is too old and response timeout expired or query ID is invalid"},

		{"getChat", "chat_id={ann}", `"id":{ann},"type":"private","first_name":"Ann"`},
		{"getChat", "chat_id=@daily_news", `"active_usernames":["daily_news"]`},
		{"getChatMember", "chat_id={group};user_id={ann}", `"status":"creator"`},
		{"getChatMember", "chat_id={group};user_id={bot}", `"status":"member"`},
		{"getChatMember", "chat_id={group};user_id={ben}", `"status":"left"`},
		{"getChatMember", "chat_id={group};user_id=7", "Bad Request: PARTICIPANT_ID_INVALID"},
		{"getChatMemberCount", "chat_id={group}", "3"},
		{"getChatAdministrators", "chat_id={news}", `"status":"administrator"`},
		{"getChatAdministrators", "chat_id={ann}", "Bad Request: there are no administrators in the private chat"},
		{"pinChatMessage", "chat_id={ann};message_id={text}", "true"},
		{"pinChatMessage", "chat_id={ann};message_id=999", "Bad Request: message to pin not found"},
		{"unpinChatMessage", "chat_id={ann}", "Bad Request: message to unpin not found"},
		{"leaveChat", "chat_id={group}", "true"},
		{"leaveChat", "chat_id={ann}", "Bad Request: chat member status can't be changed in private chats"},

		{"setMyCommands", `commands=[{"command":"help","description":"Help me"}]`, "true"},
		{"setMyCommands", `commands=[{"command":"help me","description":"Help me"}]`, "Bad Request: BOT_COMMAND_INVALID"},
		{"getMyCommands", `scope={"type":"default"}`, "[]"},
		{"getFile", "", "Bad Request: file_id not specified"},
		{"getFile", "file_id=x", "Bad Request: invalid file_id"},
		{"getManagedBotToken", "user_id={bot}", "Bad Request: BOT_ACCESS_FORBIDDEN"},
		{"close", "", "Too Many Requests: retry after 600"},
		{"nonsense", "", "Not Found: method not found"},
	}
	for _, test := range tests {
		name := test.method + " " + test.params
		t.Run(name[:min(60, len(name))], func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			var params []any
			for _, pair := range strings.Split(strings.ReplaceAll(test.params, "&lt;", "&lt\x00"), ";") {
				if name, value, ok := strings.Cut(pair, "="); ok {
					params = append(params, name, strings.ReplaceAll(s.fill(value), "\x00", ";"))
				}
			}
			got := call(t, s.srv, s.bot.Token(), test.method, params...)
			if got.OK {
				require.Contains(t, string(got.Result), s.fill(test.want))
			} else {
				require.True(t, strings.HasPrefix(got.Description, s.fill(test.want)), got.Description)
			}
		})
	}
}

func TestMessageIDsGrowPerChat(t *testing.T) {
	s := newScene(t)
	last := map[int64]int64{}
	for i := range 20 {
		chat := []int64{s.ann.ID, s.group.ID, s.news.ID}[i%3]
		m := call(t, s.srv, s.bot.Token(), "sendMessage", "chat_id", chat, "text", fmt.Sprint(i)).message(t)
		require.Greater(t, m.MessageId, last[chat])
		last[chat] = m.MessageId
	}
}

func TestOldMessagesStay(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
		bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
		m := ann.Write(bot, "hi")
		sleepMinutes(48*60 + 1)
		got := call(t, srv, bot.Token(), "deleteMessage", "chat_id", ann.ID, "message_id", m.MessageId)
		require.Equal(t, "Bad Request: message can't be deleted for everyone", got.Description)
	})
}

func TestMigratedGroupNamesItsSupergroup(t *testing.T) {
	s := newScene(t)
	got := call(t, s.srv, s.bot.Token(), "sendMessage", "chat_id", s.moved.ID, "text", "hi")
	require.Equal(t, 400, got.Status)
	fresh := got.Parameters.MigrateToChatID
	require.Equal(t, s.moved.Upgrade().ID, fresh)
	m := call(t, s.srv, s.bot.Token(), "sendMessage", "chat_id", fresh, "text", "hi").message(t)
	require.Equal(t, "supergroup", m.Chat.Type)
	require.Equal(t, fresh, s.srv.Messages(s.moved.ID)[0].MigrateToChatId)
	require.Equal(t, s.moved.ID, s.srv.Messages(fresh)[0].MigrateFromChatId)
	s.ann.WriteIn(s.moved, "still here")
	require.Equal(t, "still here", s.srv.Messages(fresh)[2].Text)
}

func TestLogOutAndClose(t *testing.T) {
	virtual(t, bottest.Config{}, func(t *testing.T, srv *bottest.Server) {
		token := srv.NewBot("shop_bot").Token()
		require.True(t, call(t, srv, token, "logOut").OK)
		got := call(t, srv, token, "getMe")
		require.Equal(t, 400, got.Status)
		require.Equal(t, "Logged out", got.Description)
		sleepMinutes(10)
		require.True(t, call(t, srv, token, "getMe").OK)
		require.True(t, call(t, srv, token, "close").OK, "more than ten minutes after its start")
		require.Equal(t, "Bad Request: the bot has already been closed", call(t, srv, token, "close").Description)
		require.True(t, call(t, srv, token, "getMe").OK)
	})
}

func TestManagedBots(t *testing.T) {
	s := newScene(t)
	call(t, s.srv, s.bot.Token(), "getUpdates", "offset", -1)
	child := s.srv.NewManagedBot(s.bot, s.ann, "anns_bot")
	updates := call(t, s.srv, s.bot.Token(), "getUpdates").updates(t)
	made := updates[len(updates)-1].ManagedBot
	require.Equal(t, s.ann.ID, made.User.Id)
	require.Equal(t, child.ID(), made.Bot.Id)
	token := func(method string) string {
		var token string
		require.NoError(t, json.Unmarshal(call(t, s.srv, s.bot.Token(), method, "user_id", child.ID()).Result, &token))
		return token
	}
	old := token("getManagedBotToken")
	require.Equal(t, child.Token(), old)
	fresh := token("replaceManagedBotToken")
	require.NotEqual(t, old, fresh)
	require.Equal(t, 401, call(t, s.srv, old, "getMe").Status)
	require.True(t, call(t, s.srv, fresh, "getMe").OK)
}
