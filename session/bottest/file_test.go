package bottest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/session/bottest"
)

// download gets a file the way bots do.
func download(t testing.TB, srv *bottest.Server, token, path string) (int, []byte) {
	t.Helper()
	r, err := http.NewRequest("GET", "https://api.telegram.org/file/bot"+token+"/"+path, nil)
	require.NoError(t, err)
	resp, err := srv.Transport().RoundTrip(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, body
}

func TestUploadAndDownload(t *testing.T) {
	srv := newServer(t, bottest.Config{})
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	b := client(t, srv, bot)
	ann.Write(bot, "/start")

	m, err := b.SendDocument(ann.ID, gotgbot.InputFileByReader("list.txt", strings.NewReader("bread, milk")), &gotgbot.SendDocumentOpts{
		Caption: "buy", Thumbnail: gotgbot.InputFileByReader("t.jpg", strings.NewReader("tiny")),
	})
	require.NoError(t, err)
	require.Equal(t, "list.txt", m.Document.FileName)
	require.EqualValues(t, 11, m.Document.FileSize)
	require.NotNil(t, m.Document.Thumbnail)

	calls := srv.Calls()
	files := calls[len(calls)-1].Files
	require.Len(t, files, 2)
	for _, f := range files {
		if f.Field == "document" {
			sum := sha256.Sum256([]byte("bread, milk"))
			require.Equal(t, hex.EncodeToString(sum[:]), f.SHA256)
			require.EqualValues(t, 11, f.Size)
		}
	}

	f, err := b.GetFile(m.Document.FileId, nil)
	require.NoError(t, err)
	require.Equal(t, m.Document.FileUniqueId, f.FileUniqueId)
	status, body := download(t, srv, bot.Token(), f.FilePath)
	require.Equal(t, 200, status)
	require.Equal(t, "bread, milk", string(body))
	require.Equal(t, 1, srv.CallCount("download"))

	again, err := b.SendDocument(ann.ID, gotgbot.InputFileByID(m.Document.FileId), nil)
	require.NoError(t, err)
	require.Equal(t, m.Document.FileId, again.Document.FileId)

	other := srv.NewBot("other_bot")
	require.Equal(t, "Bad Request: invalid file_id", call(t, srv, other.Token(), "getFile", "file_id", f.FileId).Description)
	status, _ = download(t, srv, other.Token(), f.FilePath)
	require.Equal(t, 404, status, "a file_id and a path are good for one bot")
	status, _ = download(t, srv, "1:x", f.FilePath)
	require.Equal(t, 401, status)
	status, _ = download(t, srv, "x", f.FilePath)
	require.Equal(t, 404, status)
}

func TestAlbumsCarryTheirFiles(t *testing.T) {
	srv := newServer(t, bottest.Config{})
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	b := client(t, srv, bot)
	ann.Write(bot, "/start")
	ms, err := b.SendMediaGroup(ann.ID, []gotgbot.InputMedia{
		gotgbot.InputMediaPhoto{Media: gotgbot.InputFileByReader("a.jpg", strings.NewReader("a")), Caption: "first"},
		gotgbot.InputMediaVideo{Media: gotgbot.InputFileByReader("b.mp4", strings.NewReader("bb"))},
	}, nil)
	require.NoError(t, err)
	require.Len(t, ms, 2)
	require.Equal(t, ms[0].MediaGroupId, ms[1].MediaGroupId)
	require.Equal(t, "first", ms[0].Caption)
	require.EqualValues(t, 2, ms[1].Video.FileSize)
}

func TestUsersSendFiles(t *testing.T) {
	srv := newServer(t, bottest.Config{})
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	f := bot.AddFile("cat.jpg", []byte("meow"))
	ann.Send(bot, gotgbot.Message{Caption: "my cat", Document: &gotgbot.Document{FileId: f.FileId, FileUniqueId: f.FileUniqueId}})
	u := call(t, srv, bot.Token(), "getUpdates").updates(t)[0]
	var got gotgbot.File
	require.NoError(t, json.Unmarshal(call(t, srv, bot.Token(), "getFile", "file_id", u.Message.Document.FileId).Result, &got))
	_, body := download(t, srv, bot.Token(), got.FilePath)
	require.Equal(t, "meow", string(body))
}

// upload streams n bytes as a document.
func upload(t testing.TB, srv *bottest.Server, token, method, field string, chat int64, n int64) reply {
	t.Helper()
	pr, pw := io.Pipe()
	w := multipart.NewWriter(pw)
	go func() {
		_ = w.WriteField("chat_id", itoa(chat))
		part, _ := w.CreateFormFile(field, "big.bin")
		_, _ = io.CopyN(part, endless{}, n)
		_ = w.Close()
		pw.Close()
	}()
	r, err := http.NewRequest("POST", "http://x/bot"+token+"/"+method, pr)
	require.NoError(t, err)
	r.Header.Set("Content-Type", w.FormDataContentType())
	return do(t, srv, r)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestFileSizes(t *testing.T) {
	srv := newServer(t, bottest.Config{Limits: bottest.Limits{PrivateBurst: 100}})
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	ann.Write(bot, "/start")
	size := func(method, field string, n int64) reply {
		return upload(t, srv, bot.Token(), method, field, ann.ID, n)
	}

	require.Equal(t, "Bad Request: file must be non-empty", size("sendDocument", "document", 0).Description)
	require.True(t, size("sendPhoto", "photo", 10<<20).OK)
	require.Contains(t, size("sendPhoto", "photo", 10<<20+1).Description, "is too big for a photo")
	m := size("sendDocument", "document", 20<<20).message(t)
	got := call(t, srv, bot.Token(), "getFile", "file_id", m.Document.FileId)
	require.True(t, got.OK)
	var f gotgbot.File
	require.NoError(t, json.Unmarshal(got.Result, &f))
	_, body := download(t, srv, bot.Token(), f.FilePath)
	require.Len(t, body, 20<<20)
	require.Zero(t, bytes.Trim(body, "\x00"), "the content of a large file is not kept")
	m = size("sendDocument", "document", 20<<20+1).message(t)
	require.Equal(t, "Bad Request: file is too big", call(t, srv, bot.Token(), "getFile", "file_id", m.Document.FileId).Description)
	require.True(t, size("sendDocument", "document", 50<<20).OK)
	over := size("sendDocument", "document", 50<<20+1)
	require.Equal(t, 413, over.Status)
	require.Equal(t, "Request Entity Too Large", over.Description)
}

func TestUploadsAreNotHeld(t *testing.T) {
	srv := newServer(t, bottest.Config{})
	bot, ann := srv.NewBot("shop_bot"), srv.NewUser("Ann")
	ann.Write(bot, "/start")
	require.True(t, upload(t, srv, bot.Token(), "sendDocument", "document", ann.ID, 1<<20).OK) // warm up
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.True(t, upload(t, srv, bot.Token(), "sendDocument", "document", ann.ID, 50<<20).OK)
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "of 50 MB")
}
