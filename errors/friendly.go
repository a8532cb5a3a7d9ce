package errors

import "time"

// Catalogue holds the friendly texts of one language.
//
// A text is for the person before a screen: what happened in a few words, and
// what to do next. It names no code, method, id or tenant, and quotes no error;
// a Catalogue can't, as it is never given one.
type Catalogue interface {
	// Text returns the text for a failure of kind k. For [RateLimited] and
	// [Throttled], s says what the limit covers. A wait above 0 is how long to
	// wait before trying again; the text says it in words, rounded up (see
	// [RoundUp]), or leaves it out. False says that there is no text for k in
	// this language, and the next language that fits is asked.
	Text(k Kind, s Scope, wait time.Duration) (text string, ok bool)
}

// CatalogueFunc makes a function a [Catalogue].
type CatalogueFunc func(k Kind, s Scope, wait time.Duration) (string, bool)

// Text calls f.
func (f CatalogueFunc) Text(k Kind, s Scope, wait time.Duration) (string, bool) { return f(k, s, wait) }

// Texts are the friendly texts of a service, in all languages it speaks. The
// zero value speaks English. Texts may be used by many goroutines as long as
// nobody changes the map.
type Texts struct {
	// Catalogues are further languages, by BCP 47 tag without regard to case:
	// "de", "pt-BR". One under "en" comes before the built-in [English]. Nil
	// means English alone.
	Catalogues map[string]Catalogue
	// ProblemBase is put before a kind's name to make the type member of a
	// [Problem], such as "https://example.com/problems/" for a site that
	// explains each kind at its own address. Empty means "about:blank".
	ProblemBase string
}

// Friendly returns the English text, the only built-in one, that tells a
// person what became of the request and what to do next. It is the only form
// of an error that may be shown to people. A nil error has no text.
//
// lang is a BCP 47 tag, such as a Telegram user's language_code. Languages
// other than English come from a [Texts].
func Friendly(err error, lang string) string { return Texts{}.Friendly(err, lang) }

// Friendly returns the text for err in the language lang, or in the nearest
// one that has it: "pt-BR", then "pt", then English.
func (t Texts) Friendly(err error, lang string) string {
	if err == nil {
		return ""
	}
	text, _ := t.text(tellOf(err), []string{lang})
	return text
}

// telling is all of an error that a text may depend on.
type telling struct {
	kind  Kind
	scope Scope
	wait  time.Duration
}

func tellOf(err error) telling {
	tell := telling{kind: KindOf(err), wait: RetryAfter(err)}
	if e, ok := AsType[*Error](err); ok {
		tell.scope = e.Scope
	}
	return tell
}

// text returns the text in the first of langs that has one, and its language.
func (t Texts) text(tell telling, langs []string) (text, lang string) {
	for _, wanted := range langs {
		for tag := range fallbacks(wanted) {
			if c := t.catalogue(tag); c != nil {
				if text, ok := c.Text(tell.kind, tell.scope, tell.wait); ok && text != "" {
					return text, tag
				}
			}
		}
	}
	text, _ = English{}.Text(tell.kind, tell.scope, tell.wait)
	return text, "en"
}

// RoundUp returns d in whole units, never less than d, of the largest unit that
// a person would name: seconds below a minute, minutes below an hour, hours
// below two days, else days. For a catalogue that puts a wait in words.
func RoundUp(d time.Duration) (n int, unit time.Duration) {
	const day = 24 * time.Hour
	for _, step := range [...]struct{ unit, below time.Duration }{
		{time.Second, time.Minute}, {time.Minute, time.Hour}, {time.Hour, 2 * day},
	} {
		if n := ceil(d, step.unit); n < int(step.below/step.unit) {
			return n, step.unit
		}
	}
	return ceil(d, day), day
}

// ceil returns how many units d takes, and 0 for a negative d.
func ceil(d, unit time.Duration) int {
	if d <= 0 {
		return 0
	}
	return int((d-1)/unit) + 1
}
