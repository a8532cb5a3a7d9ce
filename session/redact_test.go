package session_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// part returns a part of a secret that text shows, also to those who undo up to
// depth escapes. It uses the standard decoders, and not the ones under test.
func part(text, secret string, depth int) string {
	run := min(8, len(secret))
	for i := range len(secret) - run + 1 {
		if p := secret[i : i+run]; strings.Contains(text, p) && strings.Trim(p, "*") != "" {
			return p
		}
	}
	if depth == 0 {
		return ""
	}
	for _, decode := range decoders {
		if decoded := decode(text); decoded != text {
			if p := part(decoded, secret, depth-1); p != "" {
				return p
			}
		}
	}
	return ""
}

var (
	percent  = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
	decoders = []func(string) string{
		html.UnescapeString,
		func(s string) string {
			return percent.ReplaceAllStringFunc(s, func(m string) string {
				b, _ := hex.DecodeString(m[1:])
				return string(b)
			})
		},
		func(s string) string {
			decoded, err := url.QueryUnescape(s)
			if err != nil {
				return s
			}
			return decoded
		},
		func(s string) string {
			var decoded string
			if json.Unmarshal([]byte(`"`+s+`"`), &decoded) == nil {
				return decoded
			}
			if decoded, err := strconv.Unquote(`"` + s + `"`); err == nil {
				return decoded
			}
			return s
		},
	}
)

// eachChar writes every character of a text in another way.
func eachChar(format string) func(string) string {
	return func(text string) string {
		var b strings.Builder
		for i := range len(text) {
			fmt.Fprintf(&b, format, text[i])
		}
		return b.String()
	}
}

func cutBy(separator string) func(string) string {
	return func(text string) string { return text[:len(text)/2] + separator + text[len(text)/2:] }
}

// ways are how a text may have a secret without spelling it.
var ways = map[string]func(string) string{
	"as it is":           func(s string) string { return s },
	"HTML":               html.EscapeString,
	"HTML, decimal":      eachChar("&#%d;"),
	"HTML, hex":          eachChar("&#x%x;"),
	"HTML, zeros":        eachChar("&#X000%X;"),
	"HTML, no semicolon": func(s string) string { return strings.ReplaceAll(html.EscapeString(s), "&amp;", "&amp") },
	"HTML, named": strings.NewReplacer("_", "&lowbar;", "-", "&#45;", "$", "&dollar;", "(", "&lpar;", ")", "&rpar;",
		"!", "&excl;", "*", "&ast;", "[", "&lsqb;", "]", "&rbrack;", "+", "&plus;", "=", "&equals;", ",", "&comma;", ";", "&semi;", "@", "&commat;").Replace,
	"URL, query":     url.QueryEscape,
	"URL, path":      url.PathEscape,
	"URL, all":       eachChar("%%%02x"),
	"JSON":           eachChar(`\u%04x`),
	"JSON, usual":    func(s string) string { b, _ := json.Marshal(s); return string(b) },
	"Go":             eachChar(`\x%02X`),
	"hex":            func(s string) string { return hex.EncodeToString([]byte(s)) },
	"hex, upper":     func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) },
	"base64":         func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"base64, cut":    func(s string) string { return cutBy("\r\n")(base64.URLEncoding.EncodeToString([]byte("ab" + s + "c"))) },
	"a space":        cutBy(" "),
	"a line break":   cutBy("\r\n\t"),
	"a soft hyphen":  cutBy("\u00ad"),
	"a named hyphen": cutBy("&shy;"),
	"zero width":     cutBy("\u200b\ufeff"),
	"quotes":         cutBy(`"`),
	"more quotes":    cutBy(`” and “`),
	"dots":           cutBy("..."),
	"an ellipsis":    cutBy("…"),
	"half of it":     func(s string) string { return s[:len(s)/2] },
	"8 characters":   func(s string) string { return s[len(s)-8:] },
}

// The redactor looked for whole secrets, so a description showed one that was
// escaped for HTML or cut in two.
func TestARefusalShowsNoPartOfTheSecret(t *testing.T) {
	for name, token := range map[string]string{"usual": canary, "odd": odd} {
		_, secret, _ := strings.Cut(token, ":")
		for first, inner := range ways {
			for second, outer := range ways {
				text := outer(inner(secret))
				for _, around := range [...][2]string{
					{"Bad Request: can't use ", " here"},
					{`Bad Request: bot "`, `" not found`},
					{`Bad Request: failed to send message #1 with the error message "no `, `"`},
					{"Bad Request: x", "y"},
				} {
					description := around[0] + text + around[1]
					encoded, err := json.Marshal(description)
					require.NoError(t, err)
					s := newSession(t, session.Config{Transport: answering(400, `{"ok":false,"error_code":400,"description":`+string(encoded)+`}`)})
					_, err = s.Client("k").RequestWithContext(context.Background(), token, "sendMessage", nil, nil)
					require.Error(t, err)
					shown := everything(err)
					assert.Empty(t, part(shown, secret, 2), "%s: %s of %s in %q: %s", name, second, first, description, shown)
				}
				parsed := mustToken(t, token)
				redacted := parsed.Redact("see " + text + " there")
				assert.Empty(t, part(redacted, secret, 2), "%s: %s of %s: %s", name, second, first, redacted)
				assert.Equal(t, redacted, parsed.Redact(redacted))
				assertNoSecret(t, redacted, token)
			}
		}
	}
}

