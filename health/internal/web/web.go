// Package web is what the handlers of packages health and usage have in common.
package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/tgfleet/tgfleet/errors"
)

// Get lets GET and HEAD through, and answers the rest with 405.
func Get(f http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			status := http.StatusMethodNotAllowed
			errors.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Kind: errors.BadRequest}.ServeHTTP(w, r)
			return
		}
		f(w, r)
	})
}

// BadQuery is an error in a request's query. Its text is for the person who
// wrote that, so it holds nothing that was asked for.
type BadQuery string

func (b BadQuery) Error() string { return string(b) }

// Problem answers with the problem document of an error: in the case of a
// [BadQuery], with what is wrong and not with the general text.
func Problem(w http.ResponseWriter, r *http.Request, err error) {
	bad, ok := errors.AsType[BadQuery](err)
	if !ok {
		errors.WriteProblem(w, r, err)
		return
	}
	p := errors.ProblemOf(errors.BadRequest, "en")
	p.Detail = string(bad)
	p.ServeHTTP(w, r)
}

// Query returns a request's parameters, each of which comes once at most.
func Query(r *http.Request, names ...string) (map[string]string, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, BadQuery("The part of the address after the question mark can't be read.")
	}
	query := make(map[string]string)
	for _, name := range names {
		switch list := values[name]; len(list) {
		case 0:
		case 1:
			query[name] = list[0]
		default:
			return nil, BadQuery("The parameter " + name + " is given more than once.")
		}
	}
	return query, nil
}

// Number reads a whole number of a query; zero where there is none.
func Number(query map[string]string, name string, zero, least, most int) (int, error) {
	text := query[name]
	if text == "" {
		return zero, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, BadQuery(fmt.Sprintf("The parameter %s must be a whole number from %d to %d.", name, least, most))
	}
	return n, nil
}

// JSON answers with v, which must be one that can be marshalled.
func JSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		errors.ProblemOf(errors.Internal, "").ServeHTTP(w, nil)
		return
	}
	Write(w, status, "application/json", append(body, '\n'))
}

// Write answers with a body that no cache keeps.
func Write(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone needs no answer
}
