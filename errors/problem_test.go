package errors_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
)

// written returns what WriteProblem answers to a request with the languages.
func written(texts errors.Texts, err error, accept ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/bots", nil)
	for _, a := range accept {
		r.Header.Add("Accept-Language", a)
	}
	w := httptest.NewRecorder()
	texts.WriteProblem(w, r, err)
	return w
}

func TestAProblemIsADocumentOfTheRFC(t *testing.T) {
	err := fmt.Errorf("register: %w", &errors.Error{
		Kind: errors.Throttled, Scope: errors.ScopeAll, RetryAfter: 1500 * time.Millisecond, Err: errors.New("queue full"),
	})
	w := written(errors.Texts{}, err)
	assert.Equal(t, 429, w.Code)
	assert.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	assert.Equal(t, "2", w.Header().Get("Retry-After"))
	assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	assert.Equal(t, "en", w.Header().Get("Content-Language"))
	assert.JSONEq(t, `{
		"type": "about:blank",
		"title": "Too Many Requests",
		"status": 429,
		"detail": "System is busy. Please try again in 2 seconds.",
		"kind": "throttled",
		"retry_after": 2
	}`, w.Body.String())
}

func TestEveryKindsProblemHidesTheError(t *testing.T) {
	for _, kind := range errors.Kinds() {
		err := fmt.Errorf("canary: %w", &errors.Error{
			Kind: kind, Op: "sendCanary", Key: "canary", Code: 477, Description: "canary", MigrateTo: -100477,
			RetryAfter: 10 * time.Second, Err: errors.New("canary " + canaryToken),
		})
		for _, texts := range []errors.Texts{{}, {ProblemBase: "https://example.com/problems/"}} {
			w := written(texts, err)
			assert.NotContains(t, strings.ToLower(w.Body.String()+fmt.Sprint(w.Header())), "canary")
			assert.NotContains(t, w.Body.String(), "477")

			var p errors.Problem
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
			assert.Equal(t, kind, p.Kind)
			assert.Equal(t, kind.HTTPStatus(), p.Status)
			assert.Equal(t, p.Status, w.Code)
			assert.Equal(t, errors.Friendly(err, "en"), p.Detail)
			assert.Equal(t, 10, p.RetryAfter)
			assert.NotEmpty(t, p.Title)
			if texts.ProblemBase == "" {
				assert.Equal(t, "about:blank", p.Type)
				assert.NotContains(t, p.Detail, p.Title+".", "the status's phrase, not ours")
			} else {
				assert.Equal(t, "https://example.com/problems/"+kind.String(), p.Type)
				assert.NotContains(t, p.Title, "10 seconds", "a type's title is always the same")
			}
			after := ""
			if w.Code == 429 || w.Code == 503 {
				after = "10"
			}
			assert.Equal(t, after, w.Header().Get("Retry-After"), "%v", kind)
		}
	}
}

func TestATypesTitleIsItsFirstSentence(t *testing.T) {
	texts := errors.Texts{ProblemBase: "/problems/"}
	p := texts.ProblemOf(&errors.Error{Kind: errors.RateLimited, Scope: errors.ScopeChat, RetryAfter: time.Second}, "")
	assert.Equal(t, "Too many requests", p.Title)
	assert.Equal(t, "Too many messages to this chat. Please try again in 1 second.", p.Detail)
	assert.Equal(t, "/problems/rate_limited", p.Type)
}

