package wiretest

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Answer is an HTTP response.
type Answer struct {
	// Status is the HTTP status. 0 means 200.
	Status int
	// Header has lines such as "Retry-After: 3".
	Header []string
	Body   string
	// Length is the announced Content-Length. 0 means the right one; negative
	// announces none.
	Length int
	// Chunked sends the body, of two bytes at least, in two chunks. HTTP/2
	// ignores it.
	Chunked bool
	// Informational is a status from 100 to 199 that is sent before. 0 sends none.
	Informational int
	// Raw takes the place of the whole answer of HTTP/1.1.
	Raw string
}

// Good is what a server answers without a script.
const Good = `{"ok":true,"result":{"message_id":1,"date":1,"chat":{"id":1,"type":"private"}}}`

// Refusal returns the answer of a Bot API server that refuses a call.
// parameters is the JSON of "parameters", empty for none.
func Refusal(code int, description, parameters string) *Answer {
	if parameters != "" {
		parameters = `,"parameters":` + parameters
	}
	return JSON(code, fmt.Sprintf(`{"ok":false,"error_code":%d,"description":%q%s}`, code, description, parameters))
}

// JSON returns an answer with a JSON body.
func JSON(status int, body string) *Answer {
	return &Answer{Status: status, Header: []string{"Content-Type: application/json"}, Body: body}
}

// Page returns an answer as a proxy gives it. An empty type sends none.
func Page(status int, contentType, body string) *Answer {
	a := &Answer{Status: status, Body: body}
	if contentType != "" {
		a.Header = []string{"Content-Type: " + contentType}
	}
	return a
}

var good = JSON(http.StatusOK, Good)

func (s Script) answer() *Answer {
	if s.Answer == nil {
		return good
	}
	return s.Answer
}

// message is an encoded answer and where its parts end.
type message struct {
	bytes                                         []byte
	informational, status, head, body, chunk, end int
}

// until returns the bytes that precede the point at which the script fails.
func (m message) until(s Script) []byte {
	n := m.end
	switch s.At {
	case AfterInformational:
		n = m.informational
	case InStatusLine:
		n = (m.informational + m.status) / 2
	case AfterStatusLine:
		n = m.status
	case InHeaders:
		n = (m.status + m.head) / 2
	case AfterHeaders:
		n = m.head
	case InBody:
		n = m.body
	case BeforeLastChunk:
		n = m.chunk
	case BeforeLastByte:
		n = m.end - 1
	case AtAnswerByte:
		n = min(s.Offset, m.end)
	}
	return m.bytes[:n]
}

func (a *Answer) status() int {
	if a.Status == 0 {
		return http.StatusOK
	}
	return a.Status
}

func (a *Answer) length() int {
	if a.Length == 0 {
		return len(a.Body)
	}
	return a.Length
}

// Size returns the length of the answer in bytes.
func (a *Answer) Size(p Protocol) int {
	if p == HTTP2 {
		return a.http2(1).end
	}
	return a.http1().end
}

// http1 encodes the answer for HTTP/1.1.
func (a *Answer) http1() message {
	if a.Raw != "" {
		return message{bytes: []byte(a.Raw), end: len(a.Raw)}
	}
	var m message
	line := func(status int) {
		m.bytes = fmt.Appendf(m.bytes, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	}
	if a.Informational != 0 {
		line(a.Informational)
		m.bytes = append(m.bytes, "\r\n"...)
		m.informational = len(m.bytes)
	}
	line(a.status())
	m.status = len(m.bytes)
	for _, h := range a.Header {
		m.bytes = append(append(m.bytes, h...), "\r\n"...)
	}
	switch {
	case a.Chunked:
		m.bytes = append(m.bytes, "Transfer-Encoding: chunked\r\n"...)
	case a.Length >= 0:
		m.bytes = fmt.Appendf(m.bytes, "Content-Length: %d\r\n", a.length())
	}
	m.bytes = append(m.bytes, "\r\n"...)
	m.head = len(m.bytes)
	half := len(a.Body) / 2
	if a.Chunked {
		m.bytes = fmt.Appendf(m.bytes, "%x\r\n%s\r\n%x\r\n%s\r\n", half, a.Body[:half], len(a.Body)-half, a.Body[half:])
		m.chunk = len(m.bytes)
		m.bytes = append(m.bytes, "0\r\n\r\n"...)
		m.body = m.head + half
	} else {
		m.bytes = append(m.bytes, a.Body...)
		m.chunk = len(m.bytes)
		m.body = m.head + half
	}
	m.end = len(m.bytes)
	return m
}

// http2 encodes the answer for a stream of HTTP/2: HEADERS and two frames of
// DATA.
func (a *Answer) http2(stream uint32) message {
	var m message
	if a.Informational != 0 {
		m.bytes = frame(frameHeaders, flagEndHeaders, stream, statusField(a.Informational))
		m.informational = len(m.bytes)
	}
	fields := statusField(a.status())
	for _, h := range a.Header {
		name, value, _ := strings.Cut(h, ": ")
		fields = appendField(fields, strings.ToLower(name), value)
	}
	if a.Length >= 0 {
		fields = appendField(fields, "content-length", strconv.Itoa(a.length()))
	}
	flags := byte(flagEndHeaders)
	if a.Body == "" {
		flags |= flagEndStream
	}
	m.status = m.informational + frameHead
	m.bytes = append(m.bytes, frame(frameHeaders, flags, stream, fields)...)
	m.head = len(m.bytes)
	if a.Body != "" {
		half := len(a.Body) / 2
		m.bytes = append(m.bytes, frame(frameData, 0, stream, []byte(a.Body[:half]))...)
		m.body = len(m.bytes)
		m.bytes = append(m.bytes, frame(frameData, flagEndStream, stream, []byte(a.Body[half:]))...)
	} else {
		m.body = m.head
	}
	m.end = len(m.bytes)
	m.chunk = m.end
	return m
}

// statusField encodes the status for HPACK, RFC 7541: an indexed field for 200,
// else a literal whose name has the index 8.
func statusField(status int) []byte {
	if status == http.StatusOK {
		return []byte{0x88}
	}
	return append([]byte{0x08, 3}, strconv.Itoa(status)...)
}

// appendField appends a literal field with a literal name, both shorter than
// 127 bytes.
func appendField(b []byte, name, value string) []byte {
	b = append(append(b, 0, byte(len(name))), name...)
	return append(append(b, byte(len(value))), value...)
}
