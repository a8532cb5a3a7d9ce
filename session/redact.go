package session

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
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

// redactor removes a secret that is known, in whatever form it stands.
type redactor struct {
	token Token
	forms []string
}

// shortestForm is how long a secret's base64 must be to be looked for: what is
// shorter stands in any text.
const shortestForm = 12

func newRedactor(token Token) redactor {
	r := redactor{token: token}
	_, secret, _ := strings.Cut(token.Reveal(), ":")
	if secret == "" {
		return r
	}
	r.hide(secret)
	r.hide((&url.URL{Path: secret}).EscapedPath())
	r.hide(url.PathEscape(secret))
	r.hide(url.QueryEscape(secret))
	if quoted, err := json.Marshal(secret); err == nil {
		r.hide(string(quoted[1 : len(quoted)-1]))
	}
	// In base64 it stands in one of three ways, by where in a larger text it
	// begins, but for the characters that its neighbours have a part in.
	text := []byte("\x00\x00" + secret)
	for shift := range 3 {
		part := text[2-shift:]
		part = part[:len(part)/3*3]
		for _, encoding := range [...]*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			if form := encoding.EncodeToString(part); len(form) >= shortestForm {
				r.hide(form[(8*shift+5)/6:])
			}
		}
	}
	return r
}

// hide adds a form; most secrets need no escape and have the same in many ways.
func (r *redactor) hide(form string) {
	if !slices.Contains(r.forms, form) {
		r.forms = append(r.forms, form)
	}
}

func (r redactor) redact(text string) string {
	if len(r.forms) > 0 {
		text = strings.ReplaceAll(text, r.token.Reveal(), r.token.String())
	}
	for _, form := range r.forms {
		text = strings.ReplaceAll(text, form, "***")
	}
	return Redact(text)
}

// Redact returns text without the token, in whatever form it stands there: its
// secret alone, escaped for a URL or in JSON, or in base64. What looks like
// another token is masked as by the function [Redact].
func (t Token) Redact(text string) string { return newRedactor(t).redact(text) }

// redactError returns err when no part of it shows the token in any form, and
// otherwise an error with the same text less the token. The latter keeps no
// reference to err, so that no depth of unwrapping reaches the token; it still
// matches the standard errors that err matched.
func redactError(err error, token Token) error {
	if err == nil {
		return nil
	}
	secret := newRedactor(token)
	if !shows(err, secret, 0) {
		return err
	}
	r := &redacted{text: secret.redact(err.Error())}
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

// shows reports whether err or anything it wraps prints a secret: the given
// one, or a token's, what looks like one.
func shows(err error, secret redactor, depth int) bool {
	if err == nil {
		return false
	}
	if depth > maxDepth {
		return true // too deep to look through: not to be trusted
	}
	for _, format := range [...]string{"%v", "%+v", "%#v"} {
		text := fmt.Sprintf(format, err)
		if secret.redact(text) != text {
			return true
		}
	}
	switch u := err.(type) {
	case interface{ Unwrap() error }:
		return shows(u.Unwrap(), secret, depth+1)
	case interface{ Unwrap() []error }:
		for _, e := range u.Unwrap() {
			if shows(e, secret, depth+1) {
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
