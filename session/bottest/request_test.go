package bottest_test

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
)

func form(fields ...string) (string, io.Reader) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = w.WriteField(fields[i], fields[i+1])
	}
	_ = w.Close()
	return w.FormDataContentType(), &b
}

func TestEveryEncodingOfParameters(t *testing.T) {
	srv := newServer(t, bottest.Config{Limits: bottest.NoLimits()})
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	ann.Write(bot, "/start")
	id, keyboard := itoa(ann.ID), `{"inline_keyboard":[[{"text":"a","callback_data":"b"}]]}`
	values := url.Values{"chat_id": {id}, "text": {"hé"}, "reply_markup": {keyboard}}
	multi, body := form("chat_id", id, "text", "hé", "reply_markup", keyboard)
	tests := []struct {
		name, verb, path, kind string
		body                   io.Reader
	}{
		{"GET", "GET", "/sendMessage?" + values.Encode(), "", nil},
		{"GET in another case", "GET", "/SENDmessage?" + values.Encode(), "", nil},
		{"the URL of a POST", "POST", "/sendMessage?" + values.Encode(), "", nil},
		{"a form", "POST", "/sendMessage", "application/x-www-form-urlencoded", strings.NewReader(values.Encode())},
		{"native JSON", "POST", "/sendMessage", "application/json",
			strings.NewReader(`{"chat_id":` + id + `,"text":"hé","reply_markup":` + keyboard + `,"protect_content":null}`)},
		{"JSON in strings", "POST", "/sendMessage", "application/json; charset=utf-8",
			strings.NewReader(`{"chat_id":"` + id + `","text":"h\u00e9","reply_markup":"` + strings.ReplaceAll(keyboard, `"`, `\"`) + `"}`)},
		{"multipart", "POST", "/sendMessage", multi, body},
		{"half and half", "POST", "/sendMessage?chat_id=" + id, "application/json",
			strings.NewReader(`{"chat_id":7,"text":"hé","reply_markup":` + keyboard + `}`)},
		{"the test environment", "GET", "/test/sendMessage?" + values.Encode(), "", nil},
		{"the method as a parameter", "GET", "/?method=sendMessage&" + values.Encode(), "", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := http.NewRequest(test.verb, "http://any.host/bot"+bot.Token()+test.path, test.body)
			require.NoError(t, err)
			if test.kind != "" {
				r.Header.Set("Content-Type", test.kind)
			}
			m := do(t, srv, r).message(t)
			require.Equal(t, "hé", m.Text)
			require.Equal(t, "b", m.ReplyMarkup.InlineKeyboard[0][0].CallbackData)
			calls := srv.Calls()
			last := calls[len(calls)-1]
			require.Equal(t, "sendMessage", last.Method)
			require.Equal(t, test.name == "the test environment", last.Test)
			require.Equal(t, bot, last.Bot)
			require.Equal(t, id, last.Params["chat_id"])
		})
	}
}

func TestRequestsThatCannotBeRead(t *testing.T) {
	srv := newServer(t, bottest.Config{})
	token := srv.NewBot("shop_bot").Token()
	tests := []struct{ name, kind, body, want string }{
		{"cut JSON", "application/json", `{"text":`, "Bad Request: can't parse JSON object"},
		{"a JSON array", "application/json", `[]`, "Bad Request: can't parse JSON object"},
		{"a multipart without boundary", "multipart/form-data", "x", "Bad Request: can't parse multipart/form-data"},
		{"a cut multipart", "multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\nab",
			"Bad Request: can't parse multipart/form-data"},
		{"text that is not UTF-8", "application/x-www-form-urlencoded", "text=%ff", "Bad Request: strings must be encoded in UTF-8"},
		{"too many fields", "application/x-www-form-urlencoded", "text=" + strings.Repeat("x", 9<<20), "Request Entity Too Large"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := http.NewRequest("POST", "http://x/bot"+token+"/sendMessage", strings.NewReader(test.body))
			require.NoError(t, err)
			r.Header.Set("Content-Type", test.kind)
			got := do(t, srv, r)
			require.False(t, got.OK)
			require.Equal(t, test.want, got.Description)
		})
	}
}

