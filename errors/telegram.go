package errors

import (
	"strconv"
	"strings"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// maxRetryAfter bounds what is believed of a retry_after. Telegram's real ones
// reach hours, seldom days; a longer one is a broken server's, and would
// otherwise silence a bot for ever.
const maxRetryAfter = 365 * 24 * time.Hour

// FromTelegram makes the Error for an answer of the Bot API that is not ok:
// its error_code, description and parameters (nil where there were none).
//
// The kind and the delivery follow from the code and the parameters. The
// description decides where Telegram gives nothing else, as for 400 and 403, and
// where it contradicts the code, as for a 500 that says that the message was sent.
// The cause is a [gotgbot.TelegramError] without the request's params.
func FromTelegram(method string, code int, description string, params *gotgbot.ResponseParameters) *Error {
	description = albumReason(description)
	cause := &gotgbot.TelegramError{Method: method, Code: code, Description: quoteless(description)}
	e := &Error{
		Op:          method,
		Code:        code,
		Description: cause.Description,
		Err:         cause,
	}
	if params != nil {
		e.RetryAfter = retryAfter(params)
		e.MigrateTo = params.MigrateToChatId
		cause.ResponseParams = &gotgbot.ResponseParameters{
			RetryAfter:      int64(e.RetryAfter / time.Second),
			MigrateToChatId: e.MigrateTo,
		}
	}
	if e.RetryAfter == 0 {
		e.RetryAfter = retryAfterIn(description)
	}
	e.Kind, e.Delivery = judge(method, code, description, e.MigrateTo != 0, e.RetryAfter > 0)
	return e
}

func retryAfter(params *gotgbot.ResponseParameters) time.Duration {
	if params == nil || params.RetryAfter <= 0 {
		return 0
	}
	return time.Duration(min(params.RetryAfter, int64(maxRetryAfter/time.Second))) * time.Second
}

// retryAfterIn reads the wait out of a description, which is where an album's
// failure and Telegram's own names have it:
//
//	Bad Request: failed to send message #1 with the error message "Too Many Requests: retry after 8"
//	Bad Request: FLOOD_WAIT_8
func retryAfterIn(description string) time.Duration {
	text := plain(description)
	for _, wait := range [...]string{"too many requests: retry after ", "flood_wait_", "flood_premium_wait_", "slowmode_wait_"} {
		rest, found := strings.CutPrefix(text, wait)
		if !found {
			continue
		}
		rest, _, _ = strings.Cut(rest, "_")
		seconds, err := strconv.ParseInt(rest, 10, 64)
		if err != nil || seconds <= 0 {
			return 0
		}
		return time.Duration(min(seconds, int64(maxRetryAfter/time.Second))) * time.Second
	}
	return 0
}

// plain returns a description as it is compared: in lower case, without the
// code's name in front, and without what it quotes, so that no user's text
// decides on a kind.
func plain(description string) string {
	text := withoutCode(strings.ToLower(cutQuotes(description)))
	if rest, ok := strings.CutPrefix(text, albumPrefix); ok {
		_, text, _ = strings.Cut(rest, ": ")
		text = withoutCode(text)
	}
	return strings.TrimSpace(text)
}

func withoutCode(text string) string {
	for _, prefix := range [...]string{"bad request: ", "forbidden: ", "unauthorized: ", "internal server error: "} {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			return rest
		}
	}
	return text
}
