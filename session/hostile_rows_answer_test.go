package session_test

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session/internal/wiretest"
)

// malformedRows answer with bytes that are not HTTP, or not the Bot API. The
// call was executed, except where a row says otherwise.
func malformedRows() []hostileRow {
	var rows []hostileRow
	answers := func(name string, protocols []wiretest.Protocol, s wiretest.Script) *hostileRow {
		rows = append(rows, hostileRow{name: name, protocols: protocols, scripts: []wiretest.Script{s}, short: s.Fault == wiretest.Silence})
		return &rows[len(rows)-1]
	}
	for _, f := range connectionFaults {
		protocols := faultRow(f, wiretest.Script{}).protocols
		long, short := wiretest.JSON(200, wiretest.Good), wiretest.JSON(200, wiretest.Good)
		long.Length, short.Length = len(wiretest.Good)+9, len(wiretest.Good)-9
		for name, a := range map[string]*wiretest.Answer{"long": long, "short": short} {
			row := answers(fmt.Sprintf("the announced length is too %s, then the server %v", name, f), protocols,
				wiretest.Script{Answer: a, At: wiretest.AfterAnswer, Fault: f})
			row.recovers, row.dead = true, f == wiretest.Silence
		}
	}
	for name, raw := range map[string]string{
		"garbage":                       "\x00\x01\x02 garbage\r\n\r\n",
		"the banner of another service": "SSH-2.0-OpenSSH_9.9\r\n",
		"a status that is no number":    "HTTP/1.1 two hundred OK\r\n\r\n" + wiretest.Good,
		"an unknown version":            "HTTP/9.9 200 OK\r\n\r\n" + wiretest.Good,
		"a header without a colon":      "HTTP/1.1 200 OK\r\nno header\r\n\r\n" + wiretest.Good,
		"an unknown transfer encoding":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: rot13\r\n\r\n" + wiretest.Good,
		"a bad chunk size":              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n" + wiretest.Good + "\r\n0\r\n\r\n",
		"two lengths":                   "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 9\r\n\r\n" + wiretest.Good,
		"a negative length":             "HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n" + wiretest.Good,
		"nothing but line ends":         "\r\n\r\n\r\n\r\n",
	} {
		answers("the server answers with "+name, http1Protocols,
			wiretest.Script{Answer: &wiretest.Answer{Raw: raw}, At: wiretest.AfterAnswer, Fault: wiretest.HalfClose}).recovers = true
	}
	for name, body := range map[string]string{
		"binary":                      "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xff",
		"cut JSON":                    wiretest.Good[:40],
		"JSON and more":               wiretest.Good + wiretest.Good,
		"null":                        "null",
		"an array":                    "[]",
		"a string":                    `"ok"`,
		"an ok that is null":          `{"ok":null,"result":true}`,
		"an ok that is a string":      `{"ok":"true","result":true}`,
		"an ok without a result":      `{"ok":true}`,
		"JSON in another encoding":    "{\x00\"\x00o\x00k\x00",
		"an HTML page in a JSON type": "<html>login</html>",
	} {
		answers("the answer's body is "+name, bothVersions, wiretest.Script{Answer: wiretest.JSON(200, body)}).recovers = true
	}
	for _, status := range []int{200, 400, 503} {
		answers(fmt.Sprintf("ok is false without an error_code, with status %d", status), bothVersions,
			wiretest.Script{Answer: wiretest.JSON(status, `{"ok":false,"description":"Internal"}`)}).anyKind = true
	}

	once := goodHTTP1()
	answers("the server answers twice", http1Protocols, wiretest.Script{Answer: &wiretest.Answer{Raw: once + once}}).succeeds = true
	answers("the server answers twice, the second time badly", http1Protocols,
		wiretest.Script{Answer: &wiretest.Answer{Raw: once + "HTTP/1.1 400 Bad Request\r\n\r\n"}, At: wiretest.AfterAnswer, Fault: wiretest.HalfClose}).succeeds = true
	informed := wiretest.JSON(200, wiretest.Good)
	informed.Informational = 103
	answers("the answer follows a 103", allProtocols, wiretest.Script{Answer: informed}).succeeds = true

	// Proxies that answer before they have passed the request on.
	for _, f := range []wiretest.Fault{wiretest.Close, wiretest.HalfClose, wiretest.Reset} {
		answers(fmt.Sprintf("a 503 page comes before the body was read, then the server %v", f), allProtocols,
			wiretest.Script{Answer: wiretest.Page(503, "text/html", "<html>busy</html>"), Early: true, At: wiretest.AfterAnswer, Fault: f, NotExecuted: true}).recovers = true
		answers(fmt.Sprintf("a 504 page comes before the body was read, the server executes the call and %v", f), allProtocols,
			wiretest.Script{Answer: wiretest.Page(504, "text/html", "<html>late</html>"), Early: true, At: wiretest.AfterAnswer, Fault: f}).recovers = true
		early := answers(fmt.Sprintf("a refusal comes before the body was read, then the server %v", f), allProtocols,
			wiretest.Script{Answer: wiretest.Refusal(400, "Bad Request: chat not found", ""), Early: true, At: wiretest.AfterAnswer, Fault: f, NotExecuted: true})
		early.anyKind = f != wiretest.HalfClose // a reset overtakes it
		if !early.anyKind {
			early.kind, early.certain, early.partly = errors.ChatNotFound, true, true
		}
	}
	return rows
}

