package errors

import (
	"net/http"
	"strings"
)

// meaning gives a description of the official server a kind, and with it a
// fault, where the code alone says less or something else.
type meaning struct {
	// code is the error_code. 0 stands for 400, 403 and each other 4xx without a
	// kind of its own, because the server moves texts between these codes.
	code int
	// text is the description as plain returns it. A "*" stands for any text.
	text string
	kind Kind
	// delivery overrides the delivery of the code; see judge. 0 does not.
	delivery Delivery
}

// meanings lists the descriptions that change a decision. The first row that
// fits decides; a description without a row has the kind of its code.
//
// Each row names the function that makes its text, of tdlib/telegram-bot-api 10.0
// or tdlib/td 1.8.66. "Telegram" stands for names in upper case that the server
// passes on. It passes them on as 400, also where Telegram said 403
// (MessagesManager::process_send_message_fail_error, Client::fail_query_with_error).
//
// FLOOD_WAIT and SLOWMODE_WAIT are rare. The server waits up to 60 s by itself and
// then answers 429 with "retry after" (NetQueryDelayer::delay).
var meanings = [...]meaning{
	// The call was carried out, but the server can't return its result.
	{code: 500, text: "sent message was immediately deleted and can't be returned", kind: ResultLost, delivery: Delivered}, // Client::delete_message
	{code: 500, text: "receive * as sent message*", kind: ResultLost, delivery: Delivered},                                 // MessagesManager::on_send_message_success
	{code: 500, text: "failed to receive a sent story", kind: ResultLost, delivery: Delivered},                             // StoryManager::delete_pending_story
	{code: 500, text: "created sticker set not found", kind: ResultLost, delivery: Delivered},                              // CreateNewStickerSetQuery::on_result
	{code: 500, text: "sticker set not found", kind: ResultLost, delivery: Delivered},                                      // AddStickerToSetQuery::on_result, SetStickerSetTitleQuery::on_result
	{code: 500, text: "receive invalid invite link*", kind: ResultLost, delivery: Delivered},                               // ExportChatInviteQuery::on_result, RevokeChatInviteLinkQuery::on_result

	// Telegram refused the call, but the server reports an error of its own.
	{code: 500, text: "unexpected reply_message_id_invalid error", kind: MessageNotFound, delivery: NotDelivered}, // MessagesManager::on_send_message_fail
	{code: 500, text: "unexpected quote_text_invalid error", kind: BadRequest, delivery: NotDelivered},            // MessagesManager::on_send_message_fail
	{code: 500, text: "chat not found", kind: ChatNotFound, delivery: NotDelivered},                               // DialogManager::on_resolved_username

	// Rate limits with another code than 429. The server answers 500 to a 429
	// whose wait it can't read.
	{code: 500, text: "too many requests*", kind: RateLimited, delivery: NotDelivered}, // Client::fail_query_with_error
	{code: 500, text: "flood_*wait_*", kind: RateLimited, delivery: NotDelivered},      // MessagesManager::process_send_message_fail_error
	{code: 500, text: "slowmode_wait_*", kind: RateLimited, delivery: NotDelivered},    // MessagesManager::process_send_message_fail_error
	{text: "too many requests*", kind: RateLimited},                                    // Client::on_message_send_failed, quoted for an album
	{text: "flood_*wait_*", kind: RateLimited},                                         // NetQueryDelayer::delay
	{text: "slowmode_wait_*", kind: RateLimited},                                       // NetQueryDelayer::delay

	// The token or the server.
	{code: http.StatusUnauthorized, text: "invalid token specified", kind: InvalidToken}, // ClientManager::send: not the form of a token
	{code: http.StatusUnauthorized, text: "invalid api-id*", kind: Unavailable},          // Client::get_closing_error: the server is set up wrong, for all bots
	{code: http.StatusNotFound, text: "not found", kind: InvalidToken},                   // HttpConnection::handle
	{text: "logged out", kind: LoggedOut},                                                // Client::get_closing_error
	{text: "*request entity too large*", kind: FileTooLarge},                             // a proxy

	// The chat is out of reach.
	{text: "*upgraded to a supergroup*", kind: Migrated},      // Client::check_chat_access
	{text: "*migrated to a supergroup*", kind: Migrated},      // earlier versions
	{text: "*blocked by the user*", kind: Blocked},            // Client::fail_query_with_error
	{text: "*user_is_blocked*", kind: Blocked},                // Client::on_message_send_failed, quoted for an album
	{text: "*can't initiate conversation*", kind: NotStarted}, // MessagesManager::process_send_message_fail_error
	{text: "*bot was kicked*", kind: Kicked},                  // Client::check_chat_access
	{text: "*bot is not a member*", kind: Kicked},             // Client::check_chat_access, Client::delete_message
	{text: "*channel_private*", kind: Kicked},                 // ChatManager::on_get_channel_error
	{text: "*channel_public_group_na*", kind: Kicked},         // ChatManager::on_get_channel_error
	{text: "*user is deactivated*", kind: ChatGone},           // Client::check_chat_access
	{text: "*user_deactivated*", kind: ChatGone},              // Client::fail_query_with_error
	{text: "*user_deleted*", kind: ChatGone},                  // MessagesManager::process_send_message_fail_error
	{text: "*group chat was deleted*", kind: ChatGone},        // Client::check_chat_access
	{text: "*group is deactivated*", kind: ChatGone},          // earlier versions
	{text: "*chat is deactivated*", kind: ChatGone},           // DialogInviteLinkManager::can_manage_dialog_invite_links

	// The bot lacks a right.
	{text: "*_forbidden", kind: Forbidden},                      // Telegram: CHAT_SEND_PLAIN_FORBIDDEN, VOICE_MESSAGES_FORBIDDEN, BOT_ACCESS_FORBIDDEN
	{text: "*_restricted", kind: Forbidden},                     // Telegram: CHAT_RESTRICTED, USER_PRIVACY_RESTRICTED
	{text: "topic_closed", kind: Forbidden},                     // Telegram
	{text: "user_banned_in_channel", kind: Forbidden},           // Telegram
	{text: "*chat_admin_required*", kind: Forbidden},            // Telegram
	{text: "business_peer_*", kind: Forbidden},                  // Telegram: not to this chat, or no longer, over this business connection
	{text: "peer_flood", kind: Forbidden},                       // Telegram: the bot counts as a spammer. It names no wait.
	{text: "frozen_*", kind: Forbidden},                         // NetQueryDispatcher::dispatch: Telegram froze the bot
	{text: "allow_payment_required*", kind: Forbidden},          // MessagesManager::on_send_message_fail
	{text: "*not enough rights*", kind: Forbidden},              // can_send_message_content
	{text: "*have no rights*", kind: Forbidden},                 // earlier versions
	{text: "need * right*", kind: Forbidden},                    // DialogManager::can_send_message_to_dialog
	{text: "need to be inviter*", kind: Forbidden},              // DialogParticipantManager::delete_chat_participant
	{text: "have no access to the chat", kind: Forbidden},       // DialogManager::check_dialog_access_in_memory
	{text: "have no write access to the chat", kind: Forbidden}, // DialogManager::can_send_message_to_dialog
	{text: "can't access the chat*", kind: Forbidden},           // DialogManager::check_dialog_access_in_memory
	{text: "chat is not accessible", kind: Forbidden},           // MessagesManager::do_send_bot_start_message
	{text: "user restricted receiving of*", kind: Forbidden},    // can_send_message_content, for voice and video notes
	{text: "*has protected content*", kind: Forbidden},          // MessagesManager::process_send_message_fail_error, for CHAT_FORWARDS_RESTRICTED
	{text: "user is an administrator*", kind: Forbidden},        // Client::fail_query_with_error, for USER_ADMIN_INVALID

	// The call itself is wrong.
	{text: "*is not modified*", kind: NotModified},                // Client::fail_query_with_error
	{text: "*_not_modified*", kind: NotModified},                  // Telegram: CHAT_NOT_MODIFIED, TOPIC_NOT_MODIFIED
	{text: "*can't parse entities*", kind: BadMarkup},             // SynchronousRequests::do_request
	{text: "*can't parse messageentity*", kind: BadMarkup},        // Client::get_formatted_text
	{text: "*entity_bounds_invalid*", kind: BadMarkup},            // Telegram
	{text: "*query is too old*", kind: QueryExpired},              // Client::fail_query_with_error
	{text: "*query_id_invalid*", kind: QueryExpired},              // Telegram
	{text: "*message is too long*", kind: MessageTooLong},         // MessagesManager::process_send_message_fail_error
	{text: "*message caption is too long*", kind: MessageTooLong}, // MessagesManager::process_send_message_fail_error
	{text: "*text is too long*", kind: MessageTooLong},            // Client::get_formatted_text
	{text: "*message_too_long*", kind: MessageTooLong},            // Telegram
	{text: "*caption_too_long*", kind: MessageTooLong},            // Telegram
	{text: "*file is too big*", kind: FileTooLarge},               // Client::do_get_file
	{text: "file of size * is too big*", kind: FileTooLarge},      // check_full_local_location
	{text: "message not found", kind: MessageNotFound},            // TdOnEditMessageCallback, TdOnStopPollCallback
	{text: "message to * not found", kind: MessageNotFound},       // Client::check_message, to edit, delete, copy, pin
	{text: "*reply message not found*", kind: MessageNotFound},    // earlier versions
	{text: "*replied message not found*", kind: MessageNotFound},  // earlier versions
	{text: "*find message to copy*", kind: MessageNotFound},       // MessagesManager::process_input_message_content
	{text: "*message_id_invalid*", kind: MessageNotFound},         // Telegram
	{text: "*msg_id_invalid*", kind: MessageNotFound},             // Telegram
	{text: "*message_not_found*", kind: MessageNotFound},          // Client::check_message
	{text: "*chat not found*", kind: ChatNotFound},                // Client::check_chat
	{text: "*user not found*", kind: ChatNotFound},                // Client::check_user
	{text: "*peer_id_invalid*", kind: ChatNotFound},               // Telegram
	{text: "*chat_id_invalid*", kind: ChatNotFound},               // Telegram
	{text: "*channel_invalid*", kind: ChatNotFound},               // Telegram
}

