package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
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
	var buf bytes.Buffer
	if n := resp.ContentLength; n > 0 {
		// Room for the announced length, as far as that can be believed
		// before anything has come.
		buf.Grow(int(min(n, 64<<10)) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, err
	case n > limit:
		return nil, badReply("more than the limit of %d bytes", limit)
	}
	return buf.Bytes(), nil
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
	code := r.ErrorCode
	if code == 0 {
		code = status
	}
	return nil, answer(call, code, r.Description, r.Parameters, header)
}

// noReply makes the error of an answer that is no Bot API reply. Where its
// status says what happened, as it does when a proxy before the server
// answers, that decides the kind.
func noReply(call *Call, status int, header http.Header, cause error) error {
	var e *errors.Error
	if status >= 400 && status != http.StatusNotFound && status != http.StatusUnauthorized {
		e = answer(call, status, "", nil, header)
		e.Err = cause
		return unknownOutcome(call, e)
	}
	e = &errors.Error{Kind: errors.BadReply, Op: call.Method, Key: call.Key, Code: status, Err: cause}
	e.Delivery = errors.MaybeDelivered
	if status >= 300 {
		e.Delivery = errors.NotDelivered // a redirect, or a proxy that knows no such path
	}
	return unknownOutcome(call, e)
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
	return unknownOutcome(call, e)
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
