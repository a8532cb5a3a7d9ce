package session_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

func TestRequestOptsKeepTheirMeaning(t *testing.T) {
	var urls []string
	var got []sent
	keep := capture(&got)
	c := newSession(t, session.Config{APIURL: "http://one.example/base/", Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		urls = append(urls, r.URL.String())
		return keep.RoundTrip(r)
	})}).Client("k")
	ctx := context.Background()

	params := map[string]any{"text": "a", "chat_id": int64(1)}
	_, err := c.RequestWithContext(ctx, canary, "sendMessage", params, &gotgbot.RequestOpts{
		APIURL:         "https://two.example/",
		OverrideParams: map[string]any{"text": "b", "new_field": true},
	})
	require.NoError(t, err)
	assert.Equal(t, "https://two.example/bot"+canary+"/sendMessage", urls[0])
	fields, _ := got[0].fields(t)
	assert.Equal(t, map[string]string{"text": "b", "chat_id": "1", "new_field": "true"}, fields)
	assert.Equal(t, map[string]any{"text": "a", "chat_id": int64(1)}, params, "the caller's map is the caller's")

	_, err = c.RequestWithContext(ctx, canary, "getMe", nil, &gotgbot.RequestOpts{OverrideParams: map[string]any{"x": 1}})
	require.NoError(t, err, "nil params with OverrideParams")
	assert.Equal(t, "http://one.example/base/bot"+canary+"/getMe", urls[1])

	var none context.Context // gotgbot's own client takes a nil one too
	_, err = c.RequestWithContext(none, canary, "getMe", nil, nil)
	require.NoError(t, err)

	assert.Equal(t, "http://one.example/base", c.GetAPIURL(nil))
	assert.Equal(t, "https://two.example", c.GetAPIURL(&gotgbot.RequestOpts{APIURL: "https://two.example/"}))
}

func TestBadCallsAreRefusedWithoutSending(t *testing.T) {
	var got []sent
	c := newSession(t, session.Config{Transport: capture(&got)}).Client("k")
	for name, row := range map[string]struct {
		method string
		opts   *gotgbot.RequestOpts
	}{
		"no method":                     {"", nil},
		"a method that leaves the path": {"../../getMe", nil},
		"a method with a query":         {"getMe?x=1", nil},
		"a method with the token":       {canary, nil},
		"a method without an end":       {strings.Repeat("a", 100), nil},
		"an API URL without a scheme":   {"getMe", &gotgbot.RequestOpts{APIURL: "api.example/bot" + canary}},
		"an API URL with a bad escape":  {"getMe", &gotgbot.RequestOpts{APIURL: "http://x/%zz" + canary}},
		"an API URL with a newline":     {"getMe", &gotgbot.RequestOpts{APIURL: "http://x/" + canary + "\n"}},
		"an API URL with a user":        {"getMe", &gotgbot.RequestOpts{APIURL: "http://" + canary + "@x/"}},
		"an API URL without a host":     {"getMe", &gotgbot.RequestOpts{APIURL: "http:///x"}},
		"an API URL of another kind":    {"getMe", &gotgbot.RequestOpts{APIURL: "file:///etc/passwd"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.RequestWithContext(context.Background(), canary, row.method, nil, row.opts)
			assert.ErrorIs(t, err, errors.BadRequest)
			assert.True(t, errors.SafeToRepeat(err))
			assert.NotContains(t, everything(err), canarySecret)
		})
	}
	assert.Empty(t, got)
}

func TestTestEnvironment(t *testing.T) {
	var urls []string
	s := newSession(t, session.Config{TestEnvironment: true, RevealFileURLs: true, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		urls = append(urls, r.URL.String())
		return answer(r, 200, `{"ok":true,"result":true}`), nil
	})})
	bare := &gotgbot.BaseBotClient{UseTestEnvironment: true}
	c := s.Client("k")
	_, err := c.RequestWithContext(context.Background(), canary, "logOut", nil, nil)
	require.NoError(t, err)
	assert.Equal(t, []string{"https://api.telegram.org/bot" + canary + "/test/logOut"}, urls)
	assert.Equal(t, bare.FileURL(canary, "photos/a.jpg", nil), c.FileURL(canary, "photos/a.jpg", nil))
}

