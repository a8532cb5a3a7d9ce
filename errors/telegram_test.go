package errors_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/tgfleet/tgfleet/errors"
)

// answers are what a Bot API server says when it refuses, as its source has it.
var answers = []struct {
	code        int
	description string
	kind        errors.Kind
}{
	{401, "Unauthorized", errors.Unauthorized},
	{401, "Unauthorized: invalid token specified", errors.InvalidToken},
	{401, "", errors.Unauthorized},
	{401, "Unauthorized: invalid api-id/api-hash", errors.Unavailable},
	{404, "Not Found", errors.InvalidToken},
	{404, "not found", errors.InvalidToken},
	{404, "Not Found: method not found", errors.NotFound},
	{404, "Not Found: absolute URI is specified in the Request-Line", errors.NotFound},
	{404, "", errors.NotFound},
	{421, "Misdirected Request: unallowed token specified", errors.InvalidToken},
	{400, "Logged out", errors.LoggedOut},

	{409, "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first", errors.Conflict},
	{409, "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running", errors.Conflict},
	{409, "Conflict: terminated by setWebhook request", errors.Conflict},
	{409, "Conflict: terminated by other setWebhook", errors.Conflict},

	{429, "Too Many Requests: retry after 5", errors.RateLimited},
	{429, "", errors.RateLimited},

	{500, "Internal Server Error: restart", errors.Unavailable},
	{500, "Internal Server Error: Request aborted", errors.Unavailable},
	{500, "Internal Server Error: failed to save certificate", errors.Unavailable},
	{500, "Internal Server Error: sent message was immediately deleted and can't be returned", errors.ResultLost},
	{500, "Internal Server Error: receive invalid message identifier as sent message identifier", errors.ResultLost},
	{500, "Internal Server Error: receive yet unsent message as sent message", errors.ResultLost},
	{500, "Internal Server Error: receive local as sent message", errors.ResultLost},
	{500, "Internal Server Error: failed to receive a sent story", errors.ResultLost},
	{500, "Internal Server Error: created sticker set not found", errors.ResultLost},
	{500, "Internal Server Error: sticker set not found", errors.ResultLost},
	{500, "Internal Server Error: receive invalid invite link", errors.ResultLost},
	{500, "Internal Server Error: receive invalid invite link creator", errors.ResultLost},
	{500, "Internal Server Error: unexpected REPLY_MESSAGE_ID_INVALID error", errors.MessageNotFound},
	{500, "Internal Server Error: unexpected QUOTE_TEXT_INVALID error", errors.BadRequest},
	{500, "Internal Server Error: chat not found", errors.ChatNotFound},
	{500, "Too Many Requests: retry after 0", errors.RateLimited},
	{500, "FLOOD_WAIT_X", errors.RateLimited},
	{500, "SLOWMODE_WAIT_X", errors.RateLimited},
	{502, "Internal Server Error: chat not found", errors.Unavailable},
	{502, "Bad Gateway", errors.Unavailable},
	{503, "Service Unavailable", errors.Unavailable},
	{504, "Gateway Timeout", errors.Unavailable},
	{599, "", errors.Unavailable},

	{413, "Request Entity Too Large", errors.FileTooLarge},
	{413, "Request Entity Too Large: too many files attached", errors.FileTooLarge},
	{400, "Request Entity Too Large", errors.FileTooLarge},
	{400, "Bad Request: file is too big", errors.FileTooLarge},
	{400, "Bad Request: file of size 20000000 bytes is too big for a photo; the maximum size is 10485760 bytes", errors.FileTooLarge},

	{403, "Forbidden: bot was blocked by the user", errors.Blocked},
	{400, "Bad Request: USER_IS_BLOCKED", errors.Blocked},
	{403, "Forbidden: user is deactivated", errors.ChatGone},
	{403, "Forbidden: the group chat was deleted", errors.ChatGone},
	{400, "Bad Request: group is deactivated", errors.ChatGone},
	{400, "Bad Request: chat is deactivated", errors.ChatGone},
	{403, "Forbidden: bot was kicked from the group chat", errors.Kicked},
	{403, "Forbidden: bot was kicked from the supergroup chat", errors.Kicked},
	{403, "Forbidden: bot was kicked from the channel chat", errors.Kicked},
	{403, "Forbidden: bot is not a member of the group chat", errors.Kicked},
	{403, "Forbidden: bot is not a member of the supergroup chat", errors.Kicked},
	{403, "Forbidden: bot is not a member of the channel chat", errors.Kicked},
	{400, "Bad Request: CHANNEL_PRIVATE", errors.Kicked},
	{400, "Bad Request: CHANNEL_PUBLIC_GROUP_NA", errors.Kicked},
	{403, "Forbidden: bot can't initiate conversation with a user", errors.NotStarted},
	{403, "Forbidden: bot can't send messages to the bot", errors.Forbidden},
	{403, "Forbidden", errors.Forbidden},
	{403, "", errors.Forbidden},
	{400, "Bad Request: not enough rights to send text messages to the chat", errors.Forbidden},
	{400, "Bad Request: have no rights to send a message", errors.Forbidden},
	{400, "Bad Request: need administrator rights in the channel chat", errors.Forbidden},
	{400, "Bad Request: CHAT_WRITE_FORBIDDEN", errors.Forbidden},
	{400, "Bad Request: CHAT_ADMIN_REQUIRED", errors.Forbidden},
	{400, "Bad Request: CHAT_RESTRICTED", errors.Forbidden},
	{400, "Bad Request: TOPIC_CLOSED", errors.Forbidden},
	{400, "Bad Request: CHAT_SEND_PLAIN_FORBIDDEN", errors.Forbidden},
	{400, "Bad Request: CHAT_SEND_MEDIA_FORBIDDEN", errors.Forbidden},
	{400, "Bad Request: CHAT_SEND_PHOTOS_FORBIDDEN", errors.Forbidden},
	{400, "Bad Request: CHAT_SEND_VIDEOS_FORBIDDEN", errors.Forbidden},
	{400, "Bad Request: CHAT_SEND_ROUNDVIDEOS_FORBIDDEN", errors.Forbidden},
	{400, "Bad Request: CHAT_SEND_AUDIOS_FORBIDDEN", errors.Forbidden},
	{400, "Bad Request: CHAT_SEND_VOICES_FORBIDDEN", errors.Forbidden},
	{400, "Bad Request: CHAT_SEND_DOCS_FORBIDDEN", errors.Forbidden},
	{400, "Bad Request: CHAT_SEND_STICKERS_FORBIDDEN", errors.Forbidden},
	{400, "Bad Request: CHAT_SEND_GIFS_FORBIDDEN", errors.Forbidden},
	{400, "Bad Request: CHAT_SEND_POLL_FORBIDDEN", errors.Forbidden},
	{400, "Bad Request: CHAT_SEND_INLINE_FORBIDDEN", errors.Forbidden},
	{400, "Bad Request: CHAT_SEND_GAME_FORBIDDEN", errors.Forbidden},
	{400, "Bad Request: CHAT_GUEST_SEND_FORBIDDEN", errors.Forbidden},
	{400, "Bad Request: VOICE_MESSAGES_FORBIDDEN", errors.Forbidden},
	{400, "Bad Request: user restricted receiving of voice note messages", errors.Forbidden},
	{400, "Bad Request: user restricted receiving of video note messages", errors.Forbidden},
	{400, "Bad Request: USER_BANNED_IN_CHANNEL", errors.Forbidden},
	{400, "Bad Request: USER_PRIVACY_RESTRICTED", errors.Forbidden},
	{400, "Bad Request: CUSTOM_TITLE_CHANGE_FORBIDDEN", errors.Forbidden},
	{400, "Bad Request: CHAT_FORWARDS_RESTRICTED", errors.Forbidden},
	{400, "Bad Request: message has protected content and can't be forwarded", errors.Forbidden},
	{400, "Bad Request: user is an administrator of the chat", errors.Forbidden},
	{400, "Bad Request: need owner rights in the group chat", errors.Forbidden},
	{400, "Bad Request: need delete messages administrator right in the supergroup chat", errors.Forbidden},
	{400, "Bad Request: need to be inviter of a user to kick it from a basic group", errors.Forbidden},
	{400, "Bad Request: have no write access to the chat", errors.Forbidden},
	{400, "Bad Request: can't access the chat", errors.Forbidden},
	{400, "Bad Request: chat is not accessible", errors.Forbidden},
	{400, "Bad Request: BOT_ACCESS_FORBIDDEN", errors.Forbidden},
	{400, "Bad Request: BUSINESS_PEER_INVALID", errors.Forbidden},
	{400, "Bad Request: BUSINESS_PEER_USAGE_MISSING", errors.Forbidden},
	{400, "Bad Request: BUSINESS_CONNECTION_INVALID", errors.BadRequest},
	{400, "Bad Request: business connection not found", errors.BadRequest},
	{400, "Bad Request: ALLOW_PAYMENT_REQUIRED_5", errors.Forbidden},
	{400, "Bad Request: PEER_FLOOD", errors.Forbidden},
	{400, "Bad Request: USER_IS_BOT", errors.BadRequest},
	{400, "Bad Request: STORY_SEND_FLOOD_WEEKLY_1700000000", errors.BadRequest},

	{400, "Bad Request: FLOOD_WAIT_X", errors.RateLimited},
	{400, "Bad Request: SLOWMODE_WAIT_X", errors.RateLimited},
	{420, "FLOOD_PREMIUM_WAIT_X", errors.RateLimited},

	{400, "Bad Request: chat not found", errors.ChatNotFound},
	{400, "BAD REQUEST: CHAT NOT FOUND", errors.ChatNotFound},
	{400, "Bad Request: private chat not found", errors.ChatNotFound},
	{400, "Bad Request: user not found", errors.ChatNotFound},
	{400, "Bad Request: PEER_ID_INVALID", errors.ChatNotFound},
	{400, "Bad Request: chat_id is empty", errors.BadRequest},
	{400, "Bad Request: group chat was upgraded to a supergroup chat", errors.Migrated},
	{400, "Bad Request: group chat was migrated to a supergroup chat", errors.Migrated},

	{400, "Bad Request: message is not modified: specified new message content and reply markup are exactly the same as a current content and reply markup of the message", errors.NotModified},
	{400, "Bad Request: chat description is not modified", errors.NotModified},
	{400, "Bad Request: CHAT_NOT_MODIFIED", errors.NotModified},
	{400, "Bad Request: message to delete not found", errors.MessageNotFound},
	{400, "Bad Request: message to edit not found", errors.MessageNotFound},
	{400, "Bad Request: message to copy not found", errors.MessageNotFound},
	{400, "Bad Request: message to forward not found", errors.MessageNotFound},
	{400, "Bad Request: message to pin not found", errors.MessageNotFound},
	{400, "Bad Request: message to unpin not found", errors.MessageNotFound},
	{400, "Bad Request: message to react not found", errors.MessageNotFound},
	{400, "Bad Request: message to be replied not found", errors.MessageNotFound},
	{400, "Bad Request: message to set game score not found", errors.MessageNotFound},
	{400, "Bad Request: reply message not found", errors.MessageNotFound},
	{400, "Bad Request: message not found", errors.MessageNotFound},
	{400, "Bad Request: MESSAGE_ID_INVALID", errors.MessageNotFound},
	{400, "Bad Request: message can't be edited", errors.BadRequest},
	{400, "Bad Request: message can't be deleted", errors.BadRequest},
	{400, "Bad Request: message thread not found", errors.BadRequest},
	{400, "Bad Request: query is too old and response timeout expired or query ID is invalid", errors.QueryExpired},
	{400, "Bad Request: message is too long", errors.MessageTooLong},
	{400, "Bad Request: message caption is too long", errors.MessageTooLong},
	{400, "Bad Request: text is too long", errors.MessageTooLong},
	{400, "Bad Request: reply markup is too long", errors.BadRequest},
	{400, "Bad Request: can't parse entities: Can't find end of the entity starting at byte offset 5", errors.BadMarkup},
	{400, `Bad Request: can't parse entities: Unsupported start tag "chat not found" at byte offset 3`, errors.BadMarkup},
	{400, `Bad Request: can't parse entities: Unmatched end tag at byte offset 5, expected "</b>", found "</i>"`, errors.BadMarkup},
	{400, `Bad Request: can't parse entities: Character '.' is reserved and must be escaped with the preceding '\'`, errors.BadMarkup},
	{400, "Bad Request: can't parse MessageEntity: expected an Object", errors.BadMarkup},
	{400, "Bad Request: wrong file identifier/HTTP URL specified", errors.BadRequest},
	{400, "Bad Request: failed to get HTTP URL content", errors.BadRequest},
	{400, "Bad Request: wrong type of the web page content", errors.BadRequest},
	{400, "Bad Request: can't upload file by URL", errors.BadRequest},
	{400, "Bad Request: group send failed", errors.BadRequest},
	{400, `Bad Request: bot "chat not found" not found`, errors.BadRequest},
	{400, `Bad Request: inline keyboard button URL 'bot was blocked by the user' is invalid: Wrong URL`, errors.BadRequest},
	{400, `Bad Request: failed to send message #2 with the error message "USER_IS_BLOCKED"`, errors.Blocked},
	{400, `Bad Request: failed to send message #1 with the error message "Wrong file identifier/HTTP URL specified"`, errors.BadRequest},
	{400, "", errors.BadRequest},
	{406, "Bad Request: FROZEN_METHOD_INVALID", errors.Forbidden},
	{431, "Request Header Fields Too Large: total headers size exceeded", errors.BadRequest},

	{0, "", errors.BadReply},
	{-1, "chat not found", errors.BadReply},
	{200, "", errors.BadReply},
	{302, "Found", errors.BadReply},
	{600, "", errors.BadReply},
}