func TestTokens(t *testing.T) {
	srv := newServer(t, bottest.Config{})
	good := srv.NewBot("shop_bot").Token()
	id, secret, _ := strings.Cut(good, ":")
	require.Len(t, secret, 35)
	tests := []struct {
		name, path string
		status     int
		want       string
	}{
		{"the right one", "/bot" + good + "/getMe", 200, ""},
		{"an unknown one", "/bot" + id + ":" + strings.Repeat("x", 35) + "/getMe", 401, "Unauthorized"},
		{"an unknown one and no method", "/bot" + id + ":x/nonsense", 401, "Unauthorized"},
		{"no colon", "/bot12345/getMe", 404, "Not Found"},
		{"two colons", "/bot" + good + ":x/getMe", 404, "Not Found"},
		{"a leading zero", "/bot0" + good + "/getMe", 404, "Not Found"},
		{"a leading plus", "/bot+" + good + "/getMe", 404, "Not Found"},
		{"letters", "/botabc:def/getMe", 404, "Not Found"},
		{"2^54", "/bot18014398509481984:x/getMe", 404, "Not Found"},
		{"too long", "/bot" + good + strings.Repeat("x", 40) + "/getMe", 404, "Not Found"},
		{"empty", "/bot/getMe", 404, "Not Found"},
		{"no method", "/bot" + good, 404, "Not Found"},
		{"an unknown method", "/bot" + good + "/getYou", 404, "Not Found: method not found"},
		{"another path", "/favicon.ico", 404, "Not Found"},
		{"a trailing space", "/bot" + good + "%20/getMe", 401, "Unauthorized"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := http.NewRequest("GET", "http://x"+test.path, nil)
			require.NoError(t, err)
			got := do(t, srv, r)
			require.Equal(t, test.status, got.Status)
			require.Equal(t, test.want, got.Description)
		})
	}
}

func TestTokensChange(t *testing.T) {
	srv := newServer(t, bottest.Config{})
	bot := srv.NewBot("shop_bot")
	old := bot.Token()
	fresh := bot.RotateToken()
	require.Equal(t, 401, call(t, srv, old, "getMe").Status)
	require.Equal(t, 200, call(t, srv, fresh, "getMe").Status)
	found, ok := srv.BotByToken(fresh)
	require.True(t, ok)
	require.Equal(t, bot, found)
	bot.Revoke()
	require.Equal(t, 401, call(t, srv, fresh, "getMe").Status)
	_, ok = srv.BotByToken(fresh)
	require.False(t, ok)
}

func TestInspector(t *testing.T) {
	srv := newServer(t, bottest.Config{KeepCalls: 3})
	bot := srv.NewBot("shop_bot")
	for i := range 5 {
		call(t, srv, bot.Token(), "getMe", "n", i)
	}
	call(t, srv, bot.Token(), "nonsense")
	calls := srv.Calls()
	require.Len(t, calls, 3)
	require.Equal(t, "3", calls[0].Params["n"])
	require.Equal(t, 404, calls[2].ErrorCode)
	require.Equal(t, "Not Found: method not found", calls[2].Description)
	require.Equal(t, 1, calls[2].Conn)
	require.Equal(t, 5, srv.CallCount("GetMe"), "counts are exact")
	require.Equal(t, 1, srv.CallCount("unknown"))
	require.Equal(t, 6, srv.CallCount(""))
	srv.Reset()
	require.Zero(t, srv.CallCount(""))
	require.Empty(t, srv.Calls())
}

func TestConnections(t *testing.T) {
	srv := newServer(t, bottest.Config{})
	bot := srv.NewBot("shop_bot")
	require.Equal(t, bottest.ConnStats{}, srv.Connections())
	for range 3 {
		require.True(t, call(t, srv, bot.Token(), "getMe").OK)
	}
	require.Equal(t, bottest.ConnStats{Opened: 1, Open: 1}, srv.Connections(), "it is kept alive")
	other := &http.Transport{DialContext: srv.DialContext}
	resp, err := other.RoundTrip(httptest.NewRequest("GET", "http://x/bot"+bot.Token()+"/getMe", nil))
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 2, srv.Connections().Opened)
	other.CloseIdleConnections()
}

func TestHandlerCanBeMounted(t *testing.T) {
	srv := newServer(t, bottest.Config{})
	bot := srv.NewBot("shop_bot")
	web := httptest.NewServer(http.StripPrefix("/api", srv.Handler()))
	defer web.Close()
	resp, err := http.Get(web.URL + "/api/bot" + bot.Token() + "/getMe")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, 200, resp.StatusCode)
	http.DefaultClient.CloseIdleConnections()
	require.Zero(t, srv.Connections().Opened)
	srv.Fail(bottest.Fault{Times: 1, Do: bottest.ResetAfter()})
	_, err = http.Get(web.URL + "/api/bot" + bot.Token() + "/getMe")
	require.Error(t, err)
	srv.Close()
	resp, err = http.Get(web.URL + "/api/bot" + bot.Token() + "/getMe")
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 500, resp.StatusCode)
	http.DefaultClient.CloseIdleConnections()
}
