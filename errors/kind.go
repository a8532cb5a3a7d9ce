package errors

import "fmt"

// Kind says what went wrong, for programs. It is a value to switch on, to
// count by and to match with [Is], since a Kind is itself an error:
//
//	if errors.Is(err, errors.Blocked) { ... }
//
//	switch errors.KindOf(err) {
//	case errors.RateLimited, errors.Throttled: ...
//	}
//
// A Kind prints as a short snake_case name, which is stable: it is fit for
// metrics labels, logs and problem documents. New kinds may be added; treat
// one that you do not know as [Internal].
type Kind uint8

const (
	// None is the kind of a nil error, and of nothing else.
	None Kind = iota

	// Internal is a failure of this program: a bug, a panic that was caught,
	// or an error that nobody classified.
	Internal
	// Canceled says that the caller gave up: its context was canceled. It
	// says nothing about the tenant or Telegram.
	Canceled
	// Closed says that the session, pool or other part was closed before or
	// during the call.
	Closed

	// InvalidToken says that a text does not have the form of a bot token.
	// Telegram answers such a token with 404 Not Found, which it also says
	// of every token when the API's URL is wrong, or with 401 "invalid token
	// specified".
	InvalidToken
	// Unauthorized is Telegram's 401: the token is well formed, but was
	// revoked or never valid.
	Unauthorized
	// LoggedOut says that the bot logged out of this Bot API server (method
	// logOut) and can't be used there until its lock ends.
	LoggedOut
	// TokenTaken says that the bot belongs to another tenant already.
	TokenTaken
	// Exists says that there is a tenant of that id already, with other data.
	Exists
	// WrongBot says that a token is of another bot than the tenant's.
	WrongBot
	// NotFound says that there is no such tenant, record, file or method.
	NotFound
	// Stale says that a record was changed by somebody else since it was read.
	Stale
	// Suspended says that the tenant was suspended, by hand or by quarantine.
	Suspended
	// Unverified says that nobody has proved yet to own the tenant's bot, which
	// the service wants before the bot sends.
	Unverified

	// RateLimited is Telegram's 429, or another code with a 429's text.
	// RetryAfter and [Scope] tell more.
	RateLimited
	// Throttled is our own refusal to send now, so that Telegram does not
	// have to refuse. RetryAfter and [Scope] tell more.
	Throttled
	// BreakerOpen says that earlier calls failed so often that this one was
	// not sent.
	BreakerOpen
	// PoolFull says that all places for open bots are in use.
	PoolFull
	// StoreUnavailable says that our own database could not be reached, or is
	// restarting, busy or full.
	StoreUnavailable

	// Timeout says that no answer came in time. A call that must not be repeated
	// is [OutcomeUnknown] instead, if it may have been carried out.
	Timeout
	// ConnectionFailed says that no connection was made, or that it broke. As
	// with Timeout, a call that may have been carried out is [OutcomeUnknown].
	ConnectionFailed
	// OutcomeUnknown says that a call which must not be repeated may have been
	// carried out, and that no answer settles it: a message may or may not be
	// in the chat. If Telegram's answer names a failure, the error keeps that
	// kind, and its Delivery can still be [MaybeDelivered]. Ask
	// [SafeToRepeat] before you repeat a call of any kind.
	OutcomeUnknown
	// Unavailable says that Telegram answered with a server error (5xx), or
	// that a self-hosted server can't sign in to Telegram itself.
	Unavailable
	// BadReply says that an answer was no answer of a Bot API server: cut,
	// empty, too large, or of another form.
	BadReply

	// Conflict is Telegram's 409: another getUpdates runs, a webhook is
	// active, or a setWebhook runs. [ConflictOf] tells which.
	Conflict
	// BadRequest is Telegram's 400 where no narrower kind fits: the call
	// itself is wrong, and repeating it is useless.
	BadRequest
	// NotModified says that an edit changes nothing: what was wanted is so.
	NotModified
	// ResultLost says that Telegram carried the call out and can't return its
	// result. A sent message that a moderating bot deletes at once is an example.
	// Nobody failed, and the call must not be repeated. Its Delivery is
	// [Delivered], or [MaybeDelivered] for an album, a copy or a forward of
	// several messages, because some of them may not have been sent.
	ResultLost
	// MessageNotFound says that the message to edit, delete, forward, copy
	// or reply to is not there.
	MessageNotFound
	// QueryExpired says that a callback or inline query was answered too late.
	QueryExpired
	// MessageTooLong says that a text or caption is longer than allowed.
	MessageTooLong
	// BadMarkup says that a text's HTML or Markdown can't be parsed.
	BadMarkup
	// FileTooLarge says that a file is larger than the server takes or gives.
	FileTooLarge
	// ChatNotFound says that the chat or user does not exist, or that the bot
	// never met it.
	ChatNotFound
	// Migrated says that the group became a supergroup. [MigrateTo] returns
	// its new id.
	Migrated

	// Forbidden is Telegram's 403 where no narrower kind fits, and its 400 for
	// missing rights: rights of the bot in a chat, a closed topic, a user who
	// accepts no voice messages.
	Forbidden
	// Blocked says that the user blocked the bot.
	Blocked
	// NotStarted says that the user has not started the bot, so it can't
	// write first.
	NotStarted
	// Kicked says that the bot was removed from the group, supergroup or
	// channel, or is not a member of it.
	Kicked
	// ChatGone says that who was to be written to is no more: the user's
	// account was deleted or the group was.
	ChatGone

	kinds // how many there are
)

