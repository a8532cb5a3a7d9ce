// Package web is what the handlers of packages health and usage have in common.
package web

import (
	"encoding/json"
	"net/http"

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