// goodHTTP1 returns a complete answer of HTTP/1.1.
func goodHTTP1() string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(wiretest.Good), wiretest.Good)
}

// pageRows are answers of proxies. The call was executed, because a proxy may
// lose the server's answer.
func pageRows() []hostileRow {
	var rows []hostileRow
	for _, status := range []int{200, 204, 301, 302, 307, 400, 401, 403, 404, 407, 408, 409, 413, 429, 500, 501, 502, 503, 504, 520} {
		for _, body := range []struct{ name, kind, text string }{
			{"an HTML page", "text/html", "<html><body>no</body></html>"},
			{"a text", "text/plain", "upstream connect error or disconnect/reset before headers"},
			{"nothing", "", ""},
			{"JSON of another form", "application/json", `{"message":"no Route matched with those values","error_code":` + fmt.Sprint(status) + `}`},
		} {
			a := wiretest.Page(status, body.kind, body.text)
			if status >= 300 && status < 400 {
				a.Header = append(a.Header, "Location: https://127.0.0.1:1/login")
			}
			protocols := []wiretest.Protocol{wiretest.HTTP1}
			if body.kind == "text/html" {
				protocols = bothVersions
			}
			rows = append(rows, hostileRow{
				name: fmt.Sprintf("a proxy answers %d with %s", status, body.name), protocols: protocols,
				scripts: []wiretest.Script{{Answer: a}}, recovers: status >= 500, kind: pageKind(status),
			})
		}
	}
	for _, status := range []int{429, 503} {
		a := wiretest.Page(status, "text/html", "<html>slow down</html>")
		a.Header = append(a.Header, "Retry-After: 1")
		row := hostileRow{
			name: fmt.Sprintf("a proxy answers %d with Retry-After", status), protocols: bothVersions,
			scripts: []wiretest.Script{{Answer: a}}, recovers: true, kind: pageKind(status),
		}
		if row.kind != errors.None {
			row.retryAfter = time.Second
		}
		rows = append(rows, row)
	}
	return rows
}

// pageKind returns the kind that the status of a proxy's answer decides, or
// None. It says nothing of delivery.
func pageKind(status int) errors.Kind {
	switch status {
	case http.StatusTooManyRequests:
		return errors.RateLimited
	case http.StatusRequestEntityTooLarge:
		return errors.FileTooLarge
	}
	return errors.None
}

// refusalRows are answers of the Bot API.
func refusalRows() []hostileRow {
	var rows []hostileRow
	refuses := func(code int, description, parameters string) *hostileRow {
		rows = append(rows, hostileRow{
			name: strings.TrimSpace(fmt.Sprintf("the Bot API answers %d %s %s", code, description, parameters)), protocols: bothVersions,
			scripts: []wiretest.Script{{Answer: wiretest.Refusal(code, description, parameters), NotExecuted: true}},
			partly:  true, certain: true,
		})
		return &rows[len(rows)-1]
	}
	for _, r := range []struct {
		code        int
		description string
		kind        errors.Kind
	}{
		{400, "Bad Request: chat not found", errors.ChatNotFound},
		{400, "Bad Request: message is not modified", errors.NotModified},
		{400, "Bad Request: anything", errors.BadRequest},
		{401, "Unauthorized", errors.Unauthorized},
		{403, "Forbidden: bot was blocked by the user", errors.Blocked},
		{403, "Forbidden: bot was kicked from the group chat", errors.Kicked},
		{404, "Not Found", errors.InvalidToken},
		{409, "Conflict: terminated by other getUpdates request", errors.Conflict},
		{413, "Request Entity Too Large", errors.FileTooLarge},
	} {
		refuses(r.code, r.description, "").kind = r.kind
	}
	migrated := refuses(400, "Bad Request: group chat was upgraded to a supergroup chat", `{"migrate_to_chat_id":-1001234567890}`)
	migrated.kind, migrated.migrateTo = errors.Migrated, -1001234567890
	soon := refuses(429, "Too Many Requests: retry after 1", `{"retry_after":1}`)
	soon.kind, soon.retryAfter, soon.recovers = errors.RateLimited, time.Second, true
	late := refuses(429, "Too Many Requests: retry after 3600", `{"retry_after":3600}`)
	late.kind, late.retryAfter = errors.RateLimited, time.Hour

	several := hostileMethods[1:2]
	album := refuses(400, `Bad Request: failed to send message #1 with the error message "Too Many Requests: retry after 8"`, "")
	album.kind, album.retryAfter, album.methods = errors.RateLimited, 8*time.Second, several
	blocked := refuses(403, "Forbidden: bot was blocked by the user, several effects", "")
	blocked.kind, blocked.methods = errors.Blocked, several

	for _, code := range []int{500, 502, 503, 504} {
		row := refuses(code, "Internal Server Error: restart", "")
		// It does not say what became of the call, so a send's outcome is unknown.
		row.partly, row.certain, row.recovers = false, false, true
		row.scripts[0].NotExecuted = false
	}
	return rows
}

