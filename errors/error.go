package errors

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// Scope says how much a rate limit covers.
type Scope uint8

const (
	// ScopeUnknown: Telegram does not say what a 429 covers.
	ScopeUnknown Scope = iota
	// ScopeChat: one chat of one tenant.
	ScopeChat
	// ScopeTenant: all chats of one tenant.
	ScopeTenant
	// ScopeAll: all tenants of this service.
	ScopeAll
)

// String returns the scope's name, such as "chat".
func (s Scope) String() string {
	switch s {
	case ScopeChat:
		return "chat"
	case ScopeTenant:
		return "tenant"
	case ScopeAll:
		return "all"
	default:
		return "unknown"
	}
}

// Delivery says whether a call that failed may have been carried out. It
// decides whether the call may be sent again, and is independent of the error's
// [Kind]: Telegram may name a failure after it did part of the work.
type Delivery uint8

const (
	// DeliveryUnknown: not recorded. Treat it like MaybeDelivered.
	DeliveryUnknown Delivery = iota
	// NotDelivered: the call was certainly not carried out. This process
	// refused it, no connection was made, the request's last byte was not
	// handed to the connection, or Telegram answered that the method failed.
	NotDelivered
	// MaybeDelivered: the call may have been carried out. The request was sent
	// and no answer of the Bot API came, the answer broke off, or it leaves
	// the outcome open. Once an attempt of a call is MaybeDelivered, the call
	// stays so.
	MaybeDelivered
	// Delivered: the call was carried out, and only its result is missing; see
	// [ResultLost].
	Delivered
)

// String returns the delivery's name, such as "maybe_delivered".
func (d Delivery) String() string {
	switch d {
	case NotDelivered:
		return "not_delivered"
	case MaybeDelivered:
		return "maybe_delivered"
	case Delivered:
		return "delivered"
	default:
		return "unknown"
	}
}

// Error is what every failure in tgfleet leaves as. It holds no token and no
// text of a user, so it can be logged in any form. What may be shown to people
// is the text of [Friendly].
//
// An Error is not changed after it was returned, so it is safe to share.
type Error struct {
	// Kind is what went wrong.
	Kind Kind
	// Op is what was being done: a Bot API method ("sendMessage"), or an
	// operation of ours ("open tenant").
	Op string
	// Key is the tenant or bot it was done for; empty where there is none.
	Key string
	// Code is Telegram's error_code or the HTTP status; 0 without an answer.
	Code int
	// Description is Telegram's own text for the failure, with all that it
	// quotes of the request left out. Empty without an answer.
	Description string
	// RetryAfter is how long to wait before trying again; 0 when not known.
	RetryAfter time.Duration
	// Scope is what a rate limit covers.
	Scope Scope
	// MigrateTo is the supergroup's chat id where Kind is [Migrated], if
	// Telegram said it.
	MigrateTo int64
	// Delivery says whether the call may have been carried out.
	Delivery Delivery
	// Err is the cause, or nil.
	Err error
}

// Error returns a text for logs, such as
// "sendMessage: rate limited by Telegram (429): retry after 5s".
func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op)
		b.WriteString(": ")
	}
	if e.Key != "" {
		b.WriteString(strconv.Quote(withoutTokens(e.Key)))
		b.WriteString(": ")
	}
	b.WriteString(e.Kind.Error())
	if e.Code != 0 {
		b.WriteString(" (")
		b.WriteString(strconv.Itoa(e.Code))
		b.WriteString(")")
	}
	if e.Description != "" {
		b.WriteString(": ")
		b.WriteString(e.Description)
	} else if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(withoutTokens(e.Err.Error()))
	}
	if e.RetryAfter > 0 {
		b.WriteString("; retry after ")
		b.WriteString(e.RetryAfter.String())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the error's kind, or the standard error that
// the kind stands for: a [Timeout] matches [context.DeadlineExceeded] and a
// [Canceled] matches [context.Canceled].
func (e *Error) Is(target error) bool {
	if k, ok := target.(Kind); ok {
		return k == e.Kind
	}
	switch e.Kind {
	case Timeout:
		return target == context.DeadlineExceeded
	case Canceled:
		return target == context.Canceled
	default:
		return false
	}
}

// LogValue makes slog write the error's parts as attributes.
func (e *Error) LogValue() slog.Value {
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs, slog.String("kind", e.Kind.String()), slog.String("text", e.Error()))
	if e.Op != "" {
		attrs = append(attrs, slog.String("op", e.Op))
	}
	if e.Key != "" {
		attrs = append(attrs, slog.String("key", withoutTokens(e.Key)))
	}
	if e.Code != 0 {
		attrs = append(attrs, slog.Int("code", e.Code))
	}
	if e.RetryAfter > 0 {
		attrs = append(attrs, slog.Duration("retry_after", e.RetryAfter))
	}
	if e.Scope != ScopeUnknown {
		attrs = append(attrs, slog.String("scope", e.Scope.String()))
	}
	if e.Delivery != DeliveryUnknown {
		attrs = append(attrs, slog.String("delivery", e.Delivery.String()))
	}
	return slog.GroupValue(attrs...)
}

// KindOf returns the kind of the first error in err's tree that has one.
// Errors of contexts and connections and gotgbot's TelegramError have a kind
// too. Nil is [None] and everything else is [Internal].
func KindOf(err error) Kind {
	if err == nil {
		return None
	}
	k, ok := None, false
	if e, found := AsType[*Error](err); found {
		k, ok = e.Kind, true
	} else {
		k, ok = AsType[Kind](err)
	}
	switch {
	case !ok:
		return classify(err)
	case k == None:
		return Internal // somebody forgot to say
	default:
		return k
	}
}

// RetryAfter returns how long to wait before trying again, and 0 where the
// error does not say.
func RetryAfter(err error) time.Duration {
	if e, ok := AsType[*Error](err); ok {
		return e.RetryAfter
	}
	return telegramRetryAfter(err)
}

// MigrateTo returns the id of the supergroup that a group became, and false
// where the error does not say.
func MigrateTo(err error) (chatID int64, ok bool) {
	if e, ok := AsType[*Error](err); ok {
		return e.MigrateTo, e.MigrateTo != 0
	}
	return telegramMigrateTo(err)
}

// Temporary reports whether the same call may succeed later without anybody
// mending anything. Nil is not temporary.
func Temporary(err error) bool { return err != nil && KindOf(err).Temporary() }

// SafeToRepeat reports whether the call that failed with err was certainly not
// carried out, so that sending it again can't double its effect. It does not
// say that repeating helps: see [Temporary].
func SafeToRepeat(err error) bool {
	if e, ok := AsType[*Error](err); ok {
		return e.Delivery == NotDelivered
	}
	t, ok := AsType[*gotgbot.TelegramError](err)
	if !ok {
		return false
	}
	_, delivery := judgeBare(t)
	return delivery == NotDelivered
}

// TenantFault reports whether the failure is the tenant's own: its token, its
// bot or its standing.
func TenantFault(err error) bool { return KindOf(err).Fault() == FaultTenant }

// PlatformFault reports whether the failure is Telegram's or of the way to
// it, and so nothing to hold against the tenant.
func PlatformFault(err error) bool { return KindOf(err).Fault() == FaultPlatform }
