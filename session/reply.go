package session

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/errors"
)

// errBadReply marks what is no reply of a Bot API server. No text around it
// quotes the reply, which may hold anything.
var errBadReply = errors.New("bad reply")

func badReply(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errBadReply}, args...)...)
}

// readReply reads an answer's whole body, up to limit bytes.
func readReply(resp *http.Response, limit int64) ([]byte, error) {
	if resp.ContentLength > limit {
		return nil, badReply("%d bytes are more than the limit of %d", resp.ContentLength, limit)
	}
	// Allocate for the announced length, up to 64 KiB, and room to see the end
	// without growing.
	text := make([]byte, 0, min(max(resp.ContentLength, 0), 64<<10)+bytes.MinRead)
	for {
		n, err := resp.Body.Read(text[len(text):cap(text)])
		text = text[:len(text)+n]
		switch {
		case int64(len(text)) > limit:
			return nil, badReply("more than the limit of %d bytes", limit)
		case err == io.EOF:
			return text, nil
		case err != nil:
			return nil, err
		case len(text) == cap(text):
			text = slices.Grow(text, min(len(text), 1<<20)) // at least doubles
		}
	}
}

// reply is gotgbot.Response with an Ok that can be missing.
type reply struct {
	Ok          *bool                       `json:"ok"`
	Result      json.RawMessage             `json:"result"`
	ErrorCode   int                         `json:"error_code"`
	Description string                      `json:"description"`
	Parameters  *gotgbot.ResponseParameters `json:"parameters"`
}

var okPrefix = []byte(`{"ok":true,"result":`)

// parseReply returns the result of an answer, or the error it tells of.
func parseReply(call *Call, status int, header http.Header, text []byte) (json.RawMessage, error) {
	text = bytes.TrimSpace(text)
	// What nearly all answers look like is cut out and checked in one pass.
	if status == http.StatusOK && bytes.HasPrefix(text, okPrefix) && text[len(text)-1] == '}' {
		if result := text[len(okPrefix) : len(text)-1]; json.Valid(result) {
			return boundResult(call, status, header, result)
		}
	}
	var r reply
	err := json.Unmarshal(text, &r)
	switch {
	case len(text) == 0:
		return nil, noReply(call, status, header, badReply("empty"))
	case err != nil:
		return nil, noReply(call, status, header, badReply("not JSON"))
	case r.Ok == nil:
		return nil, noReply(call, status, header, badReply(`JSON without "ok"`))
	case *r.Ok && len(r.Result) == 0:
		return nil, noReply(call, status, header, badReply(`"ok" without "result"`))
	case *r.Ok:
		return boundResult(call, status, header, r.Result)
	}
	e := answer(call, cmp.Or(r.ErrorCode, status), r.Description, r.Parameters, header)
	if r.ErrorCode == 0 {
		e.Delivery = errors.MaybeDelivered // a Bot API server always sends the code
	}
	if e.Kind == errors.Unavailable {
		// "restart" is an answer, but none to the question what became of the call.
		return nil, unanswered(call, e)
	}
	doubt(call, e)
	return nil, e
}

// noReply returns the error of an answer that is not from the Bot API. A proxy
// may send it before or after the server got the request, so delivery is
// unknown. A few statuses say what happened and decide the kind.
func noReply(call *Call, status int, header http.Header, cause error) error {
	e := &errors.Error{Kind: errors.BadReply, Op: call.Method, Key: call.Key, Code: status}
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusRequestEntityTooLarge:
		e = answer(call, status, "", nil, header)
		e.Delivery, e.Err = errors.MaybeDelivered, cause
		doubt(call, e)
		return e
	case status >= 500 && status < 600:
		e = answer(call, status, "", nil, header)
	}
	e.Delivery, e.Err = errors.MaybeDelivered, cause
	return unanswered(call, e)
}

// maxDescription bounds a description in bytes before it is searched for the
// token. Telegram's longest is about 200 bytes.
const maxDescription = 4 << 10

// answer makes the error of an answer that says what is wrong.
func answer(call *Call, code int, description string, params *gotgbot.ResponseParameters, header http.Header) *errors.Error {
	// The token goes first: FromTelegram leaves out quoted text and long words,
	// and after that the parts of a token could no longer be found.
	description = call.token.Redact(description[:min(len(description), maxDescription)])
	e := errors.FromTelegram(call.Method, code, description, params)
	e.Key = call.Key
	if e.RetryAfter == 0 && (e.Kind == errors.RateLimited || e.Kind == errors.Unavailable) {
		e.RetryAfter = retryAfter(header)
	}
	return e
}

// retryAfter reads the header Retry-After in seconds, the form Telegram sends.
// More than a year is believed to be a mistake.
func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.Atoi(header.Get("Retry-After"))
	if err != nil || seconds < 0 || seconds > 365*24*3600 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