// Fault says whose failure a kind is, which decides whom a circuit breaker, an
// alert or a bill counts it against.
type Fault uint8

const (
	// FaultNone: nothing failed, or the answer is a good one ("not modified",
	// "sent, but deleted at once").
	FaultNone Fault = iota
	// FaultCaller: the call itself or its timing; others of the tenant work.
	FaultCaller
	// FaultTenant: the tenant's bot, token or standing.
	FaultTenant
	// FaultPlatform: Telegram, or the way to it.
	FaultPlatform
	// FaultLocal: this program or its limits.
	FaultLocal
)

// String returns the fault's name, such as "tenant".
func (f Fault) String() string {
	switch f {
	case FaultNone:
		return "none"
	case FaultCaller:
		return "caller"
	case FaultTenant:
		return "tenant"
	case FaultPlatform:
		return "platform"
	case FaultLocal:
		return "local"
	default:
		return fmt.Sprintf("Fault(%d)", uint8(f))
	}
}

// traits is all that is fixed about a kind.
type traits struct {
	name      string
	text      string // for Kind.Error
	http      int    // what to answer an HTTP client
	fault     Fault
	temporary bool
}

var traitsOf = [kinds]traits{
	None:     {"none", "no error", 200, FaultNone, false},
	Internal: {"internal", "internal error", 500, FaultLocal, false},
	Canceled: {"canceled", "canceled by the caller", 499, FaultCaller, false},
	Closed:   {"closed", "closed", 503, FaultLocal, false},

	InvalidToken: {"invalid_token", "invalid token format", 400, FaultTenant, false},
	Unauthorized: {"unauthorized", "token not accepted by Telegram", 422, FaultTenant, false},
	LoggedOut:    {"logged_out", "bot logged out of this server", 409, FaultTenant, false},
	TokenTaken:   {"token_taken", "bot belongs to another tenant", 409, FaultTenant, false},
	Exists:       {"exists", "exists already", 409, FaultCaller, false},
	WrongBot:     {"wrong_bot", "token is of another bot", 409, FaultTenant, false},
	NotFound:     {"not_found", "not found", 404, FaultCaller, false},
	Stale:        {"stale", "changed by somebody else meanwhile", 409, FaultCaller, true},
	Suspended:    {"suspended", "tenant suspended", 403, FaultTenant, false},
	Unverified:   {"unverified", "owner not verified", 403, FaultTenant, false},

	RateLimited: {"rate_limited", "rate limited by Telegram", 429, FaultTenant, true},
	Throttled:   {"throttled", "rate limited locally", 429, FaultLocal, true},
	BreakerOpen: {"breaker_open", "circuit breaker open", 503, FaultPlatform, true},
	PoolFull:    {"pool_full", "all places for open bots in use", 503, FaultLocal, true},

	StoreUnavailable: {"store_unavailable", "database unavailable", 503, FaultLocal, true},

	Timeout:          {"timeout", "timed out", 504, FaultPlatform, true},
	ConnectionFailed: {"connection_failed", "connection failed", 502, FaultPlatform, true},
	OutcomeUnknown:   {"outcome_unknown", "outcome unknown", 502, FaultPlatform, false},
	Unavailable:      {"unavailable", "Telegram unavailable", 502, FaultPlatform, true},
	BadReply:         {"bad_reply", "not a Bot API reply", 502, FaultPlatform, true},

	Conflict:        {"conflict", "conflict", 409, FaultTenant, true},
	BadRequest:      {"bad_request", "bad request", 400, FaultCaller, false},
	NotModified:     {"not_modified", "message is not modified", 400, FaultNone, false},
	ResultLost:      {"result_lost", "carried out, but the result is lost", 410, FaultNone, false},
	MessageNotFound: {"message_not_found", "message not found", 404, FaultCaller, false},
	QueryExpired:    {"query_expired", "query expired", 410, FaultCaller, false},
	MessageTooLong:  {"message_too_long", "message too long", 400, FaultCaller, false},
	BadMarkup:       {"bad_markup", "markup can't be parsed", 400, FaultCaller, false},
	FileTooLarge:    {"file_too_large", "file too large", 413, FaultCaller, false},
	ChatNotFound:    {"chat_not_found", "chat not found", 404, FaultCaller, false},
	Migrated:        {"migrated", "group became a supergroup", 409, FaultCaller, false},

	Forbidden:  {"forbidden", "forbidden by Telegram", 403, FaultCaller, false},
	Blocked:    {"blocked", "bot blocked by the user", 403, FaultCaller, false},
	NotStarted: {"not_started", "user has not started the bot", 403, FaultCaller, false},
	Kicked:     {"kicked", "bot is not in the chat", 403, FaultCaller, false},
	ChatGone:   {"chat_gone", "chat is gone", 410, FaultCaller, false},
}

