package errors

import (
	"net/http"
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
// The kind follows from the code and the parameters; the description is only
// read where Telegram gives nothing else, as for 400 and 403. The cause is a
// [gotgbot.TelegramError] without the request's params.
func FromTelegram(method string, code int, description string, params *gotgbot.ResponseParameters) *Error {
	description = albumReason(description)
	cause := &gotgbot.TelegramError{Method: method, Code: code, Description: quoteless(description)}
	e := &Error{
		Op:          method,
		Code:        code,
		Description: cause.Description,
		Delivery:    deliveryOf(method, code),
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
	e.Kind = kindOfAnswer(code, description, e.MigrateTo != 0, e.RetryAfter > 0)
	return e
}

func retryAfter(params *gotgbot.ResponseParameters) time.Duration {
	if params == nil || params.RetryAfter <= 0 {
		return 0
	}
	return time.Duration(min(params.RetryAfter, int64(maxRetryAfter/time.Second))) * time.Second
}

// retryAfterIn reads the wait out of a description, which is where an album's
// failure has it:
//
//	Bad Request: failed to send message #1 with the error message "Too Many Requests: retry after 8"
func retryAfterIn(description string) time.Duration {
	const wait = "too many requests: retry after "
	rest, found := strings.CutPrefix(plain(description), wait)
	if !found {
		return 0
	}
	seconds, err := strconv.ParseInt(rest, 10, 64)
	if err != nil || seconds <= 0 {
		return 0
	}
	return time.Duration(min(seconds, int64(maxRetryAfter/time.Second))) * time.Second
}

// deliveryOf reports whether a JSON answer of the Bot API with this error_code
// means that the call was not carried out.
//
// A 4xx of a method with a single effect does. A method that sends several
// messages may have sent some of them before one was refused
// (Client::on_message_send_failed).
//
// A 5xx does not. It can hide a call that was carried out: "sent message was
// immediately deleted and can't be returned", "Request aborted". A server that
// shuts down answers "restart" also to calls that it has handed on
// (Client::on_closed).
func deliveryOf(method string, code int) Delivery {
	if code >= 400 && code < 500 && !sendsSeveral(method) {
		return NotDelivered
	}
	return MaybeDelivered
}

func sendsSeveral(method string) bool {
	return strings.EqualFold(method, "sendMediaGroup") ||
		strings.EqualFold(method, "copyMessages") || strings.EqualFold(method, "forwardMessages")
}

func kindOfAnswer(code int, description string, migrated, waits bool) Kind {
	if migrated {
		return Migrated
	}
	text := plain(description)
	switch {
	case code == http.StatusUnauthorized:
		if strings.HasPrefix(text, "invalid api-id") {
			// A self-hosted server that was set up wrong says this to every
			// bot; no tenant is to blame for it.
			return Unavailable
		}
		return Unauthorized
	case code == http.StatusNotFound:
		if text == "not found" {
			return InvalidToken
		}
		return NotFound
	case code == http.StatusConflict:
		return Conflict
	case code == http.StatusRequestEntityTooLarge:
		return FileTooLarge
	case code == http.StatusMisdirectedRequest:
		return InvalidToken // a self-hosted server does not serve this token's id
	case code == http.StatusTooManyRequests, waits && code >= 400 && code < 500,
		code == http.StatusBadRequest && strings.HasPrefix(text, "too many requests"):
		return RateLimited
	case code >= 500 && code < 600:
		return Unavailable
	case code < 400 || code >= 600:
		return BadReply // "not ok" with no code that could say so
	}
	if kind, ok := kindOfText(text); ok {
		return kind
	}
	if code == http.StatusForbidden {
		return Forbidden
	}
	return BadRequest
}

// texts tells the kinds of 400 and 403 apart, which Telegram does by nothing
// but the description. It moves texts between the two codes, so both share
// one list. The upper-case names of its inner API come through where the server
// has no text for them. Sources: tdlib/telegram-bot-api 10.0 (Client.cpp) and
// tdlib/td (MessagesManager.cpp, MessageContent.cpp, ClientManager.cpp).
//
// The first entry that a text contains decides.
var texts = [...]struct {
	part string
	kind Kind
}{
	{"upgraded to a supergroup", Migrated},
	{"migrated to a supergroup", Migrated},

	{"blocked by the user", Blocked},
	{"user_is_blocked", Blocked},
	{"can't initiate conversation", NotStarted},
	{"bot was kicked", Kicked},
	{"bot is not a member", Kicked},
	{"channel_private", Kicked},
	{"user is deactivated", ChatGone},
	{"user_deactivated", ChatGone},
	{"user_deleted", ChatGone},
	{"group chat was deleted", ChatGone},
	{"group is deactivated", ChatGone},

	{"not enough rights", Forbidden},
	{"have no rights", Forbidden},
	{"need administrator rights", Forbidden},
	{"chat_admin_required", Forbidden},
	{"chat_write_forbidden", Forbidden},
	{"chat_restricted", Forbidden},

	{"is not modified", NotModified},
	{"_not_modified", NotModified},
	{"can't parse entities", BadMarkup},
	{"can't parse messageentity", BadMarkup},
	{"entity_bounds_invalid", BadMarkup},
	{"query is too old", QueryExpired},
	{"query_id_invalid", QueryExpired},
	{"message is too long", MessageTooLong},
	{"message caption is too long", MessageTooLong},
	{"text is too long", MessageTooLong},
	{"message_too_long", MessageTooLong},
	{"caption_too_long", MessageTooLong},
	{"request entity too large", FileTooLarge},
	{"file is too big", FileTooLarge},

	{"reply message not found", MessageNotFound},
	{"replied message not found", MessageNotFound},
	{"find message to copy", MessageNotFound},
	{"message_id_invalid", MessageNotFound},
	{"msg_id_invalid", MessageNotFound},
	{"message_not_found", MessageNotFound},

	{"chat not found", ChatNotFound},
	{"user not found", ChatNotFound},
	{"peer_id_invalid", ChatNotFound},
	{"chat_id_invalid", ChatNotFound},
	{"channel_invalid", ChatNotFound},
}

func kindOfText(text string) (Kind, bool) {
	switch {
	case text == "logged out":
		return LoggedOut, true
	case text == "message not found",
		// "message to delete not found", and so for edit, copy, forward, pin, ...
		strings.HasPrefix(text, "message to ") && strings.HasSuffix(text, " not found"):
		return MessageNotFound, true
	case strings.HasPrefix(text, "file of size ") && strings.Contains(text, " is too big"):
		return FileTooLarge, true
	}
	for i := range texts {
		if strings.Contains(text, texts[i].part) {
			return texts[i].kind, true
		}
	}
	return None, false
}

// plain returns a description as it is compared: in lower case, without the
// code's name in front, and without what it quotes, so that no user's text
// decides on a kind.
func plain(description string) string {
	text := strings.ToLower(cutQuotes(description))
	for _, prefix := range [...]string{"bad request: ", "forbidden: ", "unauthorized: ", "internal server error: "} {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			text = rest
			break
		}
	}
	if rest, ok := strings.CutPrefix(text, albumPrefix); ok {
		_, text, _ = strings.Cut(rest, ": ")
	}
	return strings.TrimSpace(text)
}
