package errors

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Problem is an error as an HTTP client gets it: a problem document of
// RFC 9457. It holds the friendly text and the kind, and nothing of the error's
// own text.
//
// A Problem is an [http.Handler] that answers with itself, for those who set
// a member before it is sent.
type Problem struct {
	// Type is a URI for the kind, from Texts.ProblemBase, or "about:blank".
	Type string `json:"type"`
	// Title says what kind of problem it is. As the RFC asks, it is the
	// status's own phrase where Type is "about:blank".
	Title string `json:"title"`
	// Status is the HTTP status.
	Status int `json:"status"`
	// Detail is the friendly text.
	Detail string `json:"detail,omitempty"`
	// Instance is a URI for this one occurrence. It is left empty here.
	Instance string `json:"instance,omitempty"`
	// Kind is for programs to switch on, in place of Type.
	Kind Kind `json:"kind"`
	// RetryAfter is how many seconds to wait before trying again, rounded up;
	// 0 where that is not known.
	RetryAfter int `json:"retry_after,omitempty"`
	// Language is the BCP 47 tag of Detail's language. It goes into the header.
	Language string `json:"-"`
}

// HTTPStatus returns the status that answers an HTTP client best when err is
// what became of the request, and 200 for nil.
func HTTPStatus(err error) int { return KindOf(err).HTTPStatus() }

// ProblemOf returns the problem document for err, with texts in English.
func ProblemOf(err error, lang string) Problem { return Texts{}.ProblemOf(err, lang) }

// ProblemOf returns the problem document for err, with texts in the language
// lang or the nearest one that there is.
func (t Texts) ProblemOf(err error, lang string) Problem { return t.problem(err, []string{lang}) }

// WriteProblem answers an HTTP request with what became of it: a problem
// document with the status, Retry-After where the client is to wait, and
// texts in English. It writes nothing for a nil error.
//
//	if err := register(r.Context(), token); err != nil {
//		log.Error("register bot", "err", err)
//		errors.WriteProblem(w, r, err)
//		return
//	}
func WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	Texts{}.WriteProblem(w, r, err)
}

// WriteProblem is the function [WriteProblem] with texts in the language that
// the request's Accept-Language asks for.
func (t Texts) WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	if err == nil {
		return
	}
	var langs []string
	if r != nil {
		langs = acceptLanguage(strings.Join(r.Header.Values("Accept-Language"), ","))
	}
	t.problem(err, langs).ServeHTTP(w, r)
}

func (t Texts) problem(err error, langs []string) Problem {
	if err == nil {
		return Problem{Type: "about:blank", Title: http.StatusText(http.StatusOK), Status: http.StatusOK}
	}
	tell := tellOf(err)
	p := Problem{
		Type:       "about:blank",
		Status:     tell.kind.HTTPStatus(),
		Kind:       tell.kind,
		RetryAfter: ceil(tell.wait, time.Second),
	}
	p.Detail, p.Language = t.text(tell, langs)
	p.Title = statusPhrase(p.Status)
	if t.ProblemBase != "" {
		p.Type = t.ProblemBase + p.Kind.String()
		// A type's title is the same each time, so without scope and wait.
		p.Title, _ = t.text(telling{kind: p.Kind}, langs)
		p.Title = firstSentence(p.Title)
	}
	return p
}

func statusPhrase(status int) string {
	if status == 499 {
		return "Client Closed Request" // nginx's; net/http knows no such status
	}
	return http.StatusText(status)
}

func firstSentence(text string) string {
	first, _, _ := strings.Cut(text, ". ")
	return strings.TrimSuffix(first, ".")
}

// ServeHTTP writes the problem document. A status that is none becomes 500.
func (p Problem) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if p.Status < 200 || p.Status > 599 { // net/http panics on some, and waits for more after a 1xx
		p.Status = http.StatusInternalServerError
	}
	body, err := json.Marshal(p)
	if err != nil { // can't be: a Problem is texts and numbers
		p.Status, body = http.StatusInternalServerError, []byte(`{"type":"about:blank","status":500}`)
	}
	h := w.Header()
	for _, meant := range [...]string{"Content-Length", "Content-Encoding", "Etag", "Last-Modified"} {
		h.Del(meant) // of the answer that did not come about
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if p.Language != "" {
		h.Set("Content-Language", p.Language)
	}
	if p.RetryAfter > 0 && (p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable) {
		h.Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n')) // a client that is gone needs no answer
}
