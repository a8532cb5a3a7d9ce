package health

import (
	"fmt"
	"math"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// Thresholds say when a tenant's status changes. Zero fields have the defaults
// that are named.
type Thresholds struct {
	// Degraded and Unhealthy are the shares of failed calls from which on a
	// tenant is so. 0 means 0.2 and 0.5.
	Degraded, Unhealthy float64
	// Consecutive is the number of failures in a row from which on a tenant is
	// unhealthy. 0 means 5.
	Consecutive int
	// Span is how long it must be from the first to the last failure in a row
	// before they say more than the share of failures does, where there were
	// MinCalls within the window: one connection that breaks fails all calls
	// on it at the same moment. With fewer calls it does not matter. 0 means 2 s,
	// and 1 ns that it never matters.
	Span time.Duration
	// MinCalls is how many calls there must be before their share of failures
	// counts. 0 means 10.
	MinCalls int
	// Recovery is the part of a threshold below which the share must fall
	// before the status gets better. 0 means 0.75: who became degraded at 20 %
	// is so until it is below 15 %.
	Recovery float64
	// Successes is how many calls in a row must succeed before the status gets
	// better. 0 means 3. A status that follows from a share of calls also needs
	// MinCalls within the long window, or as many successes in a row.
	Successes int
	// Hold is how long a status lasts at least before it gets better; getting
	// worse does not wait. 0 means 1 min.
	Hold time.Duration
	// Conflicts is how many times Telegram must answer 409 before a tenant is
	// degraded: another program gets its updates. Each 10 min without a 409
	// forgive one, and no more than twice Conflicts are counted. 0 means 3, and
	// at most 100 is possible.
	Conflicts int
	// Pending is how many updates must wait at Telegram, more each time that
	// it was looked up, before a tenant is degraded. 0 means 100.
	Pending int
}

const maxConflicts = 100

func (t Thresholds) withDefaults() (Thresholds, error) {
	var bad []error
	share := func(name string, v *float64, zero float64) {
		if *v == 0 {
			*v = zero
		}
		if math.IsNaN(*v) || *v < 0 || *v > 1 {
			bad = append(bad, fmt.Errorf("%s is not between 0 and 1", name))
		}
	}
	count := func(name string, v *int, zero int) {
		if *v == 0 {
			*v = zero
		}
		if *v < 0 || *v > math.MaxInt32 {
			bad = append(bad, fmt.Errorf("%s is negative or too large", name))
		}
	}
	share("Degraded", &t.Degraded, 0.2)
	share("Unhealthy", &t.Unhealthy, 0.5)
	share("Recovery", &t.Recovery, 0.75)
	count("Consecutive", &t.Consecutive, 5)
	count("MinCalls", &t.MinCalls, 10)
	count("Successes", &t.Successes, 3)
	count("Conflicts", &t.Conflicts, 3)
	count("Pending", &t.Pending, 100)
	if t.Degraded > t.Unhealthy {
		bad = append(bad, errors.New("Degraded is above Unhealthy"))
	}
	if t.Conflicts > maxConflicts {
		bad = append(bad, fmt.Errorf("%s is above %d", "Conflicts", maxConflicts))
	}
	duration := func(name string, v *time.Duration, zero time.Duration) {
		if *v == 0 {
			*v = zero
		}
		if *v < 0 {
			bad = append(bad, fmt.Errorf("%s is negative", name))
		}
	}
	duration("Span", &t.Span, 2*time.Second)
	duration("Hold", &t.Hold, time.Minute)
	return t, errors.Join(bad...)
}

// cause is what a status follows from. It is stored, so new ones go to the end.
type cause uint8

const (
	noCause cause = iota
	inARow
	shortRate
	longRate
	conflicting
	pending
	webhookFails
	byHand
	byQuarantine
)

// judge returns the status that the figures alone ask for. Where the tenant is
// in a worse one already it takes less to stay there.
func (t *Thresholds) judge(s *state, now int64) (Status, cause) {
	status, why := Healthy, noCause
	worse := func(to Status, c cause) {
		if to > status {
			status, why = to, c
		}
	}
	if t.inARow(s, now) {
		worse(Unhealthy, inARow)
	}
	level := func(w tally[uint32], c cause, most Status) {
		unhealthy, degraded := t.Unhealthy, t.Degraded
		if s.status == Unhealthy {
			unhealthy *= t.Recovery
		}
		if s.status == Degraded || s.status == Unhealthy {
			degraded *= t.Recovery
		}
		switch r := w.rate(); {
		case r >= unhealthy:
			worse(min(Unhealthy, most), c)
		case r >= degraded:
			worse(Degraded, c)
		}
	}
	switch short := s.short.sum; {
	case int64(short.calls) >= int64(t.MinCalls):
		level(short, shortRate, Unhealthy)
	case s.streak < int32(t.MinCalls):
		// One that makes few calls is judged by more of them, which are older
		// and so say less.
		if long := s.long.sum; int64(long.calls) >= int64(t.MinCalls) {
			level(long, longRate, Degraded)
		}
	}
	if s.conflictsAt(now) >= t.Conflicts {
		worse(Degraded, conflicting)
	}
	if r := s.rare; r != nil {
		if r.webhook.pilesUp(t.Pending) {
			worse(Degraded, pending)
		}
		if r.webhook.fails {
			worse(Degraded, webhookFails)
		}
	}
	return status, why
}

// inARow reports whether the failures in a row say by themselves that a tenant
// is unhealthy. Those of one moment among many calls may all be of one
// connection, and the share says how bad that is; one that goes on soon spans
// some time. Time that passes without a call makes nothing worse: where there
// were few lately, it takes a failure to say so.
func (t *Thresholds) inARow(s *state, now int64) bool {
	if s.streak > -int32(t.Consecutive) {
		return false
	}
	short := s.short.sum
	few := int64(short.calls) < int64(t.MinCalls) && (s.lastFailure >= now || s.status == Unhealthy)
	return few || short.rate() >= t.Unhealthy || s.lastFailure-s.failing >= int64(t.Span)
}

// next returns the status after an event, and what it follows from.
func (t *Thresholds) next(s *state, now int64) (Status, cause) {
	if d := s.suspended(); d != nil {
		if d.Quarantine {
			return Suspended, byQuarantine
		}
		return Suspended, byHand
	}
	status, why := t.judge(s, now)
	if status > s.status && (why == shortRate || why == longRate) && s.streak >= int32(t.Successes) {
		// That old failures now are a share of enough calls is no news: it takes
		// a failure to get worse, or one that has recovered would fall again.
		return s.status, s.cause
	}
	if status < s.status && s.status != Suspended {
		// Silence is no sign of health, and one success is a weak one.
		if t.missing(s) > 0 || now-s.since < int64(t.Hold) {
			return s.status, s.cause
		}
	}
	return status, why
}

// missing returns how many calls must succeed before a tenant's status may get
// better.
func (t *Thresholds) missing(s *state) int32 {
	row := max(s.streak, 0)
	n := int32(t.Successes) - row
	if s.cause == shortRate || s.cause == longRate {
		// A share got better if a share says so, and after a restart there is
		// none at first. As many successes in a row say it too, or one that
		// makes few calls would stay so.
		calls := int32(min(s.long.sum.calls, math.MaxInt32))
		n = max(n, int32(t.MinCalls)-max(row, calls))
	}
	return n
}
