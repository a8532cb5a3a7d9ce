package main

import (
	"net/http"

	"github.com/tgfleet/tgfleet/errors"
)

// problem answers with a problem document that says what this service wants,
// which the general texts can't know.
func problem(w http.ResponseWriter, r *http.Request, status int, kind errors.Kind, detail string) {
	errors.Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status,
		Detail: detail, Kind: kind, Language: "en",
	}.ServeHTTP(w, r)
}

// withProblems is mux, but that a page which is not there, or does not take the
// request's method, is answered with a problem document too.
func withProblems(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h, pattern := mux.Handler(r); pattern == "" {
			h.ServeHTTP(&refusal{ResponseWriter: w, r: r}, r)
			return
		}
		mux.ServeHTTP(w, r) // which sets the path's values
	})
}

// refusal is a mux's answer to what it has no handler for. Its headers go out,
// such as Allow, and its text does not.
type refusal struct {
	http.ResponseWriter
	r *http.Request
}

func (f *refusal) WriteHeader(status int) {
	switch status {
	case http.StatusNotFound:
		problem(f.ResponseWriter, f.r, status, errors.NotFound, "There is no such page. Please check the address.")
	case http.StatusMethodNotAllowed:
		problem(f.ResponseWriter, f.r, status, errors.BadRequest, "This page can't be used like that. It takes: "+f.Header().Get("Allow")+".")
	default:
		problem(f.ResponseWriter, f.r, status, errors.BadRequest, "")
	}
}

func (f *refusal) Write(text []byte) (int, error) { return len(text), nil }