// judge returns an answer's kind and delivery. waits says that the answer names
// a time to wait.
//
// The code decides on delivery where no row does. After a 4xx the call was not
// carried out. A 5xx leaves it open: a server that shuts down answers "restart" or
// "Request aborted" also to calls that it has handed on (Client::on_closed,
// Global::request_aborted_error). A method that sends several messages may have
// sent some of them before one failed (Client::on_message_send_failed).
func judge(method string, code int, description string, migrated, waits bool) (Kind, Delivery) {
	kind, general := kindOfCode(code)
	delivery := MaybeDelivered
	if code >= 400 && code < 500 {
		delivery = NotDelivered
	}
	if general {
		code = 0
	}
	switch m := meaningOf(code, description); {
	case migrated:
		kind = Migrated
	case general && waits:
		kind = RateLimited
	case kind == BadReply || m == nil:
	default:
		kind = m.kind
		if m.delivery != DeliveryUnknown {
			delivery = m.delivery
		}
	}
	if sendsSeveral(method) {
		delivery = MaybeDelivered
	}
	return kind, delivery
}

// meaningOf returns the first row that fits, or nil.
func meaningOf(code int, description string) *meaning {
	text := plain(description)
	for i := range meanings {
		if m := &meanings[i]; m.code == code && fits(forms[i], text) {
			return m
		}
	}
	return nil
}

