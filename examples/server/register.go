package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
)

// registration is what POST /api/bots takes.
type registration struct {
	ID    string `json:"id"`
	Token string `json:"token"`
}

// registered is what it answers.
type registered struct {
	ID       string `json:"id"`
	BotID    int64  `json:"bot_id"`
	Username string `json:"username"`
}

// serveRegister registers a bot and has its updates received: 201 if it is new,
// 200 if it was registered before with this token, 409 if its id or its bot is
// another tenant's. Who asks is shown a friendly text of what went wrong, and
// the log the whole of it.
func (f *fleet) serveRegister(w http.ResponseWriter, r *http.Request) {
	var in registration
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10))
	body.DisallowUnknownFields()
	if err := body.Decode(&in); err != nil {
		// The decoder's error may quote the body, and so a token.
		problem(w, r, http.StatusBadRequest, errors.BadRequest, `Please send JSON such as {"id":"customer-7","token":"123456:..."} and nothing else.`)
		return
	}
	// Of two who register the same at the same time, one has made the tenant,
	// and both get it: whose mark it has tells which.
	mark := rand.Text()
	record, err := f.manager.Register(r.Context(), in.ID, in.Token, tenant.WithMetadata(map[string]string{"registration": mark}))
	if err != nil {
		f.log.Warn("not registered", "err", err) // which names the tenant
		if errors.Is(err, errors.BadRequest) {
			problem(w, r, http.StatusBadRequest, errors.BadRequest, fmt.Sprintf("The id must have 1 to %d bytes, no control characters, and not be a token.", tenant.MaxIDLen))
			return
		}
		errors.WriteProblem(w, r, err)
		return
	}
	status := http.StatusOK
	if record.Metadata["registration"] == mark {
		status = http.StatusCreated
	}
	writeJSON(w, status, registered{record.ID, record.BotID, record.Username})
}
