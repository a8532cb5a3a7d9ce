package bottest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"unicode/utf8"
)

// maxFields bounds in bytes what a request may carry besides its files.
const maxFields = 8 << 20

func tooLarge() *apiError {
	return &apiError{code: http.StatusRequestEntityTooLarge, description: "Request Entity Too Large"}
}

// upload is a file of a request.
type upload struct {
	Upload
	content []byte // nil if it is too large to be kept
}

func mediaType(r *http.Request) string {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return r.Header.Get("Content-Type")
	}
	return kind
}

// read takes the parameters and files of a request from its URL and body.
// What the URL says comes first, as on the real server.
func (q *request) read(r *http.Request) *apiError {
	q.params = make(params)
	defer func() { q.call.Params = q.params }()
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil && len(query) == 0 && r.URL.RawQuery != "" {
		return badRequest("can't parse the URL's query")
	}
	q.params.addAll(query)
	if r.ContentLength > q.srv.cfg.MaxUpload+maxFields {
		drain(r.Body, q.srv.cfg.MaxUpload)
		return tooLarge()
	}
	body := http.MaxBytesReader(nil, r.Body, q.srv.cfg.MaxUpload+maxFields)
	bad := q.readBody(body, r.Header.Get("Content-Type"))
	drain(r.Body, q.srv.cfg.MaxUpload) // so that the client, still sending, hears the answer
	if bad == nil && !q.params.valid() {
		bad = badRequest("strings must be encoded in UTF-8")
	}
	return bad
}

// drain reads what is left of a body, within reason.
func drain(body io.Reader, limit int64) {
	_, _ = io.Copy(io.Discard, io.LimitReader(body, 4*limit))
}

func (q *request) readBody(body io.Reader, contentType string) *apiError {
	kind, options, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind = ""
	}
	switch kind {
	case "multipart/form-data":
		return q.readMultipart(multipart.NewReader(body, options["boundary"]))
	case "application/x-www-form-urlencoded":
		text, bad := readFields(body)
		if bad != nil {
			return bad
		}
		form, err := url.ParseQuery(string(text))
		if err != nil && len(form) == 0 {
			return badRequest("can't parse parameters")
		}
		q.params.addAll(form)
	case "application/json":
		text, bad := readFields(body)
		if bad != nil {
			return bad
		}
		if len(bytes.TrimSpace(text)) == 0 {
			return nil
		}
		if !q.params.addJSON(text) {
			return badRequest("can't parse JSON object")
		}
	}
	return nil // a body of another kind says nothing
}

func readFields(body io.Reader) ([]byte, *apiError) {
	text, err := io.ReadAll(io.LimitReader(body, maxFields+1))
	switch {
	case len(text) > maxFields:
		return nil, tooLarge()
	case err != nil:
		return nil, badRequest("can't read the request")
	}
	return text, nil
}

// readMultipart reads a form part by part. A file passes through in pieces;
// only a small one is kept whole.
func (q *request) readMultipart(form *multipart.Reader) *apiError {
	var files int64
	fields := int64(maxFields)
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return formError(err)
		}
		name := part.FormName()
		if name == "" {
			continue
		}
		if part.FileName() == "" {
			text, err := io.ReadAll(io.LimitReader(part, fields+1))
			if err != nil {
				return formError(err)
			}
			if fields -= int64(len(text)); fields < 0 {
				return tooLarge()
			}
			q.params.add(name, string(text))
			continue
		}
		u, err := q.readFile(part)
		if err != nil {
			return formError(err)
		}
		if files += u.Size; files > q.srv.cfg.MaxUpload {
			return tooLarge()
		}
		if q.files == nil {
			q.files = make(map[string]*upload)
		}
		if _, twice := q.files[name]; !twice {
			q.files[name] = u
			q.call.Files = append(q.call.Files, u.Upload)
		}
		if len(q.files) > maxFiles {
			return badRequest("too many files")
		}
	}
}

// maxFiles bounds the files of one request.
const maxFiles = 100

func formError(err error) *apiError {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return tooLarge()
	}
	return badRequest("can't parse multipart/form-data")
}

func (q *request) readFile(part *multipart.Part) (*upload, error) {
	u := &upload{Upload: Upload{
		Field:       part.FormName(),
		Name:        part.FileName(),
		ContentType: part.Header.Get("Content-Type"),
	}}
	hash := sha256.New()
	kept := head{limit: q.srv.cfg.KeepFile}
	size, err := io.Copy(io.MultiWriter(hash, &kept), part)
	if err != nil {
		return nil, err
	}
	u.Size = size
	u.SHA256 = hex.EncodeToString(hash.Sum(nil))
	if !kept.over {
		u.content = kept.data
	}
	return u, nil
}

// head keeps what is written to it until that is more than limit.
type head struct {
	limit int64
	data  []byte
	over  bool
}

func (h *head) Write(p []byte) (int, error) {
	if h.over || int64(len(h.data)+len(p)) > h.limit {
		h.over, h.data = true, nil
	} else {
		h.data = append(h.data, p...)
	}
	return len(p), nil
}

// addJSON adds the fields of a JSON object: strings as they read, everything
// else as JSON. It reports whether text is an object.
func (p params) addJSON(text []byte) bool {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil || fields == nil {
		return false
	}
	for name, raw := range fields {
		switch {
		case len(raw) > 0 && raw[0] == '"':
			var s string
			if json.Unmarshal(raw, &s) == nil {
				p.add(name, s)
			}
		case string(raw) == "null":
		default:
			p.add(name, string(raw))
		}
	}
	return true
}

func (p params) addAll(values url.Values) {
	for name, texts := range values {
		if len(texts) > 0 {
			p.add(name, texts[0])
		}
	}
}

// add sets a parameter unless it is set.
func (p params) add(name, value string) {
	if _, twice := p[name]; !twice {
		p[name] = value
	}
}

// valid reports whether all text is UTF-8.
func (p params) valid() bool {
	for name, value := range p {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return false
		}
	}
	return true
}
