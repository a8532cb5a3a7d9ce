package bottest_test

import (
	"encoding/json"
	"testing"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
)

func TestMarkup(t *testing.T) {
	reserved := func(c string) string {
		return "!Bad Request: can't parse entities: Character '" + c + `' is reserved and must be escaped with the preceding '\'`
	}
	type entities = []gotgbot.MessageEntity
	tests := []struct {
		mode, text string
		want       string // the text, or the error after "!"
		entities   entities
	}{
		{"HTML", "<b>a</b> <i>b</i> <u>c</u> <s>d</s>", "a b c d", entities{{Type: "bold", Offset: 0, Length: 1},
			{Type: "italic", Offset: 2, Length: 1}, {Type: "underline", Offset: 4, Length: 1}, {Type: "strikethrough", Offset: 6, Length: 1}}},
		{"HTML", `<span class="tg-spoiler">a</span><tg-spoiler>b</tg-spoiler>`, "ab",
			entities{{Type: "spoiler", Length: 1}, {Type: "spoiler", Offset: 1, Length: 1}}},
		{"HTML", `<a href='https://a.example/?x=1&y'>here</a>`, "here", entities{{Type: "text_link", Length: 4, Url: "https://a.example/?x=1&y"}}},
		{"HTML", `<pre><code class="language-go">x := 1</code></pre>`, "x := 1", entities{{Type: "pre", Length: 6, Language: "go"}}},
		{"HTML", "<code>&lt;&#65;&#x42;&nbsp;&</code>", "<AB&nbsp;&", entities{{Type: "code", Length: 10}}},
		{"HTML", "<blockquote>q</blockquote><blockquote expandable>r</blockquote>", "qr",
			entities{{Type: "blockquote", Length: 1}, {Type: "expandable_blockquote", Offset: 1, Length: 1}}},
		{"HTML", `<tg-emoji emoji-id="5">😀</tg-emoji>!`, "😀!", entities{{Type: "custom_emoji", Length: 2, CustomEmojiId: "5"}}},
		{"HTML", "  \n<b> a</b>  ", "a", entities{{Type: "bold", Length: 1}}},
		{"HTML", "</b>", "!Bad Request: can't parse entities: Unexpected end tag at byte offset 0", nil},
		{"HTML", "a<b", "!Bad Request: can't parse entities: Unclosed start tag at byte offset 1", nil},
		{"HTML", `<span class="x">a</span>`, `!Bad Request: can't parse entities: Unsupported start tag "span" at byte offset 0`, nil},

		{"Markdown", "*a* _b_ `c` \\*", "a b c *", entities{{Type: "bold", Length: 1}, {Type: "italic", Offset: 2, Length: 1},
			{Type: "code", Offset: 4, Length: 1}}},
		{"Markdown", "[here](https://a.example) [there]", "here there", entities{{Type: "text_link", Length: 4, Url: "https://a.example"}}},
		{"Markdown", "```go\nx := 1```", "x := 1", entities{{Type: "pre", Length: 6, Language: "go"}}},
		{"Markdown", "snake_case", "!Bad Request: can't parse entities: Can't find end of the entity starting at byte offset 5", nil},

		{"MarkdownV2", "*a _b ~c~_* ||d|| `e`", "a b c d e", entities{{Type: "bold", Length: 5}, {Type: "italic", Offset: 2, Length: 3},
			{Type: "strikethrough", Offset: 4, Length: 1}, {Type: "spoiler", Offset: 6, Length: 1}, {Type: "code", Offset: 8, Length: 1}}},
		{"MarkdownV2", "[here](https://a.example) ![e](tg://emoji?id=5)", "here e",
			entities{{Type: "text_link", Length: 4, Url: "https://a.example"}, {Type: "custom_emoji", Offset: 5, Length: 1, CustomEmojiId: "5"}}},
		{"MarkdownV2", ">a\n>b\nc", "a\nb\nc", entities{{Type: "blockquote", Length: 4}}},
		{"MarkdownV2", "```py\na\\`b```", "a`b", entities{{Type: "pre", Length: 3, Language: "py"}}},
		{"MarkdownV2", "a-b", reserved("-"), nil},
		{"MarkdownV2", "a]", reserved("]"), nil},
		{"MarkdownV2", "_a", "!Bad Request: can't parse entities: Can't find end of Italic entity at byte offset 0", nil},
		{"MarkdownV2", "`a", "!Bad Request: can't parse entities: Can't find end of Code entity at byte offset 0", nil},

		{"", "/start@shop_bot hi @ann_lee #go https://a.example.", "/start@shop_bot hi @ann_lee #go https://a.example.", entities{
			{Type: "bot_command", Length: 15}, {Type: "mention", Offset: 19, Length: 8}, {Type: "hashtag", Offset: 28, Length: 3},
			{Type: "url", Offset: 32, Length: 17}}},
		{"", "a/b c@d.e 1#2 / @ab #", "a/b c@d.e 1#2 / @ab #", nil},
	}
	srv := newServer(t, bottest.Config{Limits: bottest.NoLimits()})
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	ann.Write(bot, "/start")
	for _, test := range tests {
		t.Run(test.mode+" "+test.text, func(t *testing.T) {
			got := call(t, srv, bot.Token(), "sendMessage", "chat_id", ann.ID, "text", test.text, "parse_mode", test.mode)
			if test.want[0] == '!' {
				require.Equal(t, test.want[1:], got.Description)
				return
			}
			m := got.message(t)
			require.Equal(t, test.want, m.Text)
			require.Equal(t, test.entities, m.Entities)
		})
	}
}

