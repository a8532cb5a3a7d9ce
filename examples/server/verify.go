package main

import (
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/ownership"
)

// startOwners makes what finds out who owns a bot.
func (f *fleet) startOwners() error {
	key, err := f.db.Secret("ownership")
	if err != nil {
		return err
	}
	f.owners, err = ownership.New(f.db.Owners, key, ownership.Config{})
	return err
}

// verification is what POST /api/bots/{id}/verify takes, if it is given
// anything.
type verification struct {
	User int64 `json:"user"` // the Telegram user who must prove it; 0 is anybody
}

// verified is what it answers: who owns the bot, or how that is proved.
type verified struct {
	Verified   bool                  `json:"verified"`
	Owner      *owner                `json:"owner,omitempty"`
	Invitation *ownership.Invitation `json:"invitation,omitempty"`
}

type owner struct {
	User   int64            `json:"user"`
	Method ownership.Method `json:"method"`
	At     time.Time        `json:"at"`
}

// serveOwner shows whether somebody has proved that a bot is theirs.
func (f *fleet) serveOwner(w http.ResponseWriter, r *http.Request) {
	record, err := f.recordOf(r)
	if err != nil {
		errors.WriteProblem(w, r, err)
		return
	}
	proof, err := f.owners.Owner(r.Context(), record)
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, verified{Verified: true, Owner: &owner{proof.User, proof.Method, proof.At}})
	case errors.Is(err, errors.Unverified):
		writeJSON(w, http.StatusOK, verified{})
	default:
		f.log.Error("owner not read", "err", err)
		errors.WriteProblem(w, r, err)
	}
}

// serveVerify begins the proof: who follows the link and presses Start owns the
// bot, so a real service shows the link to nobody but its customer. Of a bot that
// has an owner it shows who that is.
func (f *fleet) serveVerify(w http.ResponseWriter, r *http.Request) {
	var in verification
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10))
	body.DisallowUnknownFields()
	if err := body.Decode(&in); err != nil && err != io.EOF || in.User < 0 {
		problem(w, r, http.StatusBadRequest, errors.BadRequest, `Please send nothing, or JSON such as {"user":123456} with the id of the Telegram user who owns the bot.`)
		return
	}
	record, err := f.recordOf(r)
	if err != nil {
		errors.WriteProblem(w, r, err)
		return
	}
	if _, err := f.owners.Owner(r.Context(), record); !errors.Is(err, errors.Unverified) {
		f.serveOwner(w, r)
		return
	}
	if record.Status != tenant.Active { // it would not receive the code
		errors.WriteProblem(w, r, &errors.Error{Kind: errors.Suspended, Op: "verify"})
		return
	}
	invitation, err := f.owners.Invite(r.Context(), record, in.User)
	if err != nil {
		f.log.Warn("not invited", "err", err)
		errors.WriteProblem(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusCreated, verified{Invitation: &invitation})
}

// recordOf returns the record of the tenant that a request's path names.
func (f *fleet) recordOf(r *http.Request) (tenant.Record, error) {
	record, err := f.manager.Get(r.Context(), r.PathValue("id"))
	if err != nil && !errors.Is(err, errors.NotFound) {
		f.log.Error("tenant not read", "err", err)
	}
	return record, err
}
