package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"sync"
	"unicode/utf8"
)

const jsonType = "application/json"

// scratch holds buffers to build a JSON body in. What leaves encodeJSON is a
// copy of the right size: the transport may still read a body after the call
// has returned, so a buffer that is sent can't be used again.
var scratch = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

const maxScratch = 64 << 10

// emptyBody returns that of a call without parameters.
func emptyBody() *body {
	return &body{contentType: jsonType, text: noParams, size: int64(len(noParams))}
}

var noParams = []byte("{}")

// encode makes a call's body of its parameters: JSON when there is no file
// among them, else multipart.
func encode(params map[string]any) (*body, error) {
	for _, v := range params {
		if hasFile(v) {
			return encodeMultipart(params)
		}
	}
	return encodeJSON(params)
}

func encodeJSON(params map[string]any) (*body, error) {
	buf := scratch.Get().(*[]byte)
	b := append((*buf)[:0], '{')
	for name, v := range params {
		mark := len(b)
		if mark > 1 {
			b = append(b, ',')
		}
		b = appendString(b, name)
		b = append(b, ':')
		start := len(b)
		var err error
		if b, err = appendValue(b, v); err != nil {
			return nil, &paramError{name}
		}
		if string(b[start:]) == "null" {
			b = b[:mark] // a parameter that is not there, such as a nil Thumbnail
		}
	}
	b = append(b, '}')
	text := bytes.Clone(b)
	if cap(b) <= maxScratch {
		*buf = b
		scratch.Put(buf)
	}
	return &body{contentType: jsonType, text: text, size: int64(len(text))}, nil
}

// paramError says which parameter can't be encoded. It does not say why: the
// reason of a Marshaler may quote what the parameter holds.
type paramError struct{ name string }

func (e *paramError) Error() string {
	return fmt.Sprintf("parameter %q can't be encoded", e.name)
}

// appendValue appends the JSON form of a parameter. What has no file is
// encoded as gotgbot encodes it, but as JSON of its own instead of as JSON
// inside a form field; the server reads both.
func appendValue(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case string:
		return appendString(b, v), nil
	case *string:
		if v == nil {
			return append(b, "null"...), nil
		}
		return appendString(b, *v), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case int64:
		return strconv.AppendInt(b, v, 10), nil
	case int:
		return strconv.AppendInt(b, int64(v), 10), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return b, strconv.ErrRange
		}
		return strconv.AppendFloat(b, v, 'f', -1, 64), nil
	}
	if isNil(v) {
		return append(b, "null"...), nil
	}
	text, err := json.Marshal(v)
	return append(b, text...), err
}

// isNil reports whether v is a nil pointer or interface: a parameter that was
// not given. Nil slices and maps are values: gotgbot only passes them on
// purpose.
func isNil(v any) bool {
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}

// appendString appends s as a JSON string.
func appendString(b []byte, s string) []byte {
	if !utf8.ValidString(s) {
		text, _ := json.Marshal(s) // never fails: invalid UTF-8 is replaced
		return append(b, text...)
	}
	b = append(b, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		default:
			b = fmt.Appendf(b, `\u%04x`, c)
		}
		start = i + 1
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// fieldText returns the form of a parameter in a multipart body. JSON strings
// become their content, because the server reads a form field as it is; all
// other JSON stays JSON. ok is false for a missing parameter.
func fieldText(v any) (text string, ok bool, err error) {
	switch v := v.(type) {
	case string:
		return v, true, nil
	case *string:
		if v == nil {
			return "", false, nil
		}
		return *v, true, nil
	}
	b, err := appendValue(nil, v)
	if err != nil || string(b) == "null" {
		return "", false, err
	}
	if b[0] == '"' { // a file by id or URL, a named string type, a json.RawMessage
		err = json.Unmarshal(b, &text)
		return text, true, err
	}
	return string(b), true, nil
}
