package health

import (
	"math"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// WebhookInfo is what Telegram's getWebhookInfo says of a bot, as far as it
// tells of health.
type WebhookInfo struct {
	// At is when it was asked. The zero time is now.
	At time.Time `json:"at"`
	// Set says whether a webhook is set; without one a bot polls.
	Set bool `json:"set"`
	// Pending is how many updates wait at Telegram.
	Pending int `json:"pending"`
	// LastErrorAt is when Telegram last could not deliver an update, the zero
	// time if it always could, and LastError is why, in Telegram's words: at
	// most [MaxTextLen] bytes of it are kept, and nothing that looks like a
	// token.
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	LastError   string    `json:"last_error,omitempty"`
}

// MaxTextLen is how many bytes are kept of a reason or an error's text.
const MaxTextLen = 128

// webhookState is what is known of how a tenant's updates get through. Its
// times are the monitor's.
type webhookState struct {
	at, errorAt int64
	lastError   string
	// pending is how many updates wait, before how many did when it was asked
	// the time before, and grown how many times in a row there were more.
	pending, before int32
	grown           uint8
	set, fails      bool
}

// pilesUp reports whether ever more updates wait.
func (h *webhookState) pilesUp(least int) bool { return h.grown >= 2 && int(h.pending) >= least }

// freshError is how long ago an error may be for it to be news. One of before
// that is over, unless updates still wait; the first look can't tell which.
const freshError = int64(10 * time.Minute)

// saw takes in an answer, unless a newer one is known.
func (h *webhookState) saw(next webhookState) {
	first := h.at == never
	switch {
	case next.at < h.at:
		return
	case first:
	case next.pending > h.pending:
		next.grown = min(h.grown+1, 250)
	case next.pending == h.pending && next.pending > 0:
		next.grown = h.grown
	}
	next.before = h.pending
	// It is over when a look finds no error since the last one.
	fresh := next.at-next.errorAt < freshError
	next.fails = next.set && next.errorAt != never &&
		(first && fresh || !first && next.errorAt > h.errorAt && (fresh || next.pending > 0))
	*h = next
}

// webhookOf converts what a caller knows.
func (m *Monitor) webhookOf(info *WebhookInfo) webhookState {
	w := webhookState{
		at:        m.at(info.At),
		errorAt:   m.past(info.LastErrorAt),
		lastError: short(info.LastError),
		pending:   int32(min(max(info.Pending, 0), math.MaxInt32)),
		set:       info.Set,
	}
	return w
}

// info converts back; nil where nothing is known.
func (m *Monitor) info(s *state) *WebhookInfo {
	if s.rare == nil || s.rare.webhook.at == never {
		return nil
	}
	h := &s.rare.webhook
	return &WebhookInfo{
		At:          m.wall(h.at),
		Set:         h.set,
		Pending:     int(h.pending),
		LastErrorAt: m.wall(h.errorAt),
		LastError:   h.lastError,
	}
}

var tokenLike = regexp.MustCompile(`([0-9]{1,17})(?::|%3[Aa])[A-Za-z0-9_-]{20,}`)

// short returns a text fit to be kept and shown: a line of bounded length
// without anything that looks like a token.
func short(text string) string {
	text = tokenLike.ReplaceAllString(text, "$1:***")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > MaxTextLen {
		cut := MaxTextLen - len("…")
		for cut > 0 && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "…"
	}
	return strings.Clone(text)
}
