package session_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// sent is what a call put on the wire.
type sent struct {
	path, contentType string
	length            int64
	body              []byte
}

// capture returns a transport that keeps every request.
func capture(into *[]sent) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		*into = append(*into, sent{r.URL.Path, r.Header.Get("Content-Type"), r.ContentLength, body})
		return answer(r, 200, `{"ok":true,"result":true}`), nil
	})
}

// fields reads a body's parameters, as a Bot API server does: a text as it is
// and anything else as JSON.
func (s sent) fields(t *testing.T) (fields, files map[string]string) {
	t.Helper()
	fields, files = map[string]string{}, map[string]string{}
	kind, params, err := mime.ParseMediaType(s.contentType)
	require.NoError(t, err)
	if kind == "application/json" {
		var raw map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(s.body, &raw), "%s", s.body)
		for name, v := range raw {
			var text string
			if json.Unmarshal(v, &text) != nil {
				text = string(v)
			}
			fields[name] = text
		}
		return fields, files
	}
	r := multipart.NewReader(bytes.NewReader(s.body), params["boundary"])
	for {
		p, err := r.NextPart()
		if err == io.EOF {
			return fields, files
		}
		require.NoError(t, err)
		b, err := io.ReadAll(p)
		require.NoError(t, err)
		if p.FileName() != "" {
			files[p.FormName()] = p.FileName() + "=" + string(b)
		} else {
			fields[p.FormName()] = string(b)
		}
	}
}

func file(name, text string) gotgbot.InputFile {
	return gotgbot.InputFileByReader(name, strings.NewReader(text))
}

// unseekable hides all but Read.
type unseekable struct{ io.Reader }

var encodings = map[string]map[string]any{
	"nothing": {},
	"simple values": {
		"chat_id": int64(-100123), "text": "hi \"you\" \\ <b>&</b> \n\t\x01 \u2028 日本 🎉", "disable_notification": true,
		"f": 1.5, "tiny": 0.000001, "huge": 1e21, "i": 7, "u8": uint8(8), "f32": float32(0.1),
	},
	"texts": {"empty": "", "quote": `"`, "pointer": new("x")},
	"objects": {
		"reply_markup":    gotgbot.InlineKeyboardMarkup{InlineKeyboard: [][]gotgbot.InlineKeyboardButton{{{Text: "<a>", CallbackData: "b"}}}},
		"allowed_updates": []string{"message", "callback_query"},
		"reply":           &gotgbot.ReplyParameters{MessageId: 5},
		"map":             map[string]any{"a": []int{1, 2}},
	},
	"a file by id":    {"chat_id": int64(1), "document": gotgbot.InputFileByID("AgAD")},
	"a file by URL":   {"chat_id": int64(1), "photo": gotgbot.InputFileByURL("https://example.org/a.png?x=1&y=2")},
	"a file to send":  {"chat_id": int64(1), "document": file("a.txt", "AAA"), "caption": "see \"this\"", "reply_markup": gotgbot.ReplyKeyboardRemove{RemoveKeyboard: true}},
	"a thumbnail too": {"document": file("a.txt", "AAA"), "thumbnail": file("t.jpg", "TTT")},
	"an id with a thumbnail to send": {
		"document": gotgbot.InputFileByID("AgAD"), "thumbnail": file("t.jpg", "TTT"),
	},
	"a media group": {"chat_id": int64(1), "media": gotgbot.InputMedias{
		gotgbot.InputMediaPhoto{Media: file("1.jpg", "one"), Caption: "first"},
		gotgbot.InputMediaVideo{Media: file("2.mp4", "two"), Thumbnail: file("2.jpg", "two's")},
		&gotgbot.InputMediaDocument{Media: gotgbot.InputFileByID("AgAD")},
		gotgbot.InputMediaPhoto{Media: gotgbot.InputFileByURL("https://example.org/3.jpg")},
	}},
	"one media to edit": {"media": gotgbot.InputMediaAnimation{Media: file("a.gif", "GIF"), Thumbnail: file("t.jpg", "T")}},
	"stickers": {"stickers": []gotgbot.InputSticker{
		{Sticker: gotgbot.InputFileByID("x"), Format: "static", EmojiList: []string{"🙂"}},
	}},
	"a file without a name": {"photo": file("", "P")},
	"paid media":            {"media": gotgbot.InputPaidMedias{gotgbot.InputPaidMediaPhoto{Media: file("p.jpg", "P")}}},
}

