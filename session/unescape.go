package session

import (
	"html"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// span is a part of a text, in bytes.
type span struct{ from, to int }

// decoding is a text after escapes were undone. It knows which bytes of the
// original each of its bytes stands for.
type decoding struct {
	text   string
	spans  []span // one for each byte; nil if no escape was undone
	offset int    // of text in the original, if no escape was undone
}

func (d decoding) at(i int) span {
	if d.spans == nil {
		return span{d.offset + i, d.offset + i + 1}
	}
	return d.spans[i]
}

// maxEscapes is how many escapes, each around another, are undone.
const maxEscapes = 3

// eachDecoding calls f with original, and with each of the texts that result
// from undoing escapes up to maxEscapes times, in every order.
func eachDecoding(original decoding, f func(decoding)) {
	level := []decoding{original}
	f(original)
	seen := map[string]struct{}{original.text: {}}
	for range maxEscapes {
		var next []decoding
		for _, d := range level {
			for _, e := range escapes {
				u, changed := e.undo(d)
				if _, again := seen[u.text]; !changed || again {
					continue
				}
				seen[u.text] = struct{}{}
				f(u)
				next = append(next, u)
			}
		}
		level = next
	}
}

// escape is a way to write characters as others.
type escape struct {
	pattern *regexp.Regexp // matches at least each escaped character
	decode  func(match string) string
}

var escapes = [...]escape{
	{regexp.MustCompile(`&(?:#[xX]?[0-9A-Fa-f]+|[A-Za-z][0-9A-Za-z]*);?`), html.UnescapeString},
	{regexp.MustCompile(`%[0-9A-Fa-f]{2}`), func(match string) string {
		text, _ := url.PathUnescape(match) // never fails on the pattern
		return text
	}},
	{regexp.MustCompile(`\\(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|["'\\/])`), unquote},
}

// unquote decodes one backslash escape of JSON or Go.
func unquote(match string) string {
	switch match[1] {
	case 'u':
		n, _ := strconv.ParseUint(match[2:], 16, 16)
		return string(rune(n))
	case 'x':
		n, _ := strconv.ParseUint(match[2:], 16, 8)
		return string([]byte{byte(n)})
	}
	return match[1:]
}

// undo undoes an escape once, everywhere in d. changed is false if d has none.
func (e escape) undo(d decoding) (u decoding, changed bool) {
	matches := e.pattern.FindAllStringIndex(d.text, -1)
	if matches == nil {
		return d, false
	}
	var b strings.Builder
	spans := make([]span, 0, len(d.text))
	end := 0
	keep := func(to int) {
		b.WriteString(d.text[end:to])
		for ; end < to; end++ {
			spans = append(spans, d.at(end))
		}
	}
	for _, m := range matches {
		match := d.text[m[0]:m[1]]
		text := e.decode(match)
		if text == match {
			continue
		}
		changed = true
		// HTML needs no semicolon, so a match may end with more than the escaped
		// character, such as "&ampabc". The text that both have at their end
		// was not escaped.
		same := 0
		for same < min(len(text), len(match))-1 && text[len(text)-1-same] == match[len(match)-1-same] {
			same++
		}
		keep(m[0])
		whole := span{d.at(m[0]).from, d.at(m[1] - same - 1).to}
		for range len(text) - same {
			spans = append(spans, whole)
		}
		b.WriteString(text[:len(text)-same])
		end = m[1] - same
	}
	keep(len(d.text))
	return decoding{text: b.String(), spans: spans}, changed
}