// kindOfCode returns the kind that a code has without a text, and whether the
// rows of [meanings] without a code hold for it.
func kindOfCode(code int) (kind Kind, general bool) {
	switch code {
	case http.StatusUnauthorized:
		return Unauthorized, false
	case http.StatusNotFound:
		return NotFound, false
	case http.StatusConflict:
		return Conflict, false
	case http.StatusRequestEntityTooLarge:
		return FileTooLarge, false
	case http.StatusMisdirectedRequest:
		return InvalidToken, false // a self-hosted server does not serve this token's id
	case http.StatusTooManyRequests:
		return RateLimited, false
	case http.StatusForbidden:
		return Forbidden, true
	}
	switch {
	case code >= 400 && code < 500:
		return BadRequest, true
	case code >= 500 && code < 600:
		return Unavailable, false
	default:
		return BadReply, false // "not ok" with no code that could say so
	}
}

func sendsSeveral(method string) bool {
	return strings.EqualFold(method, "sendMediaGroup") ||
		strings.EqualFold(method, "copyMessages") || strings.EqualFold(method, "forwardMessages")
}

// forms are the texts of [meanings], split at each "*".
var forms = func() (forms [len(meanings)][]string) {
	for i := range meanings {
		forms[i] = strings.Split(meanings[i].text, "*")
	}
	return forms
}()

// fits reports whether a text consists of the parts of a form with any text
// between them.
func fits(form []string, text string) bool {
	last := len(form) - 1
	if last == 0 {
		return text == form[0]
	}
	text, ok := strings.CutPrefix(text, form[0])
	for i := 1; ok && i < last; i++ {
		_, text, ok = strings.Cut(text, form[i])
	}
	return ok && strings.HasSuffix(text, form[last])
}
