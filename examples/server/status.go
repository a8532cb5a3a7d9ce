package main

import (
	"net/http"

	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
)

// status is what GET /status answers.
type status struct {
	Pool    tenant.Stats    `json:"pool"`
	Session session.Stats   `json:"session"`
	Calls   figures         `json:"calls"`
	Limits  ratelimit.Stats `json:"limits"`
}

func (f *fleet) serveStatus(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, status{f.pool.Stats(), f.session.Stats(), f.meter.figures(), f.guard.Limiter.Stats(10)})
}
