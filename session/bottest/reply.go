package bottest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// apiError is an answer that is not ok, as a client sees it.
type apiError struct {
	code        int
	description string
	retryAfter  int           // seconds
	migrateTo   int64         // the id of the supergroup a group has become
	late        time.Duration // the answer comes this much later
}

func badRequest(text string) *apiError {
	return &apiError{code: http.StatusBadRequest, description: "Bad Request: " + text}
}

func forbidden(text string) *apiError {
	return &apiError{code: http.StatusForbidden, description: "Forbidden: " + text}
}

func unauthorized() *apiError {
	return &apiError{code: http.StatusUnauthorized, description: "Unauthorized"}
}

func notFound() *apiError {
	return &apiError{code: http.StatusNotFound, description: "Not Found"}
}

func conflict(text string) *apiError {
	return &apiError{code: http.StatusConflict, description: "Conflict: " + text}
}

func restarting() *apiError {
	return &apiError{code: http.StatusInternalServerError, description: "Internal Server Error: restart"}
}

// tooMany is a 429; the wait is rounded up to whole seconds, at least one.
func tooMany(wait time.Duration) *apiError {
	seconds := max(1, int((wait+time.Second-1)/time.Second))
	return &apiError{
		code:        http.StatusTooManyRequests,
		description: "Too Many Requests: retry after " + strconv.Itoa(seconds),
		retryAfter:  seconds,
	}
}

type envelope struct {
	OK          bool            `json:"ok"`
	Result      json.RawMessage `json:"result,omitempty"`
	ErrorCode   int             `json:"error_code,omitempty"`
	Description string          `json:"description,omitempty"`
	Parameters  *parameters     `json:"parameters,omitempty"`
}

type parameters struct {
	MigrateToChatID int64 `json:"migrate_to_chat_id,omitempty"`
	RetryAfter      int   `json:"retry_after,omitempty"`
}

// answer is what goes back to the client.
type answer struct {
	status     int
	code       int    // error_code, 0 when ok
	text       string // description, "" when ok
	retryAfter int
	kind       string // Content-Type
	body       []byte
}

const jsonType = "application/json"

// answerOK wraps a result. A description goes beside it, as the real server
// does for webhooks.
func answerOK(result json.RawMessage, description string) answer {
	if description == "" {
		body := make([]byte, 0, len(result)+22)
		body = append(body, `{"ok":true,"result":`...)
		body = append(body, result...)
		return answer{status: http.StatusOK, kind: jsonType, body: append(body, '}')}
	}
	body, _ := json.Marshal(envelope{OK: true, Result: result, Description: description})
	return answer{status: http.StatusOK, kind: jsonType, body: body}
}

func answerError(e *apiError) answer {
	env := envelope{ErrorCode: e.code, Description: e.description}
	if e.retryAfter != 0 || e.migrateTo != 0 {
		env.Parameters = &parameters{MigrateToChatID: e.migrateTo, RetryAfter: e.retryAfter}
	}
	body, _ := json.Marshal(env)
	return answer{
		status: e.code, code: e.code, text: e.description, retryAfter: e.retryAfter, kind: jsonType, body: body,
	}
}

func (a answer) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	if a.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(a.retryAfter))
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// cut writes the first half of the answer and breaks the connection.
func (a answer) cut(w http.ResponseWriter) {
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body[:len(a.body)/2])
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
	panic(http.ErrAbortHandler)
}

func jsonTrue() json.RawMessage { return json.RawMessage("true") }