// repeatedRows fail more than once. The outcome of one attempt must not hide
// that of another.
func repeatedRows() []hostileRow {
	executed := func(f wiretest.Fault) wiretest.Script { return wiretest.Script{At: wiretest.AfterRequest, Fault: f} }
	page := wiretest.Script{Answer: wiretest.Page(503, "text/html", "<html>busy</html>")}
	var rows []hostileRow
	for _, lost := range []struct {
		name      string
		protocols []wiretest.Protocol
		script    wiretest.Script
	}{
		{"the connection is reset after the execution", allProtocols, executed(wiretest.Reset)},
		{"the connection is closed in the answer", allProtocols, wiretest.Script{At: wiretest.InBody, Fault: wiretest.Close}},
		{"the stream is reset after the execution", http2Protocols, executed(wiretest.ResetStream(wiretest.Cancel))},
		{"PROTOCOL_ERROR resets the stream after the execution", http2Protocols, executed(wiretest.ResetStream(wiretest.ProtocolError))},
		{"a proxy answers 503 after the execution", bothVersions, page},
		{"the Bot API answers 500 after the execution", bothVersions, wiretest.Script{Answer: wiretest.Refusal(500, "Internal Server Error: restart", "")}},
	} {
		// A second answer may be the echo of the first execution.
		for _, echo := range []struct {
			answer *wiretest.Answer
			kind   errors.Kind
		}{
			{wiretest.Refusal(400, "Bad Request: message is not modified", ""), errors.NotModified},
			{wiretest.Refusal(403, "Forbidden: bot was kicked from the group chat", ""), errors.Kicked},
			{wiretest.Refusal(404, "Not Found", ""), errors.InvalidToken},
			{wiretest.Refusal(429, "Too Many Requests: retry after 3600", `{"retry_after":3600}`), errors.RateLimited},
		} {
			rows = append(rows, hostileRow{
				name: fmt.Sprintf("%s, and the next request is answered with %v", lost.name, echo.kind), protocols: lost.protocols,
				scripts: []wiretest.Script{lost.script, {Answer: echo.answer, NotExecuted: true}}, anyKind: true,
			})
		}
		rows = append(rows, hostileRow{
			name: lost.name + ", and so it is the next time", protocols: lost.protocols,
			scripts: []wiretest.Script{lost.script, lost.script}, recovers: true, anyKind: true,
		}, hostileRow{
			name: lost.name + ", and the handshake is refused for the next request", protocols: lost.protocols,
			scripts: []wiretest.Script{lost.script, {At: wiretest.OnAccept, Fault: wiretest.Close}}, recovers: true, anyKind: true,
		})
	}
	refused := wiretest.Script{At: wiretest.AfterRequest, Fault: wiretest.ResetStream(wiretest.RefusedStream), NotExecuted: true}
	excluded := wiretest.Script{At: wiretest.AfterRequest, Fault: wiretest.GoAwayExcluding(wiretest.NoError), NotExecuted: true}
	for name, before := range map[string]wiretest.Script{"the stream is refused": refused, "a GOAWAY excludes the stream": excluded} {
		for _, f := range []wiretest.Fault{wiretest.Reset, wiretest.ResetStream(wiretest.ProtocolError), wiretest.GoAwayThenClose(wiretest.NoError)} {
			rows = append(rows, hostileRow{
				name: fmt.Sprintf("%s, and the next time the server %v after the execution", name, f), protocols: http2Protocols,
				scripts: []wiretest.Script{before, executed(f)}, recovers: true, anyKind: true,
			})
		}
	}
	return rows
}
