package wiretest

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Fault is a way to fail. Faults are comparable.
type Fault struct {
	name  string
	kind  faultKind
	code  uint32
	bytes string
}

type faultKind uint8

const (
	closes faultKind = iota + 1
	resets
	notifies
	halfCloses
	silent
	writes      // bytes under TLS, then half-closes
	breaksRules // bytes inside TLS, then half-closes
	strange

	// The connection survives the faults of one stream.
	resetsStream
	ignoresStream
	excludes
	excludesAndCloses
	includesAndCloses
	includesAndAnswers
)

// The faults of a connection.
var (
	// Close closes the socket. TLS sees no close_notify. The kernel sends a reset
	// instead of a FIN where the server has not read everything.
	Close = Fault{name: "closes the connection", kind: closes}
	// Reset closes the socket with SO_LINGER 0, so the kernel sends a reset.
	Reset = Fault{name: "resets the connection", kind: resets}
	// CloseNotify ends TLS properly, then the connection. The server still reads.
	CloseNotify = Fault{name: "sends a close_notify", kind: notifies}
	// HalfClose sends a FIN. The server still reads.
	HalfClose = Fault{name: "half-closes the connection", kind: halfCloses}
	// Silence neither reads nor writes until the server is closed.
	Silence = Fault{name: "falls silent", kind: silent}
	// Garbage writes bytes that are neither TLS nor HTTP under everything else.
	Garbage = Fault{name: "sends garbage", kind: writes, bytes: "\x00\xff garbage \r\n\r\n \x17\x03\x03\x00\x10 0123456789abcdef"}
	// Alert refuses the TLS handshake: a fatal handshake_failure.
	Alert = Fault{name: "refuses the handshake", kind: writes, bytes: "\x15\x03\x01\x00\x02\x02\x28"}
	// WrongCertificate makes the TLS handshake at OnAccept fail, since the client
	// does not trust the certificate.
	WrongCertificate = Fault{name: "presents a certificate that is not trusted", kind: strange}
)

// The faults of one HTTP/2 stream.
var (
	// IgnoreStream never answers the stream. The server still answers pings.
	IgnoreStream = Fault{name: "ignores the stream", kind: ignoresStream}
)

// ResetStream sends RST_STREAM. REFUSED_STREAM before an answer promises that
// the call was not executed; use it there with Script.NotExecuted.
func ResetStream(code uint32) Fault {
	return Fault{name: "sends RST_STREAM " + CodeName(code), kind: resetsStream, code: code}
}

// GoAwayExcluding sends a GOAWAY that excludes the stream. It promises that
// the call was not executed; use it with Script.NotExecuted.
func GoAwayExcluding(code uint32) Fault {
	return Fault{name: "sends a GOAWAY " + CodeName(code) + " that excludes the stream", kind: excludes, code: code}
}

// GoAwayExcludingThenClose is GoAwayExcluding, after which the server closes
// its half of the connection.
func GoAwayExcludingThenClose(code uint32) Fault {
	f := GoAwayExcluding(code)
	f.name, f.kind = f.name+" and closes", excludesAndCloses
	return f
}

// GoAwayThenClose sends a GOAWAY that includes the stream, and closes its half
// of the connection without an answer.
func GoAwayThenClose(code uint32) Fault {
	return Fault{name: "sends a GOAWAY " + CodeName(code) + " that includes the stream and closes", kind: includesAndCloses, code: code}
}

// GoAwayThenAnswer sends a GOAWAY that includes the stream and answers the
// stream. It fails nothing. Use it with AfterRequest.
func GoAwayThenAnswer() Fault {
	return Fault{name: "sends a GOAWAY that includes the stream and then the answer", kind: includesAndAnswers}
}

// BadFrame writes bytes that break the rules of HTTP/2 for the whole
// connection.
func BadFrame(what, bytes string) Fault {
	return Fault{name: "sends " + what, kind: breaksRules, bytes: bytes}
}

// BadFrames returns frames of every kind that ends a connection.
func BadFrames() []Fault {
	return []Fault{
		BadFrame("DATA on stream 0", string(frame(frameData, 0, 0, []byte("x")))),
		BadFrame("SETTINGS of five bytes", string(frame(frameSettings, 0, 0, make([]byte, 5)))),
		BadFrame("a frame of 16 MiB", "\xff\xff\xff\x00\x00\x00\x00\x00\x01"),
		BadFrame("a WINDOW_UPDATE of 0", string(frame(frameWindowUpdate, 0, 0, make([]byte, 4)))),
		BadFrame("headers that do not decompress", string(frame(frameHeaders, flagEndHeaders, 1, []byte{0x80}))),
		BadFrame("a CONTINUATION without HEADERS", string(frame(frameContinuation, flagEndHeaders, 1, []byte{0x88}))),
		BadFrame("a PUSH_PROMISE", string(frame(framePushPromise, flagEndHeaders, 1, []byte{0, 0, 0, 2, 0x82}))),
		BadFrame("HTTP/1.1 over HTTP/2", "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
	}
}

// String returns what the server does, such as "resets the connection".
func (f Fault) String() string { return f.name }

// ofStream reports whether the connection goes on after the fault.
func (f Fault) ofStream() bool {
	switch f.kind {
	case resetsStream, ignoresStream, excludes, includesAndAnswers:
		return true
	}
	return false
}

// CodeName returns the name of an HTTP/2 error code, RFC 9113 section 7.
func CodeName(code uint32) string {
	if int(code) < len(codes) {
		return codes[code]
	}
	return fmt.Sprintf("0x%x", code)
}

// The codes of HTTP/2 that tests name.
const (
	NoError          = 0x0
	ProtocolError    = 0x1
	InternalError    = 0x2
	RefusedStream    = 0x7
	Cancel           = 0x8
	EnhanceYourCalm  = 0xb
	HTTP11Required   = 0xd
	FlowControlError = 0x3
)

var codes = [...]string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
	"REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
}

// strike lets the fault happen to a stream, 0 outside of HTTP/2. It reports
// whether the connection goes on. Otherwise the connection has ended when it
// returns.
func (c *conn) strike(f Fault, stream uint32) bool {
	switch f.kind {
	case resetsStream:
		c.write(frame(frameRSTStream, 0, stream, binary.BigEndian.AppendUint32(nil, f.code)))
	case excludes, excludesAndCloses:
		c.write(goAway(max(stream, 2)-2, f.code))
	case includesAndCloses, includesAndAnswers:
		c.write(goAway(stream, f.code))
	case breaksRules:
		c.write([]byte(f.bytes))
	}
	if f.ofStream() {
		return true
	}
	switch f.kind {
	case closes:
		c.tcp.Close()
	case resets:
		_ = c.tcp.SetLinger(0)
		c.tcp.Close()
	case silent:
		<-c.server.closed
	case writes:
		_, _ = io.WriteString(c.tcp, f.bytes)
		c.halfClose()
	case halfCloses:
		c.halfClose()
	default:
		if c.tls != nil {
			_ = c.tls.CloseWrite()
		}
		c.halfClose()
	}
	return false
}

// halfClose sends a FIN and reads until the client closes too. Closing with
// unread bytes would send a reset, which can overtake what the client has not
// read.
func (c *conn) halfClose() {
	_ = c.tcp.CloseWrite()
	_, _ = io.Copy(io.Discard, c.tcp)
}

// write writes to the client. The client may be gone, which the next read
// shows.
func (c *conn) write(p []byte) { _, _ = c.stream.Write(p) }