func TestABotOfTheSessionShowsNoToken(t *testing.T) {
	var got []sent
	s := newSession(t, session.Config{Transport: capture(&got)})
	bot := s.Bot("shop", mustToken(t, canary), gotgbot.User{Username: "shop_bot"})
	assert.Equal(t, int64(987654321), bot.Id)
	file := gotgbot.File{FilePath: "docs/a.txt"}
	out := fmt.Sprintf("%v %+v %#v %s", bot, *bot, *bot, bot.BotClient)
	out += fmt.Sprintf("%v %+v %#v", bot.BotClient, bot.BotClient, bot.BotClient)
	out += file.URL(bot, nil)
	assert.NotContains(t, out, canarySecret)
	assert.Equal(t, "https://api.telegram.org/file/bot"+canaryMasked+"/docs/a.txt", file.URL(bot, nil))

	_, err := bot.SendMessage(1, "hi", nil)
	require.Error(t, err, "the fake's result is no message")
	assert.Equal(t, "/bot"+canary+"/sendMessage", got[0].path, "yet it is the token that calls go out with")
}

func TestCallsAndContextsPrintNoTokenAndNoText(t *testing.T) {
	var out string
	mw := func(next session.Invoker) session.Invoker {
		return session.InvokerFunc(func(ctx context.Context, call *session.Call) (json.RawMessage, error) {
			type keeper struct{ call *session.Call }
			out += fmt.Sprintf("%v %+v %#v %s %v %+v %v", call, call, call, call, keeper{call}, keeper{call}, ctx)
			assert.Equal(t, session.ChatID{ID: 42}, call.Chat)
			assert.Equal(t, "shop", call.Key)
			assert.Equal(t, 1, call.Attempt)
			assert.False(t, call.Upload)
			return next.Invoke(ctx, call)
		})
	}
	s := newSession(t, session.Config{Transport: newMemoryWire(), Middleware: []session.Middleware{mw}})
	bot := s.Bot("shop", mustToken(t, canary), gotgbot.User{})
	_, err := bot.SendMessage(42, "private words", nil)
	require.NoError(t, err)
	assert.Contains(t, out, `sendMessage for "shop" (attempt 1)`)
	assert.NotContains(t, out, canarySecret)
	assert.NotContains(t, out, "private words")
}

func TestNewBot(t *testing.T) {
	me := func(id int64) http.RoundTripper {
		return answering(200, fmt.Sprintf(`{"ok":true,"result":{"id":%d,"is_bot":true,"username":"shop_bot"}}`, id))
	}
	token := mustToken(t, canary)
	ctx := context.Background()

	bot, err := newSession(t, session.Config{Transport: me(987654321)}).NewBot(ctx, "k", token)
	require.NoError(t, err)
	assert.Equal(t, "shop_bot", bot.Username)

	_, err = newSession(t, session.Config{Transport: me(5)}).NewBot(ctx, "k", token)
	assert.ErrorIs(t, err, errors.BadReply, "somebody else answered")

	_, err = newSession(t, session.Config{Transport: answering(200, `{"ok":true,"result":"`+canary+`"}`)}).NewBot(ctx, "k", token)
	assert.ErrorIs(t, err, errors.BadReply)
	assert.NotContains(t, everything(err), canarySecret)

	_, err = newSession(t, session.Config{Transport: me(1)}).NewBot(ctx, "k", session.Token{})
	assert.ErrorIs(t, err, errors.InvalidToken)
}

