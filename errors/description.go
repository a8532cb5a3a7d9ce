package errors

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxDescription bounds a description in bytes. Telegram's longest is
	// half as long.
	maxDescription = 200
	// maxWord bounds a word of a description in bytes. What is longer is data,
	// not language.
	maxWord = 64
	// left stands for what was left out.
	left = "..."
)

// tokenLike finds what looks like a bot token, also with its colon escaped for
// a URL. Telegram promises no length for the secret, so only a lower bound
// is asked for.
var tokenLike = regexp.MustCompile(`[0-9]+(?::|%3[Aa])[A-Za-z0-9_-]{20,}`)

func withoutTokens(s string) string { return tokenLike.ReplaceAllLiteralString(s, "***") }

// quoteless returns Telegram's description without what it repeats of the
// request: quoted texts, links, names, tokens. The result is short, printable
// UTF-8.
func quoteless(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' ' // also invisible marks that reorder what a log shows
		}
		return r
	}, s)
	words := strings.Fields(withoutTokens(cutQuotes(s)))
	for i, w := range words {
		switch {
		case strings.Contains(w, "://"), strings.Contains(w, "t.me/"), len(w) > maxWord:
			words[i] = left
		case strings.Contains(w, "@"):
			words[i] = "@" + left
		}
	}
	return bounded(strings.Join(words, " "), maxDescription)
}

// cutQuotes replaces all from the first quotation mark to the last by "...".
// What is quoted may hold quotation marks itself, and Telegram escapes none,
// so going by pairs would take a part of it for Telegram's own words. Where
// the marks do not even pair up, nothing after the first is kept.
func cutQuotes(s string) string {
	first, end, n := -1, -1, 0
	before := ' '
	for i, r := range s {
		_, size := utf8.DecodeRuneInString(s[i:])
		if isQuote(r) && !isApostrophe(r, before, s[i+size:]) {
			if first < 0 {
				first = i
			}
			end = i + size
			n++
		}
		before = r
	}
	switch {
	case n == 0:
		return s
	case n%2 != 0:
		return s[:first] + `"` + left + `"`
	default:
		return s[:first] + `"` + left + `"` + s[end:]
	}
}

func isQuote(r rune) bool { return strings.ContainsRune("\"'`“”„‟‘’‚‛«»‹›", r) }

// isApostrophe tells the mark in "can't" from one that quotes.
func isApostrophe(r, before rune, after string) bool {
	next, _ := utf8.DecodeRuneInString(after)
	return (r == '\'' || r == '’') && unicode.IsLetter(before) && unicode.IsLetter(next)
}

// bounded cuts s to at most limit bytes, between two characters.
func bounded(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	cut := limit - len(left)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + left
}

// albumPrefix begins, in lower case, the description of a media group's
// failure, which quotes not the user but Telegram's own text for one message:
//
//	Bad Request: failed to send message #1 with the error message "..."
const (
	albumPrefix = "failed to send message #"
	albumQuote  = ` with the error message "`
)

// albumReason takes the marks from around the text that such a description
// quotes, so that it counts as Telegram's words.
func albumReason(s string) string {
	head, reason, ok := strings.Cut(s, albumQuote)
	if !ok || !strings.Contains(strings.ToLower(head), albumPrefix) || strings.ContainsFunc(head, isQuote) {
		return s
	}
	return head + ": " + strings.TrimSuffix(reason, `"`)
}