func TestAnAnswerHasTheKindOfItsCauses(t *testing.T) {
	for _, row := range answers {
		t.Run(fmt.Sprint(row.code, " ", row.description), func(t *testing.T) {
			e := errors.FromTelegram("sendMessage", row.code, row.description, nil)
			assert.Equal(t, row.kind, e.Kind)
			assert.Equal(t, row.code, e.Code)
			assert.Equal(t, "sendMessage", e.Op)
			wait := time.Duration(0)
			if strings.HasSuffix(row.description, "retry after 5") {
				wait = 5 * time.Second
			}
			assert.Equal(t, wait, e.RetryAfter)
			assert.Zero(t, e.MigrateTo)
			assert.Equal(t, errors.ScopeUnknown, e.Scope)

			// gotgbot's own error is the same to every question.
			var bare error = fmt.Errorf("greet: %w", &gotgbot.TelegramError{
				Method: "sendMessage", Code: row.code, Description: row.description,
			})
			assert.Equal(t, row.kind, errors.KindOf(bare))
			assert.Equal(t, errors.SafeToRepeat(e), errors.SafeToRepeat(bare))
			assert.Equal(t, errors.ConflictOf(e), errors.ConflictOf(bare))
			assert.Equal(t, e, errors.Classify(bare))
			assert.Equal(t, errors.Friendly(e, "en"), errors.Friendly(bare, "en"))
		})
	}
}