func TestRedactTakesNoMoreThanTheSecret(t *testing.T) {
	token := mustToken(t, canary)
	for in, want := range map[string]string{
		"see CaNaRy_secret-that_must-never_be_seen there": "see *** there",
		canary:                       canaryMasked,
		"(CaNaRy_secre...be_seen)":   "(***...be_seen)",
		"CaNaRy_secret that_must-ne": "*** ***",
		"CaNaRy_ nor _be_see":        "CaNaRy_ nor _be_see", // 7 characters each
		"&amp;CaNaRy&#95;secret&amp; %43aNaRy%5fse%63ret %41": "&amp;***&amp; *** %41",
		"&ampCaNaRy_secret": "&amp***",
		"x" + hex.EncodeToString([]byte("CaNaRy_secret")) + "x": "x***x",
	} {
		assert.Equal(t, want, token.Redact(in), "%q", in)
	}
	for _, text := range []string{
		"", " ", "Bad Request: chat not found", "a &amp; b &#38; c &ltd; %20 %zz \\u0041 \\ \" ' \xff\xfe \u200b\r\n", "CaNaRy", "***",
		"Y2FuYXJ5", "5f736563726574", strings.Repeat("no secret at all, %41 &amp; ", 5000),
	} {
		assert.Equal(t, text, token.Redact(text))
	}
	short := mustToken(t, "1:ab")
	assert.Equal(t, "c*** %62", short.Redact("cab %62"))
	assert.Equal(t, "x*** y", short.Redact("x%61&#98; y"))
	assert.Equal(t, "**", mustToken(t, "1:*").Redact("**"))
	assert.Equal(t, "***", mustToken(t, "1:abcde***fghij").Redact("abcdeabcde***fghij"[5:]))
	assert.Equal(t, "***", mustToken(t, "1:abcdefgh***ij123456").Redact("abcdefghabcdefgh***ij123456"[8:]))
}

func TestALongTextIsRedactedToItsEnd(t *testing.T) {
	token := mustToken(t, odd)
	_, secret, _ := strings.Cut(odd, ":")
	escaped := html.EscapeString(url.PathEscape(html.EscapeString(secret)))
	var in, want strings.Builder
	for i := range 500 {
		filler := strings.Repeat("x", i)
		in.WriteString(filler + " " + escaped + " ")
		want.WriteString(filler + " *** ")
	}
	assert.Equal(t, want.String(), token.Redact(in.String()))
}

func TestAnErrorThatIsVeryLongIsCut(t *testing.T) {
	long := strings.Repeat("long ", 1<<20)
	s := newSession(t, session.Config{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		return nil, errors.New(long + canarySecret)
	})})
	_, err := s.Client("k").RequestWithContext(context.Background(), canary, "getMe", nil, nil)
	require.Error(t, err)
	assert.Less(t, len(err.Error()), 70<<10)
	assert.Contains(t, err.Error(), "long long")

	s = newSession(t, session.Config{Transport: answering(400, `{"ok":false,"error_code":400,"description":"`+long+canarySecret+`"}`)})
	_, err = s.Client("k").RequestWithContext(context.Background(), canary, "getMe", nil, nil)
	require.Error(t, err)
	assert.Less(t, len(err.Error()), 1000)
}

// FuzzRedactLeavesNoPart escapes, cuts and embeds a secret as ops say, and holds
// the redactor to the standard decoders.
func FuzzRedactLeavesNoPart(f *testing.F) {
	f.Add([]byte("CaNaRy_secret-that_must-never_be_seen"), []byte{0, 9, 1, 4, 2, 8}, "see ", " there")
	f.Add([]byte("Od,d$Se;cret(with)all=that'a&URL@escapes!*~[x]+qq"), []byte{3, 3, 5, 7}, "&", ";")
	f.Add([]byte("ab"), []byte{1}, "%", "\\")
	f.Add([]byte("***a****&amp;*"), []byte{6, 2}, "***", "a**")
	f.Fuzz(func(t *testing.T, raw, ops []byte, before, after string) {
		const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-!$&'()*+,;=@[]~."
		secret := ""
		for _, c := range raw[:min(len(raw), 70)] {
			if strings.IndexByte(allowed, c) < 0 {
				c = allowed[int(c)%len(allowed)]
			}
			secret += string(rune(c))
		}
		if secret == "" || len(before)+len(after) > 1000 {
			return
		}
		token := mustToken(t, "1:"+secret)
		text := []string{}
		for i := range len(secret) {
			text = append(text, secret[i:i+1])
		}
		char := func(format string, op byte) { // escapes some of the characters
			for i := range text {
				if i%(int(op>>4)+1) == 0 {
					text[i] = eachChar(format)(text[i])
				}
			}
		}
		rounds := 0
		for i, op := range ops[:min(len(ops), 8)] {
			switch n := op % 8; {
			case n < 6 && rounds < 2:
				rounds++
				char([]string{"&#%d;", "&#x%x;", "%%%02X", `\u%04x`, `\x%02x`, "&#%d"}[n], op)
			case n == 6:
				at := int(op>>3) % len(text)
				text[at] += []string{" ", "\n", "\u00ad", "\u200b", `"`, "...", "&shy;", "***"}[i%8]
			case n == 7:
				text = text[int(op>>3)%len(text):]
			}
		}
		in := before + strings.Join(text, "") + after
		out := token.Redact(in)
		if again := token.Redact(out); again != out {
			t.Fatalf("%q became %q, and that %q", in, out, again)
		}
		if p := part(out, secret, 2); p != "" {
			t.Fatalf("%q of %q is in %q, which was %q", p, secret, out, in)
		}
	})
}
