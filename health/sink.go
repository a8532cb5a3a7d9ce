package health

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
	"unicode/utf16"

	"github.com/tgfleet/tgfleet/errors"
)

// LogAlerts returns a handler that writes alerts to a log: as errors where
// tenants are failing, else as infos.
func LogAlerts(logger *slog.Logger) AlertHandler {
	return AlertFunc(func(ctx context.Context, a Alert) error {
		level := slog.LevelInfo
		if a.Failing > 0 {
			level = slog.LevelError
		}
		const names = 20
		reason := ""
		tenants := make([]string, 0, names)
		for _, t := range a.last() {
			if reason == "" && t.To == a.Worst { // not that of one who is well again
				reason = t.Reason
			}
			if len(tenants) == names {
				break
			}
			tenants = append(tenants, t.Tenant)
		}
		logger.LogAttrs(ctx, level, "health alert",
			slog.String("alert", a.ID),
			slog.String("group", a.Group),
			slog.Int("failing", a.Failing),
			slog.Int("recovered", a.Recovered),
			slog.String("worst", a.Worst.String()),
			slog.String("reason", reason),
			slog.Any("tenants", tenants),
		)
		return nil
	})
}

// MessageAlerts returns a handler that sends alerts as short plain texts, such
// as through an admin bot to the operators' chat:
//
//	health.MessageAlerts(func(ctx context.Context, text string) error {
//		_, err := adminBot.SendMessageWithContext(ctx, operators, text, nil)
//		return err
//	})
//
// A text is at most 4,000 characters long as Telegram counts them, so that it
// fits into a message, and names at most 10 tenants. Send it with no parse mode,
// since ids and reasons may hold any character. The bot itself is best one whose
// trouble raises no alerts, so it should not be among the tenants that are
// watched.
//
// When Telegram itself is out, so is the way to tell of it. Send is called again
// after a second, then two, and so on, or when Telegram says, for about 15 min,
// unless its error says that this will never be sent.
func MessageAlerts(send func(ctx context.Context, text string) error) AlertHandler {
	return AlertFunc(func(ctx context.Context, a Alert) error {
		text := cut(a.Text(10), 4000)
		until := time.Now().Add(messageFor)
		for wait := firstRetry; ; wait = min(2*wait, time.Minute) {
			err := send(ctx, text)
			if err == nil || ctx.Err() != nil || isFinal(err) {
				return err
			}
			pause := max(errors.RetryAfter(err), wait/2+rand.N(wait/2+1))
			if time.Until(until) < pause {
				return err
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("send alert: %w after: %w", context.Cause(ctx), err)
			case <-time.After(pause):
			}
		}
	})
}

// messageFor is for how long a message is tried.
const messageFor = 15 * time.Minute

// isFinal reports whether to try again is of no use: the chat or the token is
// to blame, or the message was sent and only its result is lost.
func isFinal(err error) bool {
	kind := errors.KindOf(err)
	switch kind.Fault() {
	case errors.FaultNone:
		return true
	case errors.FaultCaller, errors.FaultTenant:
		return kind != errors.RateLimited
	default:
		return false
	}
}

// cut returns the start of a text, of at most so many UTF-16 code units, which
// are what Telegram counts.
func cut(text string, most int) string {
	for i, r := range text {
		if most -= utf16.RuneLen(r); most < 0 {
			return text[:i]
		}
	}
	return text
}
