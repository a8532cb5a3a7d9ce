package wiretest

import (
	"encoding/binary"
	"io"
)

// Frames of HTTP/2, RFC 9113 section 6.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameRSTStream    = 0x3
	frameSettings     = 0x4
	framePushPromise  = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindowUpdate = 0x8
	frameContinuation = 0x9

	flagAck        = 0x1
	flagEndStream  = 0x1
	flagEndHeaders = 0x4

	frameHead = 9
	preface   = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

// frame encodes a frame.
func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, frameHead+len(payload)), uint32(len(payload))<<8|uint32(kind))
	b = binary.BigEndian.AppendUint32(append(b, flags), stream)
	return append(b, payload...)
}

func goAway(last, code uint32) []byte {
	payload := binary.BigEndian.AppendUint32(nil, last)
	return frame(frameGoAway, 0, 0, binary.BigEndian.AppendUint32(payload, code))
}

// stream is a request of HTTP/2 under way.
type stream struct {
	id       uint32
	script   Script
	read     int // bytes of its frames
	body     []byte
	answered bool
}

// http2 is the state of a connection that speaks HTTP/2.
type http2 struct {
	*conn
	streams map[uint32]*stream
}

func (c *conn) serveHTTP2() {
	if _, err := c.r.Discard(len(preface)); err != nil {
		return
	}
	c.write(frame(frameSettings, 0, 0, nil))
	h := &http2{conn: c, streams: make(map[uint32]*stream)}
	for h.serveFrame() {
		if len(h.streams) == 0 {
			c.rest()
		}
	}
}

// serveFrame reads a frame and does what it asks for. It reports whether the
// connection goes on.
func (h *http2) serveFrame() bool {
	head := make([]byte, frameHead)
	if _, err := io.ReadFull(h.r, head); err != nil {
		return false
	}
	size := int(binary.BigEndian.Uint32(head) >> 8)
	kind, flags, id := head[3], head[4], binary.BigEndian.Uint32(head[5:])
	switch kind {
	case frameHeaders:
		h.streams[id] = &stream{id: id, script: h.begin(id)}
		return h.serveHeaders(h.streams[id], flags, size)
	case frameData, frameContinuation:
		if s := h.streams[id]; s != nil && kind == frameData {
			return h.serveData(s, flags, size)
		} else if s != nil {
			return h.serveHeaders(s, flags, size)
		}
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(h.r, payload); err != nil {
		return false
	}
	switch {
	case kind == frameSettings && flags&flagAck == 0:
		h.write(frame(frameSettings, flagAck, 0, nil))
	case kind == framePing && flags&flagAck == 0:
		h.write(frame(framePing, flagAck, 0, payload))
	case kind == frameRSTStream:
		delete(h.streams, id)
	}
	return true
}

// serveHeaders reads the payload of HEADERS or CONTINUATION.
func (h *http2) serveHeaders(s *stream, flags byte, size int) bool {
	limit := size
	switch {
	case s.script.At == BeforeRequest:
		limit = 0
	case s.script.At == InRequestHeaders:
		limit = size / 2
	case s.script.At == AtRequestByte:
		limit = min(max(s.script.Offset-s.read-frameHead, 0), size)
	}
	if limit < size || s.script.At == BeforeRequest {
		return h.fail(s, limit, size-limit)
	}
	if _, err := h.r.Discard(size); err != nil {
		return false
	}
	s.read += frameHead + size
	if flags&flagEndHeaders != 0 {
		switch {
		case s.script.At == AfterRequestHeaders:
			return h.fail(s, 0, 0)
		case s.script.Early:
			h.answer(s)
			if s.script.NotExecuted && s.script.At != 0 {
				return h.fail(s, 0, 0)
			}
		}
	}
	if flags&flagEndStream != 0 {
		return h.finish(s)
	}
	return true
}

// serveData reads the payload of DATA, and ends the request with the last one.
func (h *http2) serveData(s *stream, flags byte, size int) bool {
	last := flags&flagEndStream != 0
	limit := s.script.bodyLimit(s.read+frameHead, size, last)
	if limit < size || last && s.script.At == BeforeLastRequestByte {
		return h.fail(s, limit, size-limit)
	}
	start := len(s.body)
	s.body = append(s.body, make([]byte, size)...)
	if _, err := io.ReadFull(h.r, s.body[start:]); err != nil {
		return false
	}
	s.read += frameHead + size
	if last {
		return h.finish(s)
	}
	if size > 0 {
		increment := binary.BigEndian.AppendUint32(nil, uint32(size))
		h.write(frame(frameWindowUpdate, 0, 0, increment))
		h.write(frame(frameWindowUpdate, 0, s.id, increment))
	}
	return true
}

// fail reads some bytes of a frame and fails. It skips the rest of the frame if
// the connection goes on.
func (h *http2) fail(s *stream, read, skip int) bool {
	if _, err := h.r.Discard(read); err != nil {
		return false
	}
	h.end(s)
	if !h.strike(s.script.Fault, s.id) {
		return false
	}
	_, err := h.r.Discard(skip)
	return err == nil
}

// end forgets a stream. Its later frames are skipped.
func (h *http2) end(s *stream) { delete(h.streams, s.id) }

// finish executes a call whose request is complete, and answers it.
func (h *http2) finish(s *stream) bool {
	h.end(s)
	if !s.script.NotExecuted {
		h.server.execute(s.body)
	}
	if s.script.At != 0 && !s.script.At.ofAnswer() {
		if !h.strike(s.script.Fault, s.id) {
			return false
		}
		if s.script.Fault.kind == includesAndAnswers {
			h.answer(s)
		}
		return true
	}
	h.answer(s)
	return s.script.At == 0 || h.strike(s.script.Fault, s.id)
}

// answer answers a stream as far as the script lets it, and once.
func (h *http2) answer(s *stream) {
	if s.answered {
		return
	}
	s.answered = true
	h.write(s.script.answer().http2(s.id).until(s.script))
}