func TestTheParametersDecideBeforeTheText(t *testing.T) {
	moved := &gotgbot.ResponseParameters{MigrateToChatId: -1001234567890}
	for _, err := range []error{
		errors.FromTelegram("sendMessage", 400, "Bad Request: a text of another year", moved),
		errors.FromTelegram("sendMessage", 403, "Forbidden: bot was kicked from the group chat", moved),
		&gotgbot.TelegramError{Code: 400, ResponseParams: moved},
	} {
		assert.ErrorIs(t, errors.Classify(err), errors.Migrated)
		id, ok := errors.MigrateTo(err)
		assert.True(t, ok)
		assert.EqualValues(t, -1001234567890, id)
	}
	e := errors.FromTelegram("sendMessage", 400, "Bad Request: group chat was upgraded to a supergroup chat", nil)
	_, ok := errors.MigrateTo(e)
	assert.False(t, ok, "no id was given")

	e = errors.FromTelegram("sendMessage", 420, "FLOOD", &gotgbot.ResponseParameters{RetryAfter: 7})
	assert.Equal(t, errors.RateLimited, e.Kind)
	assert.Equal(t, 7*time.Second, e.RetryAfter)
}

func TestAnAnswerSaysWhetherTheCallWasRefused(t *testing.T) {
	for _, row := range []struct {
		code        int
		description string
		want        errors.Delivery
	}{
		{400, "Bad Request", errors.NotDelivered},
		{429, "Too Many Requests: retry after 5", errors.NotDelivered},
		{499, "", errors.NotDelivered},
		{500, "Internal Server Error: restart", errors.MaybeDelivered},
		{500, "Internal Server Error: Request aborted", errors.MaybeDelivered},
		{500, "Internal Server Error: sent message was immediately deleted and can't be returned", errors.Delivered},
		{500, "Internal Server Error: receive local as sent message", errors.Delivered},
		{500, "Internal Server Error: unexpected QUOTE_TEXT_INVALID error", errors.NotDelivered},
		{500, "Internal Server Error: chat not found", errors.NotDelivered},
		{500, "Too Many Requests: retry after 0", errors.NotDelivered},
		{500, "FLOOD_WAIT_3", errors.NotDelivered},
		{500, "", errors.MaybeDelivered},
		{502, "", errors.MaybeDelivered},
		{503, "", errors.MaybeDelivered},
		{504, "", errors.MaybeDelivered},
		{520, "", errors.MaybeDelivered},
		{200, "", errors.MaybeDelivered},
		{0, "", errors.MaybeDelivered},
	} {
		e := errors.FromTelegram("sendMessage", row.code, row.description, nil)
		assert.Equal(t, row.want, e.Delivery, "%d %s", row.code, row.description)
		assert.Equal(t, row.want == errors.NotDelivered, errors.SafeToRepeat(e))
	}
}

