package errors

import (
	"cmp"
	"iter"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxAcceptLanguage bounds how much of the header is read, in bytes.
	maxAcceptLanguage = 1 << 10
	// maxTag bounds a language tag. RFC 5646 section 4.4.1 asks for room for
	// 35 characters.
	maxTag = 35
)

// catalogue returns the catalogue for exactly this language, or nil.
func (t Texts) catalogue(tag string) Catalogue {
	if c := t.Catalogues[tag]; c != nil {
		return c
	}
	// Of two keys that differ by case alone, it is always the same that wins.
	var found Catalogue
	key := ""
	for k, c := range t.Catalogues {
		if c != nil && strings.EqualFold(k, tag) && (found == nil || k < key) {
			found, key = c, k
		}
	}
	if found == nil && strings.EqualFold(tag, "en") {
		return English{}
	}
	return found
}

// fallbacks yields a language tag and its shorter forms, as lookup in RFC 4647
// section 3.4 has it: "zh-Hant-TW", "zh-Hant", "zh". "pt_BR" counts as "pt-BR".
// What is no tag yields nothing.
func fallbacks(tag string) iter.Seq[string] {
	return func(yield func(string) bool) {
		tag := strings.ReplaceAll(strings.TrimSpace(tag), "_", "-")
		if !isTag(tag) {
			return
		}
		for tag != "" && yield(tag) {
			cut := max(strings.LastIndexByte(tag, '-'), 0)
			tag = tag[:cut]
			// A lone character opens an extension and means nothing at the end.
			if n := len(tag); n > 1 && tag[n-2] == '-' {
				tag = tag[:n-2]
			}
		}
	}
}

// isTag reports whether tag has the characters of a language tag. What passes
// is fit for the header Content-Language.
func isTag(tag string) bool {
	if tag == "" || len(tag) > maxTag || tag[0] == '-' {
		return false
	}
	for _, c := range []byte(tag) {
		if c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// acceptLanguage returns the languages that a header Accept-Language asks for,
// the most wanted first. "*" and what is malformed are left out.
func acceptLanguage(header string) []string {
	if len(header) > maxAcceptLanguage {
		header = header[:maxAcceptLanguage]
		header = header[:strings.LastIndexByte(header, ',')+1] // the last one may be cut
	}
	type wanted struct {
		tag string
		q   float64
	}
	var all []wanted
	for item := range strings.SplitSeq(header, ",") {
		tag, params, weighted := strings.Cut(item, ";")
		w := wanted{strings.TrimSpace(tag), 1}
		if weighted {
			w.q = quality(params)
		}
		if w.q > 0 && isTag(w.tag) {
			all = append(all, w)
		}
	}
	slices.SortStableFunc(all, func(a, b wanted) int { return cmp.Compare(b.q, a.q) })
	tags := make([]string, len(all))
	for i, w := range all {
		tags[i] = w.tag
	}
	return tags
}

// quality reads "q=0.8" as RFC 9110 section 12.4.2 has it. What is no number
// from 0 to 1 counts as 0.
func quality(param string) float64 {
	name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
	if !strings.EqualFold(strings.TrimSpace(name), "q") {
		return 0
	}
	q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || !(q >= 0 && q <= 1) { // also not a number
		return 0
	}
	return q
}
