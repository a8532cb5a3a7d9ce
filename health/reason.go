package health

import (
	"fmt"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// reason says in words why the tenant's status is what it is; "" for a healthy
// one. It holds no token and nothing of a user's.
func (m *Monitor) reason(s *state, now int64) string {
	if s.status == Healthy {
		return ""
	}
	t := &m.thresholds
	if s.status != Suspended {
		if better, _ := t.judge(s, now); better < s.status {
			return m.recovering(s, now, better)
		}
	}
	switch s.cause {
	case inARow:
		return fmt.Sprintf("the last %d calls failed, the last one: %s", -s.streak, s.lastKind.Error())
	case shortRate:
		return share(s.short.sum, m.slot, s.lastKind)
	case longRate:
		return share(s.long.sum, m.long, s.lastKind)
	case conflicting:
		return fmt.Sprintf("another program takes the bot's updates, or a webhook is set while it polls (%d conflicts)", s.conflictsAt(now))
	case pending:
		return fmt.Sprintf("updates pile up at Telegram: %d wait, after %d the time before", s.rare.webhook.pending, s.rare.webhook.before)
	case webhookFails:
		return withReason(webhookFailsText, s.rare.webhook.lastError)
	case byHand:
		return withReason("suspended", s.rare.suspension.Reason)
	case byQuarantine:
		return withReason("quarantined, since Telegram does not accept the token", s.rare.suspension.Reason)
	default:
		return s.status.String()
	}
}

const webhookFailsText = "Telegram can't deliver updates to the webhook"

// recovering says what is missing for a better status.
func (m *Monitor) recovering(s *state, now int64, to Status) string {
	if left := m.thresholds.missing(s); left > 0 {
		return fmt.Sprintf("recovering: %s once %d more calls succeed", to, left)
	}
	left := time.Duration(int64(m.thresholds.Hold) - (now - s.since))
	if left <= 0 {
		return fmt.Sprintf("recovering: %s with the next call that succeeds", to)
	}
	return fmt.Sprintf("recovering: %s in %s if calls go on to succeed", to, left.Round(time.Second))
}

func share(w tally[uint32], slot int64, last errors.Kind) string {
	return fmt.Sprintf("%.0f %% of %d calls within %s failed, the last one: %s",
		100*w.rate(), w.calls, brief(time.Duration(slot*windowSlots)), last.Error())
}

// brief prints a duration without what is zero in it.
func brief(d time.Duration) string {
	switch {
	case d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%d min", d/time.Minute)
	default:
		return d.Round(time.Second).String()
	}
}

func withReason(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// kind returns the kind of failure that the status follows from; None where it
// follows from something else.
func (s *state) kind() errors.Kind {
	switch s.cause {
	case inARow, shortRate, longRate:
		return s.lastKind
	case conflicting:
		return errors.Conflict
	case byQuarantine:
		return errors.Unauthorized
	case byHand:
		return errors.Suspended
	default:
		return errors.None
	}
}

// Groups of alerts that are no kind of failure.
const (
	groupPlatform uint8 = 255 - iota
	groupUpdates
	groupSuspension
	groupNone
)

// groupOf returns what a worse status is grouped by: whatever Telegram or the
// network does to many bots is one group, and so is each kind of trouble that
// bots have of their own.
func groupOf(why cause, last errors.Kind) uint8 {
	switch why {
	case inARow, shortRate, longRate:
		if last.Fault() == errors.FaultPlatform {
			return groupPlatform
		}
		return uint8(last)
	case conflicting:
		return uint8(errors.Conflict)
	case pending, webhookFails:
		return groupUpdates
	case byHand, byQuarantine:
		return groupSuspension
	default:
		return groupNone
	}
}

func groupName(group uint8) string {
	switch group {
	case groupPlatform:
		return "platform"
	case groupUpdates:
		return "updates"
	case groupSuspension:
		return "suspension"
	case groupNone:
		return "other"
	default:
		return errors.Kind(group).String()
	}
}

// groupNamed is the reverse of groupName.
func groupNamed(name string) uint8 {
	for _, group := range []uint8{groupPlatform, groupUpdates, groupSuspension} {
		if groupName(group) == name {
			return group
		}
	}
	for _, kind := range errors.Kinds() {
		if kind.String() == name {
			return uint8(kind)
		}
	}
	return groupNone
}
