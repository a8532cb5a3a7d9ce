package errors_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/tgfleet/tgfleet/errors"
)

// says is a catalogue that has the same text for every kind but Blocked.
func says(text string) errors.Catalogue {
	return errors.CatalogueFunc(func(k errors.Kind, _ errors.Scope, _ time.Duration) (string, bool) {
		return text, k != errors.Blocked
	})
}

func TestALimitsTextSaysWhatItCoversAndHowLong(t *testing.T) {
	for _, row := range []struct {
		scope errors.Scope
		wait  time.Duration
		want  string
	}{
		{errors.ScopeAll, 0, "System is busy. Please try again in a few seconds."},
		{errors.ScopeAll, 5 * time.Second, "System is busy. Please try again in 5 seconds."},
		{errors.ScopeTenant, 0, "This bot is sending too much at once. Please wait a moment and try again."},
		{errors.ScopeTenant, time.Nanosecond, "This bot is sending too much at once. Please try again in 1 second."},
		{errors.ScopeChat, 0, "Too many messages to this chat. Please wait a moment and try again."},
		{errors.ScopeChat, 61 * time.Second, "Too many messages to this chat. Please try again in 2 minutes."},
		{errors.ScopeUnknown, 0, "Too many requests. Please wait a moment and try again."},
		{errors.ScopeUnknown, 3 * time.Hour, "Too many requests. Please try again in 3 hours."},
		{errors.ScopeUnknown, 100 * time.Hour, "Too many requests. Please try again in 5 days."},
		{errors.ScopeUnknown, -time.Hour, "Too many requests. Please wait a moment and try again."},
		{errors.Scope(99), 0, "Too many requests. Please wait a moment and try again."},
	} {
		for _, kind := range []errors.Kind{errors.RateLimited, errors.Throttled} {
			err := &errors.Error{Kind: kind, Scope: row.scope, RetryAfter: row.wait}
			assert.Equal(t, row.want, errors.Friendly(err, "en"))
		}
	}
}

func TestRoundUpNeverPromisesTooSoon(t *testing.T) {
	const day = 24 * time.Hour
	for _, row := range []struct {
		d    time.Duration
		n    int
		unit time.Duration
	}{
		{-1, 0, time.Second},
		{0, 0, time.Second},
		{1, 1, time.Second},
		{59 * time.Second, 59, time.Second},
		{59*time.Second + 1, 1, time.Minute},
		{time.Minute, 1, time.Minute},
		{time.Minute + 1, 2, time.Minute},
		{59*time.Minute + 1, 1, time.Hour},
		{47 * time.Hour, 47, time.Hour},
		{47*time.Hour + 1, 2, day},
		{2 * day, 2, day},
		{1<<63 - 1, 106752, day},
	} {
		n, unit := errors.RoundUp(row.d)
		assert.Equal(t, row.n, n, "%v", row.d)
		assert.Equal(t, row.unit, unit, "%v", row.d)
	}
}

func TestATextComesInTheNearestLanguage(t *testing.T) {
	texts := errors.Texts{Catalogues: map[string]errors.Catalogue{
		"de": says("deutsch"), "pt-BR": says("brasileiro"), "PT": says("português"), "zh-Hant": says("繁體"), "nil": nil,
	}}
	english := errors.Friendly(errors.Timeout, "")
	for lang, want := range map[string]string{
		"de": "deutsch", "DE": "deutsch", "de-AT": "deutsch", "de_CH": "deutsch", " de ": "deutsch",
		"pt-BR": "brasileiro", "pt-br": "brasileiro", "pt_BR": "brasileiro", "pt-PT": "português", "pt": "português",
		"zh-Hant-TW": "繁體", "zh-Hant-x-private": "繁體", "zh-Hans": english, "zh": english,
		"en": english, "en-GB": english, "fr": english, "": english, "*": english, "nil": english,
		"-": english, "--": english, "de\r\nSet-Cookie": english, "d": english, "deu": english,
	} {
		assert.Equal(t, want, texts.Friendly(errors.Timeout, lang), "%q", lang)
	}
	assert.Equal(t, errors.Friendly(errors.Blocked, "en"), texts.Friendly(errors.Blocked, "de"), "a missing text is English")
	assert.Empty(t, texts.Friendly(nil, "de"))
	assert.Equal(t, english, errors.Friendly(errors.Timeout, "de"), "the built-in language")
}

// polite is English with one text of its own.
type polite struct{ errors.English }

func (p polite) Text(k errors.Kind, s errors.Scope, wait time.Duration) (string, bool) {
	if k == errors.Suspended {
		return "Please call us.", true
	}
	return p.English.Text(k, s, wait)
}

func TestEnglishCanBeReplaced(t *testing.T) {
	texts := errors.Texts{Catalogues: map[string]errors.Catalogue{"en": polite{}}}
	assert.Equal(t, "Please call us.", texts.Friendly(errors.Suspended, "en-US"))
	assert.Equal(t, errors.Friendly(errors.Timeout, ""), texts.Friendly(errors.Timeout, "en"))
}

func TestKeysThatDifferByCaseAloneAreTriedInOneOrder(t *testing.T) {
	texts := errors.Texts{Catalogues: map[string]errors.Catalogue{"DE": says("upper"), "De": says("mixed")}}
	for range 50 {
		assert.Equal(t, "upper", texts.Friendly(errors.Timeout, "de"))
	}
}

// A token that was mistyped was never accepted, and what this service finds wrong
// itself, such as a body that is no JSON, Telegram has not seen.
func TestNoTextSaysMoreThanIsKnown(t *testing.T) {
	assert.NotContains(t, errors.Friendly(errors.Unauthorized, "en"), "no longer")
	assert.NotContains(t, errors.Friendly(errors.BadRequest, "en"), "Telegram")
}
