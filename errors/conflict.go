package errors

import (
	"net/http"
	"strings"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// ConflictReason says which two of a bot's users are in each other's way when
// Telegram answers 409. They call for different cures, and Telegram tells
// them apart by text alone.
type ConflictReason uint8

const (
	// ConflictUnknown: no conflict, or one without a known text.
	ConflictUnknown ConflictReason = iota
	// ConflictWebhook: getUpdates was called while a webhook is active. It
	// stays so until somebody deletes the webhook.
	ConflictWebhook
	// ConflictPolling: another getUpdates runs with the same token, here or in
	// a program elsewhere. Each ends the other's call.
	ConflictPolling
	// ConflictSetWebhook: a setWebhook ended this getUpdates or setWebhook. It
	// passes by itself.
	ConflictSetWebhook
)

// String returns the reason's name, such as "polling".
func (r ConflictReason) String() string {
	switch r {
	case ConflictWebhook:
		return "webhook"
	case ConflictPolling:
		return "polling"
	case ConflictSetWebhook:
		return "set_webhook"
	default:
		return "unknown"
	}
}

// ConflictOf returns the reason of a [Conflict], and ConflictUnknown for any
// other error.
func ConflictOf(err error) ConflictReason {
	var description string
	if e, ok := AsType[*Error](err); ok {
		if e.Kind == Conflict {
			description = e.Description
		}
	} else if t, ok := AsType[*gotgbot.TelegramError](err); ok && t.Code == http.StatusConflict {
		description = t.Description
	}
	text := plain(description)
	switch {
	case strings.Contains(text, "webhook is active"):
		return ConflictWebhook
	case strings.Contains(text, "other getupdates"):
		return ConflictPolling
	case strings.Contains(text, "terminated by") && strings.Contains(text, "setwebhook"):
		return ConflictSetWebhook
	default:
		return ConflictUnknown
	}
}