// An album's failure carries the answer for one of its messages. A part of the
// album may have been sent, whatever that answer is.
func TestAnAlbumsAnswerKeepsItsKindAndLeavesDeliveryOpen(t *testing.T) {
	album := func(text string) string {
		return "Bad Request: failed to send message #1 with the error message \"" + text + "\""
	}
	for name, row := range map[string]struct {
		code        int
		description string
		params      *gotgbot.ResponseParameters
		kind        errors.Kind
		retryAfter  time.Duration
		migrateTo   int64
	}{
		"401":             {401, "Unauthorized", nil, errors.Unauthorized, 0, 0},
		"403":             {403, "Forbidden: bot was blocked by the user", nil, errors.Blocked, 0, 0},
		"400":             {400, "Bad Request: chat not found", nil, errors.ChatNotFound, 0, 0},
		"migrated":        {400, "Bad Request: group chat was upgraded to a supergroup chat", &gotgbot.ResponseParameters{MigrateToChatId: -1001}, errors.Migrated, 0, -1001},
		"429":             {429, "Too Many Requests: retry after 40", &gotgbot.ResponseParameters{RetryAfter: 40}, errors.RateLimited, 40 * time.Second, 0},
		"429 inside 400":  {400, album("Too Many Requests: retry after 8"), nil, errors.RateLimited, 8 * time.Second, 0},
		"without seconds": {400, album("Too Many Requests"), nil, errors.RateLimited, 0, 0},
		"absurd seconds":  {400, album("Too Many Requests: retry after 99999999999"), nil, errors.RateLimited, 365 * 24 * time.Hour, 0},
		"no seconds":      {400, album("Too Many Requests: retry after later"), nil, errors.RateLimited, 0, 0},
		"deleted at once": {500, "Internal Server Error: sent message was immediately deleted and can't be returned", nil, errors.ResultLost, 0, 0},
		"flood inside":    {400, album("FLOOD_WAIT_8"), nil, errors.RateLimited, 8 * time.Second, 0},
		"right inside":    {400, album("CHAT_SEND_PHOTOS_FORBIDDEN"), nil, errors.Forbidden, 0, 0},
		"topic inside":    {400, album("Bad Request: TOPIC_CLOSED"), nil, errors.Forbidden, 0, 0},
		"403 inside 400":  {400, album("Forbidden: bot was blocked by the user"), nil, errors.Blocked, 0, 0},
		"400 inside 400":  {400, album("WEBPAGE_MEDIA_EMPTY"), nil, errors.BadRequest, 0, 0},
	} {
		for _, method := range []string{"sendMediaGroup", "copyMessages", "forwardMessages", "SENDMEDIAGROUP"} {
			t.Run(name+"/"+method, func(t *testing.T) {
				for _, err := range []error{
					errors.FromTelegram(method, row.code, row.description, row.params),
					&gotgbot.TelegramError{Method: method, Code: row.code, Description: row.description, ResponseParams: row.params},
				} {
					assert.Equal(t, row.kind, errors.KindOf(err))
					assert.Equal(t, row.retryAfter, errors.RetryAfter(err))
					to, _ := errors.MigrateTo(err)
					assert.Equal(t, row.migrateTo, to)
					assert.False(t, errors.SafeToRepeat(err))
				}
			})
		}
	}
}

