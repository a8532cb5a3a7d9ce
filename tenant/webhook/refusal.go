package webhook

import (
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// How Telegram begins last_error_message where a webhook has answered with a
// status (telegram-bot-api, WebhookActor.cpp).
const badAnswer = "Wrong response from the webhook: "

// Updates wait for a day (Bot API), so an older failure is over, one way or the
// other.
const recently = 24 * time.Hour

// refused returns when Telegram's last delivery failed, in Unix time, if it was
// turned away for its secret or path, and that was not long ago. Telegram does
// not show the secret that it has; this is what a wrong one looks like.
func refused(info *gotgbot.WebhookInfo, now time.Time) (at int64, ok bool) {
	status, ok := strings.CutPrefix(info.LastErrorMessage, badAnswer)
	if !ok || len(status) < 3 || now.Sub(time.Unix(info.LastErrorDate, 0)) > recently {
		return 0, false
	}
	switch status[:3] {
	case "401", "403", "404":
		return info.LastErrorDate, true
	}
	return 0, false
}

// refusals remembers which failures webhooks were set for. Telegram goes on
// showing a failure when its cause is gone, and a webhook whose updates are
// turned away by something else, such as a proxy, is not to be set for ever.
type refusals struct {
	mu     sync.Mutex // guards what follows
	cured  map[string]cure
	tidied time.Time
}

// cure is when a webhook was last set for a failure, and how long to wait
// before another one, if that did not help.
type cure struct {
	at   time.Time
	wait time.Duration
}

const minCure, maxCure = time.Hour, 24 * time.Hour

// look reports whether a tenant's updates are turned away since its webhook was
// last set for that, and whether it is to be set for it.
func (r *refusals) look(id string, info *gotgbot.WebhookInfo, now time.Time) (turnedAway, set bool) {
	failed, ok := refused(info, now)
	if !ok {
		return false, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, found := r.cured[id]
	turnedAway = !found || failed > c.at.Unix()
	return turnedAway, turnedAway && now.Sub(c.at) >= c.wait
}

// set notes that a tenant's webhook was set, with what Telegram said of it
// before.
func (r *refusals) set(id string, info *gotgbot.WebhookInfo, now time.Time) {
	if _, ok := refused(info, now); !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.tidied) > recently {
		r.tidied = now
		maps.DeleteFunc(r.cured, func(_ string, c cure) bool { return now.Sub(c.at) > maxCure+recently })
	}
	if r.cured == nil {
		r.cured = make(map[string]cure)
	}
	r.cured[id] = cure{now, min(max(2*r.cured[id].wait, minCure), maxCure)}
}
