package session

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"

	"github.com/tgfleet/tgfleet/errors"
)

// tokenPattern finds what looks like a bot token, also where its colon was
// escaped for a URL. The secret's length is not promised by Telegram, so it
// only has a lower bound.
var tokenPattern = regexp.MustCompile(`([0-9]{1,17})(?::|%3[Aa])[A-Za-z0-9_-]{20,}`)

// Redact returns text with everything that looks like a bot token replaced by
// its masked form, "123456:***". It is a last line of defence, for texts of
// others: nothing in this package needs it to keep a token.
func Redact(text string) string {
	return tokenPattern.ReplaceAllString(text, "$1:***")
}

// redactWith also removes a secret that is known, in whatever form it stands.
func redactWith(text string, token Token) string {
	_, secret, _ := strings.Cut(token.Reveal(), ":")
	if secret != "" {
		text = strings.ReplaceAll(text, token.Reveal(), token.String())
		text = strings.ReplaceAll(text, secret, "***")
	}
	return Redact(text)
}

// redactError returns err when no part of it shows the token in any form, and
// otherwise an error with the same text less the token. The latter keeps no
// reference to err, so that no depth of unwrapping reaches the token; it still
// matches the standard errors that err matched.
func redactError(err error, token Token) error {
	if err == nil || !shows(err, token, 0) {
		return err
	}
	r := &redacted{text: redactWith(err.Error(), token)}
	for _, known := range [...]error{
		context.Canceled, context.DeadlineExceeded,
		io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe,
		os.ErrDeadlineExceeded, os.ErrNotExist, os.ErrPermission, net.ErrClosed,
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.ETIMEDOUT,
	} {
		if errors.Is(err, known) {
			r.known = append(r.known, known)
		}
	}
	return r
}

// shows reports whether err or anything it wraps prints a token: the given
// one, or what looks like one.
func shows(err error, token Token, depth int) bool {
	if err == nil {
		return false
	}
	if depth > maxDepth {
		return true // too deep to look through: not to be trusted
	}
	for _, format := range [...]string{"%v", "%+v", "%#v"} {
		text := fmt.Sprintf(format, err)
		if redactWith(text, token) != text {
			return true
		}
	}
	switch u := err.(type) {
	case interface{ Unwrap() error }:
		return shows(u.Unwrap(), token, depth+1)
	case interface{ Unwrap() []error }:
		for _, e := range u.Unwrap() {
			if shows(e, token, depth+1) {
				return true
			}
		}
	}
	return false
}

// redacted stands for an error that showed a token.
type redacted struct {
	text  string
	known []error
}

func (r *redacted) Error() string   { return r.text }
func (r *redacted) Unwrap() []error { return r.known }