func TestAFloodWaitSaysHowLong(t *testing.T) {
	for description, want := range map[string]time.Duration{
		"Bad Request: FLOOD_WAIT_12":       12 * time.Second,
		"Bad Request: SLOWMODE_WAIT_30":    30 * time.Second,
		"Bad Request: FLOOD_WAIT_7_X":      7 * time.Second,
		"FLOOD_PREMIUM_WAIT_3":             3 * time.Second,
		"Bad Request: FLOOD_WAIT_0":        0,
		"Bad Request: FLOOD_WAIT_":         0,
		"Too Many Requests: retry after 9": 9 * time.Second,
	} {
		for _, code := range []int{400, 420, 500} {
			e := errors.FromTelegram("sendMessage", code, description, nil)
			assert.Equal(t, errors.RateLimited, e.Kind, "%d %s", code, description)
			assert.Equal(t, want, e.RetryAfter, "%d %s", code, description)
			assert.True(t, errors.SafeToRepeat(e), "%d %s", code, description)
		}
	}
}

// A blocked user, a missing chat or a bad file is never a fault of the bot or
// of the platform, in whatever method it is met.
func TestAnAnswersFaultIsWhoseFailureItIs(t *testing.T) {
	moved := &gotgbot.ResponseParameters{MigrateToChatId: -1001}
	rows := []struct {
		kind        errors.Kind
		fault       errors.Fault
		code        int
		description string
		params      *gotgbot.ResponseParameters
	}{
		{errors.NotModified, errors.FaultNone, 400, "Bad Request: message is not modified", nil},
		{errors.ResultLost, errors.FaultNone, 500, "Internal Server Error: sent message was immediately deleted and can't be returned", nil},

		{errors.Blocked, errors.FaultCaller, 403, "Forbidden: bot was blocked by the user", nil},
		{errors.NotStarted, errors.FaultCaller, 403, "Forbidden: bot can't initiate conversation with a user", nil},
		{errors.Kicked, errors.FaultCaller, 403, "Forbidden: bot was kicked from the group chat", nil},
		{errors.ChatGone, errors.FaultCaller, 403, "Forbidden: user is deactivated", nil},
		{errors.Forbidden, errors.FaultCaller, 400, "Bad Request: CHAT_SEND_PLAIN_FORBIDDEN", nil},
		{errors.ChatNotFound, errors.FaultCaller, 400, "Bad Request: chat not found", nil},
		{errors.Migrated, errors.FaultCaller, 400, "Bad Request: group chat was upgraded to a supergroup chat", moved},
		{errors.BadRequest, errors.FaultCaller, 400, "Bad Request: wrong file identifier/HTTP URL specified", nil},
		{errors.FileTooLarge, errors.FaultCaller, 400, "Bad Request: file is too big", nil},
		{errors.MessageNotFound, errors.FaultCaller, 400, "Bad Request: message to copy not found", nil},
		{errors.BadMarkup, errors.FaultCaller, 400, "Bad Request: can't parse entities: unexpected end tag at byte offset 5", nil},
		{errors.MessageTooLong, errors.FaultCaller, 400, "Bad Request: message is too long", nil},
		{errors.QueryExpired, errors.FaultCaller, 400, "Bad Request: query is too old and response timeout expired or query ID is invalid", nil},
		{errors.NotFound, errors.FaultCaller, 404, "Not Found: method not found", nil},

		{errors.InvalidToken, errors.FaultTenant, 404, "Not Found", nil},
		{errors.Unauthorized, errors.FaultTenant, 401, "Unauthorized", nil},
		{errors.LoggedOut, errors.FaultTenant, 400, "Logged out", nil},
		{errors.Conflict, errors.FaultTenant, 409, "Conflict: terminated by other getUpdates request", nil},
		{errors.RateLimited, errors.FaultTenant, 429, "Too Many Requests: retry after 5", nil},

		{errors.Unavailable, errors.FaultPlatform, 500, "Internal Server Error: restart", nil},
		{errors.BadReply, errors.FaultPlatform, 200, "", nil},
	}
	never := map[errors.Kind]bool{ // Telegram does not answer with these
		errors.Internal: true, errors.Canceled: true, errors.Closed: true,
		errors.TokenTaken: true, errors.Exists: true, errors.WrongBot: true, errors.Stale: true, errors.Suspended: true, errors.Unverified: true,
		errors.Throttled: true, errors.BreakerOpen: true, errors.PoolFull: true, errors.StoreUnavailable: true,
		errors.Timeout: true, errors.ConnectionFailed: true, errors.OutcomeUnknown: true,
	}
	seen := map[errors.Kind]bool{}
	for _, row := range rows {
		seen[row.kind] = true
		descriptions := []string{row.description}
		if row.code == 400 || row.code == 403 {
			prefix, reason, told := strings.Cut(row.description, ": ")
			if told { // also as it is told of one message of several
				descriptions = append(descriptions, prefix+": failed to send message #2 with the error message \""+reason+"\"")
			}
		}
		for _, method := range []string{"sendMessage", "sendMediaGroup", "copyMessages", "forwardMessages"} {
			for _, description := range descriptions {
				e := errors.FromTelegram(method, row.code, description, row.params)
				assert.Equal(t, row.kind.String(), e.Kind.String(), "%s %s", method, description)
				assert.Equal(t, row.fault, e.Kind.Fault(), "%s %s", method, description)
				assert.Equal(t, row.fault == errors.FaultTenant, errors.TenantFault(e))
				assert.Equal(t, row.fault == errors.FaultPlatform, errors.PlatformFault(e))
				if method != "sendMessage" {
					assert.Equal(t, errors.MaybeDelivered, e.Delivery, "%s %s", method, description)
				}
			}
		}
	}
	for _, kind := range errors.Kinds() {
		assert.NotEqual(t, seen[kind], never[kind], "%s has a row, or never comes from Telegram", kind.String())
	}
}

