package polling

import (
	"context"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// verdict is what a round comes to.
type verdict struct {
	state    State
	kind     errors.Kind
	conflict errors.ConflictReason
	reason   string
	wait     time.Duration // before the next round
	network  bool          // Telegram was not reached, or did not serve
	rejected bool          // Telegram has just rejected the token
	stop     bool
	leave    bool // the tenant is not to be polled any more
}

func stopped(kind errors.Kind, reason string) verdict {
	return verdict{state: Stopped, kind: kind, reason: reason, stop: true}
}

// because makes a verdict of an error.
func because(state State, err error, wait time.Duration) verdict {
	return verdict{state: state, kind: errors.KindOf(err), reason: brief(err), wait: wait}
}

// maxReason bounds a reason, in bytes.
const maxReason = 256

// brief returns an error's text, fit for an operator and a log.
func brief(err error) string {
	text := session.Redact(err.Error())
	if len(text) <= maxReason {
		return text
	}
	cut := maxReason
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}

// panicked makes an error of what was recovered.
func panicked(where string, p any) error {
	return &errors.Error{
		Kind: errors.Internal, Op: "poll", Delivery: errors.NotDelivered,
		Err: errors.New(session.Redact(fmt.Sprintf("panic in %s: %v", where, p))),
	}
}

// conclude makes a verdict known.
func (l *loop) conclude(ctx context.Context, v verdict) {
	now := time.Now()
	e := l.entry
	l.mu.Lock()
	s := &e.status
	changed := s.State != v.state || s.Kind != v.kind
	e.change(v.state, now)
	s.Kind, s.Reason, s.Failures = v.kind, v.reason, e.failures
	if v.conflict != errors.ConflictUnknown {
		s.Conflict = v.conflict.String()
	}
	if v.wait > 0 {
		s.RetryAt = now.Add(v.wait)
	}
	l.mu.Unlock()
	if changed {
		level := slog.LevelDebug
		switch v.state {
		case Failing:
			level = slog.LevelInfo // all may fail at once
		case Conflicting, Rejected, Stopped:
			level = slog.LevelWarn
		}
		l.log.LogAttrs(ctx, level, "polling "+v.state.String(), slog.String("tenant", e.id), slog.String("kind", v.kind.String()),
			slog.String("reason", v.reason))
	}
	if changed || v.rejected {
		l.tell(ctx)
	}
}

// tell calls OnChange.
func (l *loop) tell(ctx context.Context) {
	if l.cfg.OnChange == nil {
		return
	}
	l.mu.Lock()
	s := l.entry.status
	l.mu.Unlock()
	defer func() {
		if p := recover(); p != nil {
			l.log.ErrorContext(ctx, "panic in OnChange", slog.String("tenant", s.Tenant), slog.String("panic", session.Redact(fmt.Sprint(p))))
		}
	}()
	l.cfg.OnChange(ctx, s)
}

// counted counts a call of getUpdates, and lets the next tenant start once
// this one's first call came through.
func (l *loop) counted(err error) {
	now := time.Now()
	kind := errors.KindOf(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Polls++
	switch kind {
	case errors.None:
		l.entry.status.LastPoll = now
		l.distrust = distrust{}
	case errors.Conflict:
		l.stats.Conflicts++
		fallthrough
	default:
		l.stats.Failures++
	}
	if !l.entry.slot {
		return
	}
	held := kind == errors.Throttled || kind == errors.RateLimited
	if held {
		// Who is refused comes again; more of them would only be refused more.
		l.allowed = max(1, l.allowed/2)
	} else {
		l.allowed = min(l.cfg.Starting, l.allowed+1)
	}
	if !held {
		l.started()
		poke(l.kick)
	}
}