func TestParseChatID(t *testing.T) {
	for _, row := range []struct {
		in   any
		want session.ChatID
	}{
		{int64(-100123), session.ChatID{ID: -100123}},
		{7, session.ChatID{ID: 7}},
		{int32(7), session.ChatID{ID: 7}},
		{"-100123", session.ChatID{ID: -100123}},
		{"@Durov_1", session.ChatID{Username: "@durov_1"}},
		{new("@Durov"), session.ChatID{Username: "@durov"}},
		{(*string)(nil), session.ChatID{}},
		{nil, session.ChatID{}},
		{"", session.ChatID{}},
		{"@", session.ChatID{}},
		{"durov", session.ChatID{}},
		{"NaN", session.ChatID{}},
		{1.5, session.ChatID{}},
		{"@bad name", session.ChatID{}},
		{"@" + strings.Repeat("a", 100), session.ChatID{}},
	} {
		assert.Equal(t, row.want, session.ParseChatID(row.in), "%v", row.in)
	}
	assert.Equal(t, "-100123", session.ChatID{ID: -100123}.String())
	assert.Equal(t, "@durov", session.ChatID{Username: "@durov"}.String())
	assert.True(t, session.ChatID{}.IsZero())
}

func FuzzParseChatID(f *testing.F) {
	for _, s := range []string{"1", "@a", "NaN", "", "-0", "+5", "@@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := session.ParseChatID(text)
		if c.ID != 0 && c.Username != "" {
			t.Fatalf("%q is two keys: %+v", text, c)
		}
		if again := session.ParseChatID(c.String()); !c.IsZero() && again != c {
			t.Fatalf("%q: %+v reads back as %+v", text, c, again)
		}
	})
}

func TestDownload(t *testing.T) {
	var paths []string
	s := newSession(t, session.Config{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		paths = append(paths, r.Method+" "+r.URL.Path)
		switch {
		case strings.HasSuffix(r.URL.Path, "/docs/a b.txt"):
			return answer(r, 200, "content"), nil
		case strings.HasSuffix(r.URL.Path, "/cut"):
			resp := answer(r, 200, "")
			resp.Body = cutBody{strings.NewReader("half")}
			return resp, nil
		default:
			return answer(r, 404, `{"ok":false,"error_code":404,"description":"Not Found"}`), nil
		}
	})})
	bot := s.Bot("k", mustToken(t, canary), gotgbot.User{})
	ctx := context.Background()

	body, err := s.Download(ctx, bot, "docs/a b.txt")
	require.NoError(t, err)
	text, err := io.ReadAll(body)
	require.NoError(t, err)
	assert.Equal(t, "content", string(text))
	assert.Equal(t, 1, s.Stats().InFlight, "a download is under way until it is closed")
	require.NoError(t, body.Close())
	require.NoError(t, body.Close())
	assert.Equal(t, 0, s.Stats().InFlight)
	assert.Equal(t, []string{"GET /file/bot" + canary + "/docs/a b.txt"}, paths)

	body, err = s.Download(ctx, bot, "cut")
	require.NoError(t, err)
	_, err = io.ReadAll(body)
	assert.ErrorIs(t, err, errors.ConnectionFailed)
	assert.NotContains(t, everything(err), canarySecret)
	require.NoError(t, body.Close())

	_, err = s.Download(ctx, bot, "gone")
	require.Error(t, err)
	for _, path := range []string{"", "/etc/passwd", "../secret", "a/../../b", "./a"} {
		_, err = s.Download(ctx, bot, path)
		assert.ErrorIs(t, err, errors.BadRequest, path)
	}
	_, err = s.Download(ctx, &gotgbot.Bot{Token: canary, BotClient: &gotgbot.BaseBotClient{}}, "x")
	assert.ErrorIs(t, err, errors.BadRequest)
	_, err = s.Download(ctx, nil, "x")
	assert.ErrorIs(t, err, errors.BadRequest)
	assert.Equal(t, 0, s.Stats().InFlight)
}
