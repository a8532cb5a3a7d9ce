package wiretest

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"strings"
)

func (c *conn) serveHTTP1() {
	for {
		c.rest()
		if _, err := c.r.Peek(1); err != nil {
			return
		}
		if !c.exchange(c.begin(0)) {
			return
		}
	}
}

// exchange reads a request and answers it, as far as the script lets it. It
// reports whether the connection goes on.
func (c *conn) exchange(s Script) bool {
	if s.At == BeforeRequest {
		return c.strike(s.Fault, 0)
	}
	head, whole := c.readHead(s)
	if len(head) == 0 || !whole || s.At == AfterRequestHeaders {
		return c.strike(s.Fault, 0)
	}
	if bytes.HasPrefix(head, []byte("CONNECT ")) {
		return c.connect(head, s)
	}
	answer := s.answer().http1().until(s)
	if s.Early {
		c.write(answer)
		if s.NotExecuted {
			return c.strike(s.Fault, 0)
		}
	}
	body, whole := c.readBody(head, s)
	if !whole {
		return c.strike(s.Fault, 0)
	}
	if !s.NotExecuted {
		c.server.execute(body)
	}
	if s.At != 0 && !s.At.ofAnswer() {
		return c.strike(s.Fault, 0)
	}
	if !s.Early {
		c.write(answer)
	}
	if s.At != 0 {
		return c.strike(s.Fault, 0)
	}
	return true
}

// readHead reads the request line and the headers. It reports whether the
// script lets it read all of them.
func (c *conn) readHead(s Script) (head []byte, whole bool) {
	limit := s.headLimit()
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		if len(head) >= limit {
			return head, false
		}
		b, err := c.r.ReadByte()
		if err != nil {
			return nil, false // the client has gone
		}
		head = append(head, b)
	}
	return head, true
}

// readBody reads the request's body. It reports whether the script and the
// client let it read everything.
func (c *conn) readBody(head []byte, s Script) (body []byte, whole bool) {
	if field(head, "transfer-encoding") != "" {
		limit := s.bodyLimit(len(head), 1<<30, false)
		if s.At == InRequestBody {
			limit = 10
		}
		// The buffer may read ahead, because the client sends no second request
		// before the answer.
		r := bufio.NewReader(io.LimitReader(c.r, int64(limit)))
		body, err := io.ReadAll(httputil.NewChunkedReader(r))
		if err != nil {
			return body, false
		}
		if s.At == BeforeLastRequestByte {
			return body, false
		}
		_, err = r.Discard(len("\r\n"))
		return body, err == nil
	}
	size, _ := strconv.Atoi(field(head, "content-length"))
	body = make([]byte, s.bodyLimit(len(head), size, true))
	_, err := io.ReadFull(c.r, body)
	return body, err == nil && len(body) == size
}

// field returns the value of a header.
func field(head []byte, name string) string {
	for line := range strings.SplitSeq(string(head), "\r\n") {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(key, name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// connect answers a CONNECT request as a proxy does. The script's answer is a
// refusal; without one the connection becomes a tunnel.
func (c *conn) connect(head []byte, s Script) bool {
	if s.At != 0 || s.Answer != nil {
		if s.At.ofAnswer() || s.At == 0 {
			c.write(s.answer().http1().until(s))
		}
		return s.At == 0 || c.strike(s.Fault, 0)
	}
	target, err := net.Dial("tcp", strings.Fields(string(head))[1])
	if err != nil {
		c.write(Page(502, "text/plain", "no route").http1().bytes)
		return true
	}
	defer target.Close()
	c.write([]byte("HTTP/1.1 200 Connection established\r\n\r\n"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(c.tcp, target)
		c.tcp.Close() // also ends the copy of the other direction
	}()
	_, _ = io.Copy(target, c.r)
	target.Close()
	<-done
	return false
}
