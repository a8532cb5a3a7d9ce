package main

import (
	"net/http"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/polling"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// status is what GET /status answers.
type status struct {
	Pool    tenant.Stats    `json:"pool"`
	Session session.Stats   `json:"session"`
	Calls   figures         `json:"calls"`
	Limits  ratelimit.Stats `json:"limits"`

	// Inbox is how much waits to be handled, and InboxAge for how many seconds
	// the oldest has.
	Inbox    inbox.Depth        `json:"inbox"`
	InboxAge float64            `json:"inbox_age"`
	Workers  inbox.WorkersStats `json:"workers"`
	// One of these is there.
	Webhooks *webhook.Stats `json:"webhooks,omitempty"`
	Polling  *polling.Stats `json:"polling,omitempty"`
}

func (f *fleet) serveStatus(w http.ResponseWriter, r *http.Request) {
	depth, err := f.db.Inbox.Depth(r.Context(), "")
	if err != nil {
		f.log.Error("inbox not read", "err", err)
		errors.WriteProblem(w, r, err)
		return
	}
	s := status{
		Pool: f.pool.Stats(), Session: f.session.Stats(), Calls: f.meter.figures(), Limits: f.guard.Stats(10).Stats,
		Inbox: depth, InboxAge: depth.Age(time.Now()).Seconds(), Workers: f.workers.Stats(),
	}
	if f.receiver != nil {
		stats := f.receiver.Stats()
		s.Webhooks = &stats
	}
	if f.supervisor != nil {
		stats := f.supervisor.Stats()
		s.Polling = &stats
	}
	writeJSON(w, http.StatusOK, s)
}