func TestAnAbsurdRetryAfterIsBounded(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for given, want := range map[int64]time.Duration{
		0: 0, -1: 0, math.MinInt64: 0,
		1: time.Second, 86400: 24 * time.Hour, 365 * 86400: year,
		366 * 86400: year, math.MaxInt64 / int64(time.Second): year, math.MaxInt64: year,
	} {
		params := &gotgbot.ResponseParameters{RetryAfter: given}
		e := errors.FromTelegram("getMe", 429, "", params)
		assert.Equal(t, want, e.RetryAfter, "%d", given)
		assert.Equal(t, want, errors.RetryAfter(fmt.Errorf("x: %w", e)))
		assert.Equal(t, want, errors.RetryAfter(&gotgbot.TelegramError{Code: 429, ResponseParams: params}))
		assert.Equal(t, given, params.RetryAfter, "what was given is left alone")
		cause, ok := errors.AsType[*gotgbot.TelegramError](e)
		assert.True(t, ok)
		assert.EqualValues(t, want/time.Second, cause.ResponseParams.RetryAfter)
	}
}

func TestTheThreeConflictsAreToldApart(t *testing.T) {
	for description, want := range map[string]errors.ConflictReason{
		"Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first": errors.ConflictWebhook,
		"Conflict: terminated by other getUpdates request; make sure that only one bot instance is running":            errors.ConflictPolling,
		"Conflict: terminated by setWebhook request":                                                                   errors.ConflictSetWebhook,
		"Conflict: terminated by other setWebhook":                                                                     errors.ConflictSetWebhook,
		"Conflict": errors.ConflictUnknown,
		"":         errors.ConflictUnknown,
	} {
		e := errors.FromTelegram("getUpdates", 409, description, nil)
		assert.Equal(t, want, errors.ConflictOf(fmt.Errorf("poll: %w", e)), description)
		other := errors.FromTelegram("getUpdates", 400, description, nil)
		assert.Equal(t, errors.ConflictUnknown, errors.ConflictOf(other), "no conflict")
	}
	assert.Equal(t, errors.ConflictUnknown, errors.ConflictOf(nil))
	assert.Equal(t, errors.ConflictUnknown, errors.ConflictOf(errors.New("terminated by setWebhook request")))
}

