package health

import (
	"context"
	"log/slog"
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
		if n := len(a.Transitions); n > 0 {
			reason = a.Transitions[n-1].Reason
		}
		tenants := make([]string, 0, names)
		for _, t := range a.last() {
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
// A text is at most 4,000 characters long, so that it fits into a message, and
// names at most 10 tenants. Send it with no parse mode, since ids and reasons
// may hold any character. The bot itself is best one whose trouble raises no
// alerts, so it should not be among the tenants that are watched.
func MessageAlerts(send func(ctx context.Context, text string) error) AlertHandler {
	return AlertFunc(func(ctx context.Context, a Alert) error {
		text := []rune(a.Text(10))
		return send(ctx, string(text[:min(len(text), 4000)]))
	})
}
