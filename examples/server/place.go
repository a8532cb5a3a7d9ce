package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"strings"
	"time"

	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// place is where a run over all webhooks is, in the database. Replicas share it:
// what one has looked at is as good as looked at by the others.
type place struct {
	marks database.Marks
	log   *slog.Logger
	of    string // what the run is about

	saved time.Time
}

const (
	placeMark = "webhooks"
	// saveEvery bounds how often a place is saved, and so how much is looked at
	// again after a crash.
	saveEvery = time.Second
)

// runOf tells runs apart by what they set: one with another URL, key or kinds
// begins anew.
func runOf(hooks *webhook.Manager, kinds []string) string {
	sum := sha256.Sum256([]byte(hooks.URL("") + " " + strings.Join(kinds, " ")))
	return hex.EncodeToString(sum[:8])
}

// load returns the id that an earlier run came to; "" where there was none, or
// it came to its end. Who can't know begins with the first.
func (p *place) load(ctx context.Context) string {
	text, err := p.marks.Mark(ctx, placeMark)
	if err != nil {
		p.log.Warn("place among the webhooks not read", "err", err)
		return ""
	}
	of, next, _ := strings.Cut(text, " ")
	if of != p.of {
		return ""
	}
	return next
}

// passed is a webhook.Reconcile's Progress.
func (p *place) passed(next string) {
	if time.Since(p.saved) >= saveEvery {
		p.save(context.Background(), next)
	}
}

// save stores where the run is; "" is its end. ctx may have ended.
func (p *place) save(ctx context.Context, next string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	text := ""
	if next != "" {
		text = p.of + " " + next
	}
	if err := p.marks.SetMark(ctx, placeMark, text); err != nil {
		p.log.Warn("place among the webhooks not saved", "err", err)
	}
	p.saved = time.Now()
}
