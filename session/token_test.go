package session_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

func TestParseToken(t *testing.T) {
	for name, row := range map[string]struct {
		text  string
		valid bool
	}{
		"today's form":                        {"123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr", true},
		"a secret of another length":          {"123456:short", true},
		"the largest id":                      {"18014398509481983:abc", true},
		"80 characters":                       {"1:" + strings.Repeat("a", 78), true},
		"empty":                               {"", false},
		"81 characters":                       {"1:" + strings.Repeat("a", 79), false},
		"an id past the largest":              {"18014398509481984:abc", false},
		"an id past int64":                    {"99999999999999999999:abc", false},
		"a leading zero":                      {"0123:abc", false},
		"id zero":                             {"0:abc", false},
		"a negative id":                       {"-1:abc", false},
		"an id with a plus":                   {"+1:abc", false},
		"no id":                               {":abc", false},
		"no colon":                            {"123456", false},
		"no secret":                           {"123456:", false},
		"two colons":                          {"1:a:b", false},
		"a slash":                             {"1:a/b", false},
		"a dot-dot path":                      {"1:../getMe", false},
		"a trailing newline":                  {"123456:abc\n", false},
		"a trailing space":                    {"123456:abc ", false},
		"a leading space":                     {" 123456:abc", false},
		"an escape":                           {"1:a%20b", false},
		"a query":                             {"1:a?b", false},
		"a fragment":                          {"1:a#b", false},
		"a NUL":                               {"1:a\x00b", false},
		"letters that are not ASCII":          {"1:äöü", false},
		"digits that are not ASCII in the id": {"१२३:abc", false},
	} {
		t.Run(name, func(t *testing.T) {
			token, err := session.ParseToken(row.text)
			if row.valid {
				require.NoError(t, err)
				assert.Equal(t, row.text, token.Reveal())
				assert.NotZero(t, token.ID())
				return
			}
			assert.Equal(t, errors.InvalidToken, errors.KindOf(err))
			assert.True(t, token.IsZero())
			if len(row.text) > 3 {
				assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), strings.TrimSpace(row.text))
			}
		})
	}
}

func TestTokenPrintsMaskedEverywhere(t *testing.T) {
	token := mustToken(t, canary)
	type inner struct{ hidden session.Token }
	type outer struct {
		Shown  session.Token
		hidden session.Token
		in     inner
		ptr    *session.Token
		list   []session.Token
		byName map[string]session.Token
		any    any
	}
	o := outer{token, token, inner{token}, &token, []session.Token{token}, map[string]session.Token{"a": token}, token}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%08.3f", "%p", "%T", "%U", "%z"} {
		for _, v := range []any{token, &token, o, &o, []any{o}, struct{ error }{fmt.Errorf("x %v", o)}} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	text := slog.New(slog.NewTextHandler(&out, nil))
	jsonLog := slog.New(slog.NewJSONHandler(&out, nil))
	for _, log := range []*slog.Logger{text, jsonLog} {
		log.Info("token", "t", token, "p", &token, "o", o, slog.Group("g", "t", token))
	}
	b, err := json.Marshal(map[string]any{"t": token, "p": &token, "o": o, "k": map[string]session.Token{"t": token}})
	require.NoError(t, err)
	out.Write(b)
	// What dumps do that follow every pointer: testify's diff.
	r := &recorder{}
	assert.Equal(r, o, outer{})
	out.WriteString(r.text)
	assert.Contains(t, out.String(), canaryMasked)
	assert.NotContains(t, out.String(), canarySecret)
}

type recorder struct{ text string }

func (r *recorder) Errorf(format string, args ...any) { r.text += fmt.Sprintf(format, args...) }

func TestTokenText(t *testing.T) {
	token := mustToken(t, canary)
	assert.Equal(t, canaryMasked, token.String())
	assert.Equal(t, `"`+canaryMasked+`"`, fmt.Sprintf("%q", token))
	assert.Equal(t, int64(987654321), token.ID())
	assert.True(t, token.Equal(mustToken(t, canary)))
	assert.False(t, token.Equal(mustToken(t, canary+"x")))

	var zero session.Token
	assert.True(t, zero.IsZero())
	assert.Equal(t, "***", zero.String())
	assert.Empty(t, zero.Reveal())
	assert.True(t, zero.Equal(session.Token{}))
	assert.False(t, zero.Equal(token))
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"":            "",
		"hello 12:30": "hello 12:30",
		"https://api.telegram.org/bot" + canary + "/getMe": "https://api.telegram.org/bot" + canaryMasked + "/getMe",
		"bot987654321%3A" + canarySecret + "%20/":          "bot" + canaryMasked + "%20/",
		canary + " and " + canary:                          canaryMasked + " and " + canaryMasked,
	} {
		assert.Equal(t, want, session.Redact(in))
	}
}

func FuzzParseToken(f *testing.F) {
	for _, s := range []string{canary, "", "1:a", "1:a/b", "0:1", ":", "1:a\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := session.ParseToken(text)
		if err != nil {
			if !token.IsZero() {
				t.Fatal("a token with an error")
			}
			if len(text) > 40 && strings.Contains(err.Error(), text) {
				t.Fatalf("the error repeats the text: %v", err)
			}
			return
		}
		if token.Reveal() != text || token.ID() <= 0 || token.ID() >= 1<<54 {
			t.Fatalf("%q became id %d", text, token.ID())
		}
		if strings.ContainsAny(text, "/ \n\t?#%") {
			t.Fatalf("accepted %q", text)
		}
	})
}

func FuzzRedact(f *testing.F) {
	f.Add("see ", " there")
	f.Fuzz(func(t *testing.T, before, after string) {
		// Whatever stands before a token, it must go; what follows it may only
		// be taken for more of it.
		if strings.Contains(session.Redact(before+canary+after), canarySecret) {
			t.Fatalf("the token came through between %q and %q", before, after)
		}
	})
}
