package bottest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// What the server keeps of files in all.
const (
	maxContents = 16 << 20 // bytes
	maxFileIDs  = 50_000
)

// file is one that was uploaded or named by a URL.
type file struct {
	number  int64
	bot     int64 // a file_id is good for one bot only
	id      string
	unique  string
	name    string
	mime    string
	kind    string
	size    int64
	content []byte // nil if it was too large or is forgotten
}

// fileStore knows the files of all bots.
type fileStore struct {
	mu       sync.Mutex
	byID     map[string]*file
	byNumber map[int64]*file
	first    int64 // the oldest number there may be
	fullest  int64 // the oldest number that may have content
	last     int64
	contents int64 // bytes
}

func (f *fileStore) init() {
	f.byID = make(map[string]*file)
	f.byNumber = make(map[int64]*file)
	f.first, f.fullest = 1, 1
}

// idPrefix begins the file_ids of a kind, as on the real server.
func idPrefix(kind string) string {
	switch kind {
	case "photo":
		return "AgACAgIAAxkBAAI"
	case "voice":
		return "AwACAgIAAxkBAAI"
	case "video":
		return "BAACAgIAAxkBAAI"
	case "sticker":
		return "CAACAgIAAxkBAAI"
	case "audio":
		return "CQACAgIAAxkBAAI"
	case "animation":
		return "CgACAgIAAxkBAAI"
	case "video_note":
		return "DQACAgIAAxkBAAI"
	case "thumbnail":
		return "AAMCAgADGQEAAgM"
	}
	return "BQACAgIAAxkBAAI"
}

// addFile remembers a file and gives it its ids.
func (s *Server) addFile(f *file, hash []byte) *file {
	f.id = idPrefix(f.kind) + s.rand.text(42) + "E"
	f.unique = "AQAD" + base64.RawURLEncoding.EncodeToString(hash[:9])
	k := &s.files
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last++
	f.number = k.last
	k.byID[f.id], k.byNumber[f.number] = f, f
	k.contents += int64(len(f.content))
	for ; k.contents > maxContents && k.fullest < k.last; k.fullest++ {
		if old := k.byNumber[k.fullest]; old != nil {
			k.contents -= int64(len(old.content))
			old.content = nil
		}
	}
	for ; len(k.byID) > maxFileIDs; k.first++ {
		if old := k.byNumber[k.first]; old != nil {
			k.contents -= int64(len(old.content))
			delete(k.byID, old.id)
			delete(k.byNumber, old.number)
		}
	}
	return f
}

// AddFile gives the server a file as if a user had sent it to the bot, and
// returns it with its file_id, to be put into a message for [User.Send] or
// given to getFile.
func (b *Bot) AddFile(name string, content []byte) gotgbot.File {
	hash := sha256.Sum256(content)
	f := b.srv.addFile(&file{
		bot: b.id, name: name, kind: "document", size: int64(len(content)), content: append([]byte{}, content...),
	}, hash[:])
	return gotgbot.File{FileId: f.id, FileUniqueId: f.unique, FileSize: f.size, FilePath: f.path()}
}

func (k *fileStore) find(bot int64, id string) *file {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f := k.byID[id]; f != nil && f.bot == bot {
		return f
	}
	return nil
}

// path is where the file is downloaded from.
func (f *file) path() string {
	folder := "documents"
	switch f.kind {
	case "photo", "sticker", "video", "animation", "thumbnail":
		folder = f.kind + "s"
	case "voice", "audio":
		folder = map[string]string{"voice": "voice", "audio": "music"}[f.kind]
	case "video_note":
		folder = "video_notes"
	}
	return folder + "/file_" + strconv.FormatInt(f.number, 10) + path.Ext(f.name)
}