func TestADescriptionRepeatsNothingOfTheRequest(t *testing.T) {
	for given, want := range map[string]string{
		"Bad Request: chat not found":                                                   "Bad Request: chat not found",
		"Bad Request: message can't be edited":                                          "Bad Request: message can't be edited",
		`can't parse entities: Unsupported start tag "secret" at byte offset 3`:         `can't parse entities: Unsupported start tag "..." at byte offset 3`,
		`can't parse entities: Unsupported start tag "sec"ret secret" at byte offset 3`: `can't parse entities: Unsupported start tag "..."`,
		`Unmatched end tag at byte offset 5, expected "</secret>", found "</secret>"`:   `Unmatched end tag at byte offset 5, expected "..."`,
		`Character 's' is reserved and must be escaped with the preceding '\'`:          `Character "..."`,
		`URL 'it's secret' is invalid: Wrong URL`:                                       `URL "..." is invalid: Wrong URL`,
		`bot "secret`: `bot "..."`,
		"bot “secret” and «secret» not found":                                                    `bot "..." not found`,
		"wrong URL https://secret.example/secret given to @secret or t.me/secret":                "wrong URL ... given to @... or ...",
		"token 123456:AAAAAAAAAAAAAAAAAAAAsecretAAAAAAAAA is bad":                                "token *** is bad",
		"path /bot123456%3AAAAAAAAAAAAAAAAAAAAAsecretAAAAAAAAA/getMe":                            "path /bot***/getMe",
		"a\x00b\nc\u202ed\xffe":                                                                  "a b c d e",
		"word " + strings.Repeat("secret", 20):                                                   "word ...",
		`Bad Request: failed to send message #2 with the error message "WEBPAGE_MEDIA_EMPTY"`:    "Bad Request: failed to send message #2: WEBPAGE_MEDIA_EMPTY",
		`bot "secret failed to send message #2" with the error message "secret"`:                 `bot "..."`,
		`Failed to send message #2 with the error message "Unsupported start tag "secret" here"`: `Failed to send message #2: Unsupported start tag "..." here`,
		"a" + strings.Repeat("é", 10) + strings.Repeat(" é", 90):                                 "a" + strings.Repeat("é", 10) + strings.Repeat(" é", 58) + " ...",
		strings.Repeat("é ", 100):                                                                strings.Repeat("é ", 65) + "é...",
	} {
		e := errors.FromTelegram("sendMessage", 400, given, nil)
		assert.Equal(t, want, e.Description)
		assert.NotContains(t, e.Error(), "secret")
		assert.NotContains(t, fmt.Sprintf("%+v %v %q", e, e.Err, e.Unwrap()), "secret")
	}
}

