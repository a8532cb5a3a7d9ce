package polling

import (
	"time"

	"github.com/tgfleet/tgfleet/session"
)

// floor is what Telegram has said to wait for. It outlives the loop and even the
// tenant's entry: who refreshes a tenant, or removes and adds it, does not have
// it tried before it is time.
type floor struct {
	until time.Time
	token session.Token
	why   verdict
}

// hold notes that Telegram has said to wait.
func (l *loop) hold(wait time.Duration, why verdict) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.holds) >= l.sweepHolds {
		for id, h := range l.holds {
			if !now.Before(h.until) {
				delete(l.holds, id)
			}
		}
		l.sweepHolds = 2*len(l.holds) + 16
	}
	l.holds[l.entry.id] = floor{until: now.Add(wait), token: l.token, why: why}
}

// held returns the verdict of what is to be waited for, if that is not over.
// Telegram has said nothing of another token.
func (l *loop) held() (v verdict, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, ok := l.holds[l.entry.id]
	if !ok {
		return v, false
	}
	left := time.Until(h.until)
	if left <= 0 || !h.token.Equal(l.token) {
		delete(l.holds, l.entry.id)
		return v, false
	}
	h.why.wait = soonAfter(left)
	return h.why, true
}
