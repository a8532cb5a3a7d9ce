package session

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
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

// minRun is the length of the shortest part of a secret that is removed. A
// shorter part appears in ordinary texts, and hardly helps to guess the rest.
const minRun = 8

// shortestForm is the length of the shortest encoded secret that is removed. A
// shorter one appears in any text.
const shortestForm = 12

// A long text is read in windows, to bound the memory for its decodings. Windows
// overlap by more than the longest secret takes with every character escaped
// twice.
const (
	window  = 16 << 10
	overlap = 4 << 10
)

// maxErrorText is the length of the longest error text that is shown.
const maxErrorText = 8 << 10

// redactor removes a known secret, in plain text and in the forms it knows.
type redactor struct{ forms []form }

// form is one way to write the secret. Every run of min bytes of it is removed,
// so that a secret that was cut in two does not show either part.
type form struct {
	text string
	min  int
}

func newRedactor(token Token) redactor {
	var r redactor
	_, secret, _ := strings.Cut(token.Reveal(), ":")
	if secret == "" {
		return r
	}
	run := min(minRun, len(secret))
	r.add(secret, run)
	if digits := hex.EncodeToString([]byte(secret)); len(digits) >= shortestForm {
		r.add(digits, 2*run)
		r.add(strings.ToUpper(digits), 2*run)
	}
	// In base64 the secret has one of three forms, which depends on where it
	// begins in the encoded text. The characters that it shares with its
	// neighbors are left out. 11 characters hold 8 bytes.
	text := []byte("\x00\x00" + secret)
	for shift := range 3 {
		part := text[2-shift:]
		part = part[:len(part)/3*3]
		for _, encoding := range [...]*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			if form := encoding.EncodeToString(part); len(form) >= shortestForm {
				form = form[(8*shift+5)/6:]
				r.add(form, min((8*minRun+5)/6, len(form)))
			}
		}
	}
	return r
}

func (r *redactor) add(text string, run int) {
	if f := (form{text, run}); !slices.Contains(r.forms, f) {
		r.forms = append(r.forms, f)
	}
}

// redact returns text without the secret. Redacting again changes nothing.
func (r redactor) redact(text string) string {
	for {
		// "***" may itself be a part of a secret, and complete it. Each round
		// removes at least one other character, so this ends.
		redacted := Redact(r.hide(text))
		if redacted == text {
			return text
		}
		text = redacted
	}
}

// hide replaces every run of a form with "***", also where the text must be
// unescaped to show it.
func (r redactor) hide(text string) string {
	if len(r.forms) == 0 {
		return text
	}
	var found []span
	for from := 0; ; from += window - overlap {
		to := min(from+window, len(text))
		eachDecoding(decoding{text: text[from:to], offset: from}, func(d decoding) {
			for _, f := range r.forms {
				found = f.find(d, found)
			}
		})
		if to == len(text) {
			break
		}
	}
	if len(found) == 0 {
		return text
	}
	slices.SortFunc(found, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var b strings.Builder
	end := 0 // of what was copied or replaced
	for i, s := range found {
		if i == 0 || s.from > end {
			b.WriteString(text[end:s.from])
			b.WriteString("***")
		}
		end = max(end, s.to)
	}
	b.WriteString(text[end:])
	return b.String()
}

// find appends the spans of the original text whose decoding holds a run of f.
func (f form) find(d decoding, found []span) []span {
	for last := f.min - 1; last < len(d.text); {
		if strings.IndexByte(f.text, d.text[last]) < 0 {
			last += f.min // no run holds this byte
			continue
		}
		first := last - f.min + 1
		run := d.text[first : last+1]
		// Stars show nothing of a secret, and stand for the runs found before.
		if strings.Contains(f.text, run) && strings.Trim(run, "*") != "" {
			found = append(found, span{d.at(first).from, d.at(last).to})
		}
		last++
	}
	return found
}

// Redact returns text without the token's secret and without every part of it
// that is 8 or more characters long. It also finds them in HTML, URL and JSON
// escapes, in base64 and in hexadecimal. It masks what looks like another token
// as the function [Redact] does, and leaves all other text unchanged.
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
	text := err.Error()
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "..."
	}
	r := &redacted{text: secret.redact(text)}
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

// shows reports whether err or anything it wraps prints the secret or what looks
// like a token. An error that is too long or too deep to look through counts as
// one that does.
func shows(err error, secret redactor, depth int) bool {
	if err == nil {
		return false
	}
	if depth > maxDepth {
		return true
	}
	for _, format := range [...]string{"%v", "%+v", "%#v"} {
		text := fmt.Sprintf(format, err)
		if len(text) > maxErrorText || secret.redact(text) != text {
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