func TestPollsCommandsAndPins(t *testing.T) {
	srv := newServer(t, bottest.Config{Limits: bottest.NoLimits()})
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	ann.SetProfile(gotgbot.User{FirstName: "Ann", Username: "ann_lee", IsBot: true})
	ann.Start(bot, "")
	require.Equal(t, "ann_lee", srv.Messages(ann.ID)[0].From.Username)
	token := bot.Token()

	m := call(t, srv, token, "sendPoll", "chat_id", ann.ID, "question", "2+2?", "options", `["3","4"]`,
		"type", "quiz", "correct_option_id", 1).message(t)
	require.Equal(t, []int64{1}, m.Poll.CorrectOptionIds)
	stop := func() reply { return call(t, srv, token, "stopPoll", "chat_id", ann.ID, "message_id", m.MessageId) }
	require.Contains(t, string(stop().Result), `"is_closed":true`)
	require.Equal(t, "Bad Request: poll has already been closed", stop().Description)

	scope := `{"type":"chat","chat_id":5}`
	set := call(t, srv, token, "setMyCommands", "commands", `[{"command":"go","description":"Go"}]`, "scope", scope, "language_code", "de")
	require.True(t, set.OK)
	get := func(scope string) string {
		return string(call(t, srv, token, "getMyCommands", "scope", scope, "language_code", "de").Result)
	}
	require.JSONEq(t, `[{"command":"go","description":"Go"}]`, get(scope))
	require.Equal(t, "[]", get(`{"type":"default"}`))
	require.True(t, call(t, srv, token, "deleteMyCommands", "scope", scope, "language_code", "de").OK)
	require.Equal(t, "[]", get(scope))

	pin := func(method string, params ...any) reply {
		return call(t, srv, token, method, append([]any{"chat_id", ann.ID}, params...)...)
	}
	require.True(t, pin("pinChatMessage", "message_id", m.MessageId).OK)
	var chat gotgbot.ChatFullInfo
	require.NoError(t, json.Unmarshal(call(t, srv, token, "getChat", "chat_id", ann.ID).Result, &chat))
	require.Equal(t, m.MessageId, chat.PinnedMessage.GetMessageId())
	require.True(t, pin("unpinChatMessage", "message_id", m.MessageId).OK)
	require.False(t, pin("unpinChatMessage").OK)
	require.True(t, pin("unpinAllChatMessages").OK)
}
