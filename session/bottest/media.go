package bottest

import (
	"encoding/json"
	"mime"
	"path"
	"strconv"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// sendMedia is the method that sends a file of a kind, named by the field of
// that name.
func sendMedia(kind string) func(*request) (any, *apiError) {
	return func(q *request) (any, *apiError) {
		var m gotgbot.Message
		if bad := q.setMedia(&m, kind, kind, q.params); bad != nil {
			return nil, bad
		}
		return q.send(&m)
	}
}

// setMedia makes the file in p[field] the content of a message.
func (q *request) setMedia(m *gotgbot.Message, kind, field string, p params) *apiError {
	f, bad := q.inputFile(p, field, kind)
	if bad != nil {
		return bad
	}
	if m.Caption, m.CaptionEntities, bad = p.caption(); bad != nil {
		return bad
	}
	m.ShowCaptionAboveMedia = p.bool("show_caption_above_media")
	m.HasMediaSpoiler = p.bool("has_spoiler")
	thumbnail, bad := q.thumbnail(p)
	if bad != nil {
		return bad
	}
	most := int64(1 << 31)
	width, height := p.int("width", 1280, 1, most), p.int("height", 720, 1, most)
	duration := p.int("duration", 0, 0, most)
	switch kind {
	case "photo":
		m.Photo = photoSizes(f)
	case "document":
		m.Document = &gotgbot.Document{
			FileId: f.id, FileUniqueId: f.unique, Thumbnail: thumbnail, FileName: f.name, MimeType: f.mimeType(), FileSize: f.size,
		}
	case "video":
		m.Video = &gotgbot.Video{
			FileId: f.id, FileUniqueId: f.unique, Width: width, Height: height, Duration: duration,
			Thumbnail: thumbnail, FileName: f.name, MimeType: f.mimeType(), FileSize: f.size,
		}
	case "audio":
		m.Audio = &gotgbot.Audio{
			FileId: f.id, FileUniqueId: f.unique, Duration: duration, Performer: p.get("performer"), Title: p.get("title"),
			FileName: f.name, MimeType: f.mimeType(), FileSize: f.size, Thumbnail: thumbnail,
		}
	case "voice":
		m.Voice = &gotgbot.Voice{
			FileId: f.id, FileUniqueId: f.unique, Duration: duration, MimeType: f.mimeType(), FileSize: f.size,
		}
	case "animation":
		m.Animation = &gotgbot.Animation{
			FileId: f.id, FileUniqueId: f.unique, Width: width, Height: height, Duration: duration,
			Thumbnail: thumbnail, FileName: f.name, MimeType: f.mimeType(), FileSize: f.size,
		}
		m.Document = &gotgbot.Document{ // the real server sets both
			FileId: f.id, FileUniqueId: f.unique, Thumbnail: thumbnail, FileName: f.name, MimeType: f.mimeType(), FileSize: f.size,
		}
	case "video_note":
		m.VideoNote = &gotgbot.VideoNote{
			FileId: f.id, FileUniqueId: f.unique, Length: p.int("length", 240, 1, 640), Duration: duration,
			Thumbnail: thumbnail, FileSize: f.size,
		}
	case "sticker":
		m.Sticker = &gotgbot.Sticker{
			FileId: f.id, FileUniqueId: f.unique, Type: "regular", Width: 512, Height: 512,
			Emoji: p.get("emoji"), FileSize: f.size,
		}
	}
	return nil
}

// photoSizes are the sizes the server makes of a photo. The last is the one
// that was sent.
func photoSizes(f *file) []gotgbot.PhotoSize {
	small := gotgbot.PhotoSize{FileId: f.id, FileUniqueId: f.unique, Width: 90, Height: 51, FileSize: min(f.size, 1200)}
	whole := gotgbot.PhotoSize{FileId: f.id, FileUniqueId: f.unique, Width: 1280, Height: 720, FileSize: f.size}
	return []gotgbot.PhotoSize{small, whole}
}

// thumbnail reads the thumbnail, which must be uploaded with the request.
func (q *request) thumbnail(p params) (*gotgbot.PhotoSize, *apiError) {
	if p.get("thumbnail") == "" && q.files["thumbnail"] == nil {
		return nil, nil
	}
	f, bad := q.inputFile(p, "thumbnail", "thumbnail")
	if bad != nil {
		return nil, bad
	}
	return &gotgbot.PhotoSize{FileId: f.id, FileUniqueId: f.unique, Width: 320, Height: 180, FileSize: f.size}, nil
}

func (f *file) mimeType() string {
	if f.mime != "" && f.mime != "application/octet-stream" {
		return f.mime
	}
	if kind := mime.TypeByExtension(path.Ext(f.name)); kind != "" {
		return kind
	}
	switch f.kind {
	case "video", "animation":
		return "video/mp4"
	case "audio":
		return "audio/mpeg"
	case "voice":
		return "audio/ogg"
	}
	return "application/octet-stream"
}

const maxGroup = 10 // items of an album (Bot API, sendMediaGroup)

// sendMediaGroup sends an album.
func sendMediaGroup(q *request) (any, *apiError) {
	var items []json.RawMessage
	found, err := q.params.json("media", &items)
	switch {
	case err != nil:
		return nil, badRequest("can't parse media JSON object")
	case !found || len(items) == 0:
		return nil, badRequest("there are no messages to send")
	case len(items) > maxGroup:
		return nil, badRequest("too many messages to send as an album")
	}
	all := make([]*gotgbot.Message, len(items))
	group := strconv.FormatInt(q.srv.rand.between(1<<43, 1<<44), 10)
	kinds := make(map[string]bool)
	for i, raw := range items {
		m := &gotgbot.Message{}
		if len(items) > 1 {
			m.MediaGroupId = group
		}
		kind, bad := q.setInputMedia(m, raw)
		if bad != nil {
			return nil, bad
		}
		if kind == "animation" {
			return nil, badRequest(`can't parse InputMedia: type "animation" can't be used in sendMediaGroup`)
		}
		if kind == "photo" {
			kind = "video" // these two mix
		}
		kinds[kind] = true
		all[i] = m
	}
	if len(kinds) > 1 {
		return nil, badRequest(kindsMixed(kinds))
	}
	return q.sendAll(all)
}

func kindsMixed(kinds map[string]bool) string {
	if kinds["document"] {
		return "document can't be mixed with other media types"
	}
	return "audio can't be mixed with other media types"
}

// setInputMedia makes an InputMedia the content of a message and returns its
// kind.
func (q *request) setInputMedia(m *gotgbot.Message, raw json.RawMessage) (kind string, bad *apiError) {
	p := make(params)
	if !p.addJSON(raw) {
		return "", badRequest("can't parse InputMedia: expected an Object")
	}
	switch kind = p.get("type"); kind {
	case "photo", "video", "animation", "audio", "document":
	default:
		return "", badRequest(`can't parse InputMedia: type "` + kind + `" is unsupported`)
	}
	if p.get("media") == "" {
		return "", badRequest("can't parse InputMedia: media not found")
	}
	return kind, q.setMedia(m, kind, "media", p)
}