// inputFile finds the file a parameter means: one of the request's, one named
// by its file_id, or one at a URL.
func (q *request) inputFile(p params, field, kind string) (*file, *apiError) {
	value := p.get(field)
	u := q.files[field]
	if name, ok := strings.CutPrefix(value, "attach://"); ok {
		u = q.files[name]
	} else if value != "" {
		u = nil
	}
	what := strings.ReplaceAll(kind, "_", " ")
	switch {
	case u != nil:
		return q.uploaded(u, kind)
	case value == "" || strings.HasPrefix(value, "attach://"):
		return nil, badRequest("there is no " + what + " in the request")
	case strings.HasPrefix(value, "http://") || strings.HasPrefix(value, "https://"):
		at, err := url.Parse(value)
		if err != nil || at.Hostname() == "" {
			return nil, badRequest("wrong HTTP URL specified")
		}
		hash := sha256.Sum256([]byte(value))
		return q.srv.addFile(&file{bot: q.bot.id, name: path.Base(at.Path), kind: kind}, hash[:]), nil
	}
	f := q.srv.files.find(q.bot.id, value)
	switch {
	case f == nil:
		return nil, badRequest("wrong file identifier/HTTP URL specified")
	case f.kind != kind && f.kind != "document":
		return nil, badRequest("can't use file of type " + entityName(f.kind) + " as " + entityName(kind))
	}
	return f, nil
}

func (q *request) uploaded(u *upload, kind string) (*file, *apiError) {
	if u.Size == 0 {
		return nil, badRequest("file must be non-empty")
	}
	if most := q.srv.cfg.Limits.PhotoSize; kind == "photo" && most > 0 && u.Size > most {
		return nil, badRequest("file of size " + strconv.FormatInt(u.Size, 10) +
			" bytes is too big for a photo; the maximum size is " + strconv.FormatInt(most, 10) + " bytes")
	}
	hash, _ := hex.DecodeString(u.SHA256)
	return q.srv.addFile(&file{
		bot: q.bot.id, name: u.Name, mime: u.ContentType, kind: kind, size: u.Size, content: u.content,
	}, hash), nil
}

func getFile(q *request) (any, *apiError) {
	id := q.params.get("file_id")
	if id == "" {
		return nil, badRequest("file_id not specified")
	}
	f := q.srv.files.find(q.bot.id, id)
	if f == nil {
		return nil, badRequest("invalid file_id")
	}
	if most := q.srv.cfg.Limits.DownloadSize; most > 0 && f.size > most {
		return nil, badRequest("file is too big")
	}
	return gotgbot.File{FileId: f.id, FileUniqueId: f.unique, FileSize: f.size, FilePath: f.path()}, nil
}

// serveFile answers the download of a file.
func (s *Server) serveFile(w http.ResponseWriter, r *http.Request, q *request, name string, wait time.Duration, do Action) {
	f, bad := s.fileAt(q, name)
	if bad == nil && do.step == stepNone {
		if q.sleep(wait) {
			q.call.Executed = true
			q.record(answer{status: http.StatusOK})
			f.write(w)
		}
		return
	}
	q.respond(w, r, wait, do, func(wait time.Duration) answer {
		if q.sleep(wait); bad != nil {
			return answerError(bad)
		}
		q.call.Executed = true
		return answer{status: http.StatusOK, kind: "application/octet-stream", body: f.content}
	})
}

// fileAt finds a file by its path. It takes any extension.
func (s *Server) fileAt(q *request, name string) (*file, *apiError) {
	switch {
	case !validToken(q.token):
		return nil, notFound()
	case q.bot == nil:
		return nil, unauthorized()
	}
	_, base, _ := strings.Cut(name, "/file_")
	number, _ := strconv.ParseInt(strings.TrimSuffix(base, path.Ext(base)), 10, 64)
	s.files.mu.Lock()
	defer s.files.mu.Unlock()
	f := s.files.byNumber[number]
	if f == nil || f.bot != q.bot.id || f.path() != name {
		return nil, &apiError{code: http.StatusNotFound, description: "Not Found: invalid file path"}
	}
	copied := *f // the store may forget its content
	return &copied, nil
}

// write sends the content, or as many zero bytes.
func (f *file) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(f.size, 10))
	if f.content != nil {
		_, _ = w.Write(f.content)
		return
	}
	_, _ = io.CopyN(w, zeros{}, f.size)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