func (k Kind) traits() *traits {
	if k >= kinds {
		k = Internal
	}
	return &traitsOf[k]
}

// Kinds returns every kind but [None], in the order of their declaration, for
// catalogues and tables.
func Kinds() []Kind {
	all := make([]Kind, 0, kinds-1)
	for k := None + 1; k < kinds; k++ {
		all = append(all, k)
	}
	return all
}

// String returns the kind's stable name, such as "rate_limited".
func (k Kind) String() string { return k.traits().name }

// Error makes a Kind an error, so that it can be a target of [Is] and, where
// nothing more is known, be returned itself.
func (k Kind) Error() string { return k.traits().text }

// Fault returns whose failure the kind is.
func (k Kind) Fault() Fault { return k.traits().fault }

// Temporary reports whether the same call may succeed later without anybody
// mending anything. It does not say that repeating is safe: see [SafeToRepeat].
func (k Kind) Temporary() bool { return k.traits().temporary }

// HTTPStatus returns the status that answers an HTTP client best. 499, which
// is what nginx uses, stands for a client that went away.
func (k Kind) HTTPStatus() int { return k.traits().http }

// MarshalText returns the kind's name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText accepts what MarshalText returns, and takes a name it does not
// know for [Internal], so that a newer writer does not fail an older reader.
func (k *Kind) UnmarshalText(text []byte) error {
	for i := range traitsOf {
		if traitsOf[i].name == string(text) {
			*k = Kind(i)
			return nil
		}
	}
	*k = Internal
	return nil
}
