package session

import (
	"bytes"
	"io"
	"maps"
	"mime/multipart"
	"reflect"
	"slices"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// A multipart body is built without reading a file: the parameters are copied
// with a marker in place of each file's reader, gotgbot's own Attach writes the
// copy, and where it comes to copy a marker's data, the file takes its place in
// the list of parts. So names, order and "attach://" references are gotgbot's,
// nothing of the caller's is changed, and the body can be read at the pace of
// the connection, in constant memory, without a goroutine.

// hasFile reports whether a parameter holds a file to upload.
func hasFile(v any) bool {
	switch v := v.(type) {
	case nil, string, bool, int64, int, float64:
		return false
	case *gotgbot.FileReader:
		return v != nil && v.Data != nil
	case gotgbot.Attach:
		r := reflect.ValueOf(v)
		if r.Kind() == reflect.Pointer && r.IsNil() {
			return false
		}
		return !isGotgbots(r.Type()) || findFile(r, 0)
	default:
		return false
	}
}

// isGotgbots reports whether a type is gotgbot's, whose files are all in
// exported fields. What a caller's own Attach writes is only known by calling
// it.
func isGotgbots(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.PkgPath() == fileReaderType.Elem().PkgPath()
}

// maxDepth bounds how deep files are looked for, against values that hold
// themselves. Rich messages nest blocks, a few levels at most.
const maxDepth = 100

// findFile reports whether v holds a file with data in exported fields,
// slices, pointers and interfaces.
func findFile(v reflect.Value, depth int) bool {
	if depth > maxDepth {
		return false
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return false
		}
		if v.Type() == fileReaderType {
			return v.Interface().(*gotgbot.FileReader).Data != nil
		}
		return findFile(v.Elem(), depth+1)
	case reflect.Interface:
		return !v.IsNil() && findFile(v.Elem(), depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && findFile(v.Field(i), depth+1) {
				return true
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if findFile(v.Index(i), depth+1) {
				return true
			}
		}
	}
	return false
}

func encodeMultipart(params map[string]any) (*body, error) {
	b := &body{size: 0}
	sink := &partSink{body: b}
	w := multipart.NewWriter(sink)
	// In order of their names: the same parameters are the same bytes.
	for _, name := range slices.Sorted(maps.Keys(params)) {
		v := params[name]
		if hasFile(v) {
			v = markFiles(reflect.ValueOf(v), sink, 0).Interface()
			if err := v.(gotgbot.Attach).Attach(name, w); err != nil {
				return nil, &paramError{name}
			}
		}
		text, ok, err := fieldText(v)
		if err != nil {
			return nil, &paramError{name}
		}
		if ok {
			if err := w.WriteField(name, text); err != nil {
				return nil, &paramError{name}
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	sink.flush()
	b.contentType = w.FormDataContentType()
	return b, nil
}

// partSink collects what a multipart.Writer writes.
type partSink struct {
	body *body
	buf  bytes.Buffer
}

func (s *partSink) Write(p []byte) (int, error) { return s.buf.Write(p) }

func (s *partSink) flush() {
	if s.buf.Len() == 0 {
		return
	}
	text := bytes.Clone(s.buf.Bytes())
	s.buf.Reset()
	s.body.parts = append(s.body.parts, part{text: text})
	s.body.grow(int64(len(text)))
}

func (s *partSink) addFile(r io.Reader) {
	s.flush()
	size, rewindable := measure(r)
	p := part{file: r}
	if rewindable {
		p.seeker = r.(io.Seeker)
	} else {
		s.body.once = true
	}
	s.body.parts = append(s.body.parts, p)
	s.body.grow(size)
}

func (b *body) grow(n int64) {
	if n < 0 || b.size < 0 {
		b.size = -1
		return
	}
	b.size += n
}

// measure returns a reader's length, -1 where it can't be known, and whether
// it can be read again. Some files, such as those of /proc, can seek but claim
// to be empty; their length is not believed.
func measure(r io.Reader) (size int64, rewindable bool) {
	s, ok := r.(io.Seeker)
	if !ok {
		return -1, false
	}
	if _, err := s.Seek(0, io.SeekStart); err != nil {
		return -1, false
	}
	end, err := s.Seek(0, io.SeekEnd)
	if err != nil {
		return -1, true
	}
	if end == 0 {
		return -1, true
	}
	return end, true
}

// marker stands for a file's data in a copy of the parameters. io.Copy calls
// its WriteTo, which is when the file's place in the body is known.
type marker struct {
	sink *partSink
	file io.Reader
}

func (m marker) Read([]byte) (int, error) { return 0, io.EOF }

func (m marker) WriteTo(io.Writer) (int64, error) {
	m.sink.addFile(m.file)
	return 0, nil
}

var fileReaderType = reflect.TypeFor[*gotgbot.FileReader]()

// markFiles returns a copy of v in which every file with data is a new
// FileReader around a marker. Nothing of v is changed.
func markFiles(v reflect.Value, sink *partSink, depth int) reflect.Value {
	if depth > maxDepth {
		return v
	}
	copied := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		if v.Type() != fileReaderType {
			copied.Set(reflect.New(v.Type().Elem()))
			copied.Elem().Set(markFiles(v.Elem(), sink, depth+1))
			break
		}
		f := v.Interface().(*gotgbot.FileReader)
		if f.Data == nil {
			return v
		}
		return reflect.ValueOf(&gotgbot.FileReader{Name: f.Name, Data: marker{sink, f.Data}})
	case reflect.Interface:
		if v.IsNil() {
			return v
		}
		copied.Set(markFiles(v.Elem(), sink, depth+1))
	case reflect.Struct:
		copied.Set(v)
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				copied.Field(i).Set(markFiles(v.Field(i), sink, depth+1))
			}
		}
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		copied.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			copied.Index(i).Set(markFiles(v.Index(i), sink, depth+1))
		}
	default:
		return v
	}
	return copied
}