func TestAProblemComesInTheLanguageAskedFor(t *testing.T) {
	texts := errors.Texts{Catalogues: map[string]errors.Catalogue{"de": says("deutsch"), "pt": says("português")}}
	english := errors.Friendly(errors.Timeout, "")
	for _, row := range []struct {
		accept   []string
		language string
		detail   string
	}{
		{nil, "en", english},
		{[]string{""}, "en", english},
		{[]string{"*"}, "en", english},
		{[]string{"de"}, "de", "deutsch"},
		{[]string{"de-AT, en;q=0.8"}, "de", "deutsch"},
		{[]string{"en, de"}, "en", english},
		{[]string{"fr, de;q=0.5, en;q=0.1"}, "de", "deutsch"},
		{[]string{"de;q=0.2,pt-BR ; Q=0.3"}, "pt", "português"},
		{[]string{"de;q=0, pt;q=0.001"}, "pt", "português"},
		{[]string{"fr", "de;q=0.9"}, "de", "deutsch"},
		{[]string{"de;q=NaN, pt;q=2, en-US;q=-1"}, "en", english},
		{[]string{"de;level=1, ;;,=,pt;q=", "x\x00y"}, "en", english},
		{[]string{strings.Repeat("fr,", 400) + "de"}, "en", english}, // too far to read
	} {
		w := written(texts, errors.Timeout, row.accept...)
		assert.Equal(t, row.language, w.Header().Get("Content-Language"), "%q", row.accept)
		assert.Contains(t, w.Body.String(), strconv.Quote(row.detail))
	}
	w := written(texts, errors.Blocked, "de")
	assert.Equal(t, "en", w.Header().Get("Content-Language"), "the language of the text that was found")
}

func TestAProblemTakesThePlaceOfAnotherAnswer(t *testing.T) {
	w := httptest.NewRecorder()
	for _, h := range []string{"Content-Length", "Content-Encoding", "ETag", "Last-Modified", "X-Request-Id"} {
		w.Header().Set(h, "1")
	}
	errors.WriteProblem(w, nil, errors.Canceled)
	assert.Equal(t, 499, w.Code)
	assert.Contains(t, w.Body.String(), `"Client Closed Request"`)
	assert.Equal(t, "1", w.Header().Get("X-Request-Id"))
	for _, h := range []string{"Content-Length", "Content-Encoding", "ETag", "Last-Modified"} {
		assert.Empty(t, w.Header().Get(h), h)
	}
}

func TestNoErrorIsNoProblem(t *testing.T) {
	w := written(errors.Texts{}, nil)
	assert.Empty(t, w.Body.String())
	assert.Empty(t, w.Header())
	assert.Equal(t, 200, errors.ProblemOf(nil, "en").Status)
}

func TestAProblemAnswersWithItself(t *testing.T) {
	p := errors.ProblemOf(errors.NotFound, "en")
	p.Instance = "/bots/7"
	w := httptest.NewRecorder()
	p.ServeHTTP(w, nil)
	assert.Equal(t, 404, w.Code)
	assert.Contains(t, w.Body.String(), `"instance":"/bots/7"`)

	for _, status := range []int{0, -1, 100, 1000} {
		w := httptest.NewRecorder()
		errors.Problem{Status: status}.ServeHTTP(w, nil)
		assert.Equal(t, 500, w.Code)
	}
}

func FuzzAcceptLanguage(f *testing.F) {
	for _, header := range []string{"", "*", "de-AT, en;q=0.8", "de;q=NaN", "pt_BR;q=1e-9", ";;,,==", "a-b-c-d-e;q=0.5", "\r\n"} {
		f.Add(header)
	}
	texts := errors.Texts{Catalogues: map[string]errors.Catalogue{"de": says("deutsch"), "a-b": says("ab")}}
	f.Fuzz(func(t *testing.T, header string) {
		w := written(texts, errors.Timeout, header)
		var p errors.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		got := w.Header().Get("Content-Language")
		switch base, _, _ := strings.Cut(strings.ToLower(got), "-"); {
		case base == "de" && p.Detail == "deutsch":
		case strings.EqualFold(got, "a-b") && p.Detail == "ab":
		case base == "en" && p.Detail == errors.Friendly(errors.Timeout, "en"):
		default:
			t.Errorf("%q is answered in %q with %q", header, got, p.Detail)
		}
	})
}