// Whatever gotgbot's own client sends, ours sends too: the same fields with the
// same values, and the same files under the same names.
func TestEncodingIsGotgbots(t *testing.T) {
	for name, params := range encodings {
		t.Run(name, func(t *testing.T) {
			var theirs, ours []sent
			bare := &gotgbot.BaseBotClient{Client: http.Client{Transport: capture(&theirs)}}
			_, err := bare.RequestWithContext(context.Background(), canary, "sendAny", clone(params), nil)
			require.NoError(t, err)

			c := newSession(t, session.Config{Transport: capture(&ours)}).Client("k")
			_, err = c.RequestWithContext(context.Background(), canary, "sendAny", params, nil)
			require.NoError(t, err)

			wantFields, wantFiles := theirs[0].fields(t)
			delete(wantFields, "_empty")
			gotFields, gotFiles := ours[0].fields(t)
			assert.Equal(t, wantFiles, gotFiles)
			for name, want := range wantFields {
				if json.Valid([]byte(want)) && json.Valid([]byte(gotFields[name])) {
					assert.JSONEq(t, want, gotFields[name], name)
				} else {
					assert.Equal(t, want, gotFields[name], name)
				}
			}
			assert.Len(t, gotFields, len(wantFields))
			assert.Equal(t, int64(len(ours[0].body)), ours[0].length, "Content-Length")
			if len(gotFiles) == 0 {
				assert.Equal(t, "application/json", ours[0].contentType)
			}
		})
	}
}

func clone(params map[string]any) map[string]any {
	c := make(map[string]any, len(params))
	for k, v := range params {
		c[k] = v
	}
	return c
}

func TestParametersThatAreNotThereAreNotSent(t *testing.T) {
	var got []sent
	c := newSession(t, session.Config{Transport: capture(&got)}).Client("k")
	var noText *string
	var noFile *gotgbot.FileReader
	for _, withFile := range []bool{false, true} {
		params := map[string]any{"a": 1, "nothing": nil, "text": noText, "thumbnail": noFile, "reply": (*gotgbot.ReplyParameters)(nil)}
		if withFile {
			params["document"] = file("a", "A")
		}
		_, err := c.RequestWithContext(context.Background(), canary, "sendAny", params, nil)
		require.NoError(t, err)
		fields, _ := got[len(got)-1].fields(t)
		delete(fields, "document")
		assert.Equal(t, map[string]string{"a": "1"}, fields)
	}
}

func TestUploadOfAReaderThatCannotSeek(t *testing.T) {
	var got []sent
	var rewindable []bool
	mw := func(next session.Invoker) session.Invoker {
		return session.InvokerFunc(func(ctx context.Context, call *session.Call) (json.RawMessage, error) {
			rewindable = append(rewindable, call.Rewindable())
			if _, err := next.Invoke(ctx, call); err != nil {
				return nil, err
			}
			return next.Invoke(ctx, call.Next())
		})
	}
	s := newSession(t, session.Config{Transport: capture(&got), Middleware: []session.Middleware{mw}})
	bot := s.Bot("k", mustToken(t, canary), gotgbot.User{})

	_, err := bot.Request("sendDocument", map[string]any{"document": file("a.txt", "AAA")}, nil)
	require.NoError(t, err)
	require.Len(t, got, 2)
	assert.Equal(t, got[0].body, got[1].body, "every attempt sends the same bytes")

	_, err = bot.Request("sendDocument", map[string]any{
		"document": gotgbot.InputFileByReader("b.txt", unseekable{strings.NewReader("BBB")}),
	}, nil)
	assert.Equal(t, errors.Internal, errors.KindOf(err), "a second attempt must not send an empty file")
	require.Len(t, got, 3)
	assert.Equal(t, int64(-1), got[2].length)
	_, files := got[2].fields(t)
	assert.Equal(t, map[string]string{"document": "b.txt=BBB"}, files)
	assert.Equal(t, []bool{true, false}, rewindable)
}

func TestUploadOfFilesOfTheSystem(t *testing.T) {
	var got []sent
	c := newSession(t, session.Config{Transport: capture(&got)}).Client("k")
	send := func(f *os.File) map[string]string {
		_, err := c.RequestWithContext(context.Background(), canary, "sendDocument",
			map[string]any{"document": gotgbot.InputFileByReader("f", f)}, nil)
		require.NoError(t, err)
		_, files := got[len(got)-1].fields(t)
		return files
	}
	t.Run("a pipe, whose Seek fails", func(t *testing.T) {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		_, err = w.WriteString("piped")
		require.NoError(t, err)
		w.Close()
		assert.Equal(t, "f=piped", send(r)["document"])
	})
	t.Run("a file that was read before is sent whole", func(t *testing.T) {
		f, err := os.Create(t.TempDir() + "/f")
		require.NoError(t, err)
		defer f.Close()
		_, err = f.WriteString("whole")
		require.NoError(t, err)
		assert.Equal(t, "f=whole", send(f)["document"])
	})
	if runtime.GOOS != "linux" {
		return
	}
	t.Run("a file of /proc, which claims to be empty", func(t *testing.T) {
		f, err := os.Open("/proc/self/status")
		require.NoError(t, err)
		defer f.Close()
		assert.Contains(t, send(f)["document"], "Pid:")
	})
}

