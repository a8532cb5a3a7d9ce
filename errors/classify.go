package errors

import (
	"context"
	"crypto/tls"
	"io"
	"io/fs"
	"net"
	"net/url"
	"syscall"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// Classify returns err as an [*Error]: the first one in its tree, or else one
// made of what is there. Use it for errors of a bot that does not go through a
// tgfleet session, whose [gotgbot.TelegramError] still holds the request, and
// whose network errors hold the token:
//
//	log.Warn("reply not sent", "err", errors.Classify(err))
//
// What it makes keeps neither. A bare network error does not say how far the
// call came, so it is not [SafeToRepeat].
//
// Classify returns nil for a nil error; check for that first, since a nil
// *Error that is returned as an error is not nil.
func Classify(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := AsType[*Error](err); ok {
		return e
	}
	if t, ok := AsType[*gotgbot.TelegramError](err); ok {
		return FromTelegram(t.Method, t.Code, t.Description, t.ResponseParams)
	}
	e := &Error{Kind: KindOf(err), Err: err}
	if u, ok := AsType[*url.Error](err); ok {
		e.Err = u.Err // without the URL, whose path is the token
	}
	return e
}

// classify returns the kind of an error with neither an Error nor a Kind in it.
func classify(err error) Kind {
	if t, ok := AsType[*gotgbot.TelegramError](err); ok {
		kind, _ := judgeBare(t)
		return kind
	}
	if Is(err, context.Canceled) {
		return Canceled
	}
	if Is(err, context.DeadlineExceeded) {
		return Timeout
	}
	if n, ok := AsType[net.Error](err); ok && n.Timeout() {
		return Timeout
	}
	if connectionFailed(err) {
		return ConnectionFailed
	}
	return Internal
}

// connectionFailed reports whether err is of a connection. An end of file is
// only where an HTTP client reports it: a handler's own files end too.
func connectionFailed(err error) bool {
	for _, errno := range [...]error{
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, net.ErrClosed,
	} {
		if Is(err, errno) {
			return true
		}
	}
	if has[*net.OpError](err) || has[*net.DNSError](err) ||
		has[*tls.CertificateVerificationError](err) || has[tls.RecordHeaderError](err) || has[tls.AlertError](err) {
		return true
	}
	u, ok := AsType[*url.Error](err)
	switch {
	case !ok, u.Op == "parse":
		return false
	case Is(u.Err, io.EOF), Is(u.Err, io.ErrUnexpectedEOF):
		return true
	default:
		// The rest of what net/http says has no types. A file that could not
		// be read for an upload has one.
		return !has[*fs.PathError](u.Err)
	}
}

func has[E error](err error) bool {
	_, ok := AsType[E](err)
	return ok
}

// judgeBare is judge for gotgbot's own error.
func judgeBare(t *gotgbot.TelegramError) (Kind, Delivery) {
	_, migrated := telegramMigrateTo(t)
	return judge(t.Method, t.Code, albumReason(t.Description), migrated, telegramRetryAfter(t) > 0)
}

func telegramRetryAfter(err error) time.Duration {
	if t, ok := AsType[*gotgbot.TelegramError](err); ok {
		if wait := retryAfter(t.ResponseParams); wait > 0 {
			return wait
		}
		return retryAfterIn(albumReason(t.Description))
	}
	return 0
}

func telegramMigrateTo(err error) (int64, bool) {
	t, ok := AsType[*gotgbot.TelegramError](err)
	if !ok || t.ResponseParams == nil || t.ResponseParams.MigrateToChatId == 0 {
		return 0, false
	}
	return t.ResponseParams.MigrateToChatId, true
}
