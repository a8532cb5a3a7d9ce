package bottest_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
)

// FuzzStranger sends whatever a stranger may send. The server must answer
// JSON, with the status it names, and must not panic.
func FuzzStranger(f *testing.F) {
	const form, js = "application/x-www-form-urlencoded", "application/json"
	f.Add("/botTOKEN/sendMessage", form, []byte("chat_id=USER&text=hi&parse_mode=HTML"))
	f.Add("/botTOKEN/sendMessage", js, []byte(`{"chat_id":USER,"text":"*b* _i_ [x](y) ||s|| `+"`c`"+` >q","parse_mode":"MarkdownV2"}`))
	f.Add("/botTOKEN/sendMessage", js, []byte(`{"chat_id":USER,"text":"<b><pre><code class=\"language-go\">x&#x41;</code></pre>","parse_mode":"HTML"}`))
	f.Add("/botTOKEN/sendMessage", js, []byte(`{"chat_id":USER,"text":"x","entities":[{"type":"bold","offset":-5,"length":99}],"reply_parameters":{}}`))
	f.Add("/botTOKEN/sendMessage", js, []byte(`{"chat_id":GROUP,"text":"x","reply_markup":{"inline_keyboard":[[null],[{}],0]}}`))
	f.Add("/botTOKEN/sendMediaGroup", js, []byte(`{"chat_id":USER,"media":[{"type":"photo","media":"attach://x"}]}`))
	f.Add("/botTOKEN/sendPhoto", "multipart/form-data; boundary=b", []byte("--b\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"x\"\r\n\r\nabc\r\n--b--\r\n"))
	f.Add("/botTOKEN/sendPoll", js, []byte(`{"chat_id":USER,"question":"?","options":["a",1,{"text":null}],"type":"quiz","correct_option_ids":[9]}`))
	f.Add("/botTOKEN/getUpdates", form, []byte("offset=-9223372036854775808&limit=-1&timeout=0&allowed_updates=[1]"))
	f.Add("/botTOKEN/setWebhook", form, []byte("url=http://[::1&secret_token=%20&max_connections=1e9"))
	f.Add("/botTOKEN/editMessageMedia", js, []byte(`{"chat_id":USER,"message_id":2,"media":{"type":"audio"}}`))
	f.Add("/botTOKEN/setMyCommands", js, []byte(`{"scope":{"type":"chat","chat_id":{}},"commands":[{"command":"","description":""}]}`))
	f.Add("/botTOKEN/forwardMessages", js, []byte(`{"chat_id":GROUP,"from_chat_id":USER,"message_ids":[1,2,-1]}`))
	f.Add("/bot1:x/getMe?method=x", "", []byte(nil))
	f.Add("/file/botTOKEN/documents/file_99999999999999999999.", "", []byte(nil))
	f.Add("/file/botTOKEN/test/x", "", []byte(nil))
	f.Add("//bot:/", "multipart/form-data", []byte("--"))
	f.Fuzz(func(t *testing.T, path, contentType string, body []byte) {
		// Waiting is not what is tested here.
		if l := strings.ToLower(path + string(body)); strings.Contains(l, "timeout") && !strings.Contains(l, "timeout=0") {
			return
		}
		srv := bottest.New(bottest.Config{Limits: bottest.NoLimits(), Seed: 1, WebhookTransport: bottest.HandlerTransport(http.NotFoundHandler())})
		defer srv.Close()
		bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
		ann.Write(bot, "/start")
		group := srv.NewGroup("team", ann, bot)
		call(t, srv, bot.Token(), "sendPhoto", "chat_id", ann.ID, "photo", "https://example.com/x.jpg")
		real := strings.NewReplacer("TOKEN", bot.Token(), "USER", itoa(ann.ID), "GROUP", itoa(group.ID)).Replace

		r := httptest.NewRequest("POST", "/", strings.NewReader(real(string(body))))
		at, err := url.Parse(real(path))
		if err != nil {
			return
		}
		r.URL = at
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		srv.Handler().ServeHTTP(w, r)
		var got reply
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got), "%s", w.Body)
		require.Equal(t, w.Code == 200, got.OK)
		if !got.OK {
			require.Equal(t, w.Code, got.ErrorCode)
			require.NotEmpty(t, got.Description)
		}
		srv.Messages(ann.ID)
		srv.Calls()
	})
}