// A transport may read on after RoundTrip has returned. The next attempt reads
// the same file, and must find it whole.
func TestATransportThatReadsOnDoesNotSpoilTheNextAttempt(t *testing.T) {
	content := strings.Repeat("0123456789", 100_000)
	var got []sent
	var behind sync.WaitGroup
	first := true
	keep := capture(&got)
	wire := roundTrip(func(r *http.Request) (*http.Response, error) {
		if !first {
			return keep.RoundTrip(r)
		}
		first = false
		_, err := io.CopyN(io.Discard, r.Body, 1000)
		behind.Go(func() { _, _ = io.Copy(io.Discard, r.Body) })
		return nil, errors.Join(err, io.EOF)
	})
	again := func(next session.Invoker) session.Invoker {
		return session.InvokerFunc(func(ctx context.Context, call *session.Call) (json.RawMessage, error) {
			if _, err := next.Invoke(ctx, call); err == nil {
				t.Error("the first attempt should fail")
			}
			return next.Invoke(ctx, call.Next())
		})
	}
	for range 20 {
		first, got = true, nil
		c := newSession(t, session.Config{Transport: wire, Middleware: []session.Middleware{again}}).Client("k")
		_, err := c.RequestWithContext(context.Background(), canary, "sendDocument", map[string]any{"document": file("f", content)}, nil)
		require.NoError(t, err)
		_, files := got[0].fields(t)
		assert.True(t, files["document"] == "f="+content, "the file was spoiled")
		behind.Wait()
	}
}

// attaches is a caller's own Attach.
type attaches struct{ fail, panics bool }

func (a attaches) Attach(name string, w *multipart.Writer) error {
	if a.panics {
		panic(canary)
	}
	if a.fail {
		return errors.New(canary)
	}
	p, err := w.CreateFormFile(name, "own")
	if err != nil {
		return err
	}
	_, err = p.Write([]byte("mine"))
	return err
}

type failsToMarshal struct{}

func (failsToMarshal) MarshalJSON() ([]byte, error) { return nil, errors.New("with " + canary) }

type cyclic struct {
	attaches
	Next *cyclic
}

func TestParametersOfTheCallersOwnTypes(t *testing.T) {
	var got []sent
	c := newSession(t, session.Config{Transport: capture(&got)}).Client("k")
	request := func(v any) error {
		_, err := c.RequestWithContext(context.Background(), canary, "sendAny", map[string]any{"v": v}, nil)
		return err
	}
	require.NoError(t, request(attaches{}))
	_, files := got[0].fields(t)
	assert.Equal(t, map[string]string{"v": "own=mine"}, files)

	loop := &cyclic{}
	loop.Next = loop
	for name, v := range map[string]any{
		"an Attach that fails":      attaches{fail: true},
		"an Attach that panics":     attaches{panics: true},
		"a MarshalJSON that fails":  failsToMarshal{},
		"NaN":                       math.NaN(),
		"infinity":                  math.Inf(1),
		"a channel":                 make(chan int),
		"a value that holds itself": loop,
	} {
		t.Run(name, func(t *testing.T) {
			err := request(v)
			assert.Equal(t, errors.BadRequest, errors.KindOf(err))
			assert.NotContains(t, err.Error(), canarySecret)
			assert.True(t, errors.SafeToRepeat(err), "nothing was sent")
		})
	}
}

func FuzzEncodeText(f *testing.F) {
	for _, s := range []string{"", "a", "\"", "\\", "\x00", "\xff", "\u2028", "<>&", "🎉", "a\"b"} {
		f.Add(s)
	}
	var got []sent
	s, err := session.New(session.Config{Transport: capture(&got)})
	if err != nil {
		f.Fatal(err)
	}
	c := s.Client("k")
	f.Fuzz(func(t *testing.T, text string) {
		got = got[:0]
		_, err := c.RequestWithContext(context.Background(), canary, "sendMessage", map[string]any{"text": text, text: 1}, nil)
		require.NoError(t, err)
		var m map[string]any
		require.NoError(t, json.Unmarshal(got[0].body, &m), "%s", got[0].body)
		if text != "text" {
			assert.Equal(t, strings.ToValidUTF8(text, "\ufffd"), strings.ToValidUTF8(m["text"].(string), "\ufffd"))
		}
	})
}