func FuzzFromTelegram(f *testing.F) {
	for _, row := range answers {
		f.Add(row.code, row.description, int64(5), int64(0))
	}
	f.Add(429, "retry", int64(math.MaxInt64), int64(math.MinInt64))
	f.Add(400, "\xff'’\"123456:AAAAAAAAAAAAAAAAAAAAAAAAA", int64(-1), int64(1))
	f.Fuzz(func(t *testing.T, code int, description string, retry, migrate int64) {
		e := errors.FromTelegram("m", code, description, &gotgbot.ResponseParameters{RetryAfter: retry, MigrateToChatId: migrate})
		if e.Kind == errors.None || e.Kind == errors.Internal {
			t.Errorf("kind %v", e.Kind)
		}
		if e.Delivery == errors.DeliveryUnknown {
			t.Error("delivery is not known")
		}
		if e.RetryAfter < 0 || e.RetryAfter > 365*24*time.Hour {
			t.Errorf("retry after %v", e.RetryAfter)
		}
		if text := errors.Friendly(e, "en"); text == "" || strings.Contains(text, "{") {
			t.Errorf("friendly text %q", text)
		}
		checkDescription(t, e.Description)
	})
}

func FuzzDescriptionHidesWhatIsQuoted(f *testing.F) {
	for _, secret := range []string{"secret", `a" b`, "' is it's", "” not found", "123456:AAAAAAAAAAAAAAAAAAAAAAAAA", "\xff\x00", ""} {
		f.Add(secret)
	}
	f.Fuzz(func(t *testing.T, secret string) {
		// What a server quotes can hold anything, quotation marks included.
		for _, around := range [...][2]string{
			{`Bad Request: unsupported start tag "`, `" at byte offset 3`},
			{`Bad Request: URL '`, `' is invalid: Wrong URL`},
			{`Bad Request: bot “`, `” not found`},
		} {
			got := errors.FromTelegram("m", 400, around[0]+secret+around[1], nil)
			want := errors.FromTelegram("m", 400, around[0]+"x"+around[1], nil)
			short := errors.FromTelegram("m", 400, around[0], nil) // where the marks do not pair up
			if got.Description != want.Description && got.Description != short.Description {
				t.Errorf("%q shows %q", secret, got.Description)
			}
			if got.Kind != want.Kind {
				t.Errorf("%q decides on the kind %v", secret, got.Kind)
			}
			checkDescription(t, got.Description)
		}
	})
}

func checkDescription(t *testing.T, s string) {
	t.Helper()
	if len(s) > 200 || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		t.Errorf("description %q", s)
	}
	for _, word := range strings.Fields(s) {
		if len(word) > 64 {
			t.Errorf("long word in %q", s)
		}
	}
}
