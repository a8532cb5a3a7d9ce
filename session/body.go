package session

import (
	"bytes"
	"encoding/json"
	"io"
	"sync/atomic"

	"github.com/tgfleet/tgfleet/errors"
)

// body is what a call sends, encoded once and read anew by every attempt.
type body struct {
	contentType string
	// text is the whole body where there is no file, else parts is.
	text  []byte
	parts []part
	// size is the length in bytes; -1 where a file's is not known.
	size int64
	// once says that a part can't be rewound; taken, that it was read; and
	// spoiled, that somebody may still be reading it.
	once           bool
	taken, spoiled atomic.Bool
	// doubt is set once an attempt may have been carried out. It is never cleared.
	doubt atomic.Bool
}

// part is a run of a multipart body: bytes of ours, or a file.
type part struct {
	text   []byte
	file   io.Reader
	seeker io.Seeker // the file's, nil where it can't be rewound
}

func (b *body) rewindable() bool { return !b.once && !b.spoiled.Load() }

// namesURL reports whether a JSON body names a file by a URL that the server
// fetches. URLs of buttons, and those within texts, are none.
func (b *body) namesURL() bool {
	if !holdsURL(b.text) {
		return false
	}
	var params map[string]json.RawMessage
	if json.Unmarshal(b.text, &params) != nil {
		return false
	}
	for _, name := range fileParams {
		if holdsURL(params[name]) {
			return true
		}
	}
	return false
}

// fileParams are the parameters that hold files, alone or in lists.
var fileParams = [...]string{
	"animation", "audio", "content", "cover", "document", "live_photo", "media", "photo",
	"sticker", "stickers", "thumbnail", "video", "video_note", "voice",
}

// holdsURL reports whether a JSON text has a string that begins as a URL.
func holdsURL(text []byte) bool {
	for _, scheme := range [...]string{`"http://`, `"https://`, `"file://`} {
		if bytes.Contains(text, []byte(scheme)) {
			return true
		}
	}
	return false
}

// spoil makes a body one that can't be sent again.
func (b *body) spoil() { b.spoiled.Store(true) }

// open returns a reader of the files and of what stands around them. A body
// that can't be rewound opens once.
func (b *body) open() (*partReader, error) {
	if b.spoiled.Load() || b.once && b.taken.Swap(true) {
		return nil, errors.New("body was sent already and its reader can't be rewound")
	}
	return &partReader{parts: b.parts, left: b.size}, nil
}

// partReader reads parts one after the other. A file that can seek is read
// from its start, as gotgbot's Attach does, each time its turn comes, so that
// one file may stand in a body twice.
type partReader struct {
	parts  []part
	left   int64        // of the announced length; below 0 where none was announced
	text   bytes.Reader // of parts[0], where that is text
	reader io.Reader    // of parts[0], nil before its turn
}

func (r *partReader) Read(p []byte) (int, error) {
	for len(r.parts) > 0 {
		if r.reader == nil {
			if err := r.enter(r.parts[0]); err != nil {
				return 0, err
			}
		}
		n, err := r.reader.Read(p)
		if err == io.EOF || r.parts[0].file == nil && r.text.Len() == 0 {
			r.parts, r.reader = r.parts[1:], nil
			err = nil
		}
		if r.left > 0 {
			r.left = max(r.left-int64(n), 0)
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.EOF
}

// done reports whether all has been read, or as much as was announced: a file
// may have grown meanwhile. The last part is always text, the end of the
// multipart form, so its end is known without another Read.
func (r *partReader) done() bool { return len(r.parts) == 0 || r.left == 0 }

func (r *partReader) enter(p part) error {
	if p.file == nil {
		r.text.Reset(p.text)
		r.reader = &r.text
		return nil
	}
	if p.seeker != nil {
		if _, err := p.seeker.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	r.reader = p.file
	return nil
}
