package ownership

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/url"
	"strings"
)

// A code is codeLen characters of Crockford's base 32, which has no I, L, O and
// U: 80 bits that people can type.
const (
	alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	codeLen  = 16
)

// linkPrefix tells our deep links from the bot's own.
const linkPrefix = "verify-"

// newCode makes a code. It has a digit, which tells it from a word.
func newCode() string {
	for {
		var random [codeLen]byte
		_, _ = rand.Read(random[:]) // never fails
		for i, b := range random {
			random[i] = alphabet[b%byte(len(alphabet))] // 256 is a multiple of 32
		}
		if code := string(random[:]); strings.ContainsAny(code, "0123456789") {
			return code
		}
	}
}

// pretty returns a code in groups of four.
func pretty(code string) string {
	var b strings.Builder
	for i := 0; i < len(code); i += 4 {
		if i > 0 {
			b.WriteByte('-')
		}
		b.WriteString(code[i:min(i+4, len(code))])
	}
	return b.String()
}

// parseCode reads a code as people type it: in groups or not, in any case, and
// with letters that look like digits.
func parseCode(text string) (code string, ok bool) {
	if len(text) > 4*codeLen {
		return "", false
	}
	var b strings.Builder
	digit := false
	for i := range len(text) {
		c := text[i]
		switch {
		case c == '-':
			continue
		case 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		}
		switch c {
		case 'O':
			c = '0'
		case 'I', 'L':
			c = '1'
		}
		if strings.IndexByte(alphabet, c) < 0 {
			return "", false
		}
		digit = digit || c <= '9'
		b.WriteByte(c)
	}
	return b.String(), digit && b.Len() == codeLen
}

// parseText finds a code in the text of a message: in the payload of a /start
// that our deep link makes, or as all of the text.
func parseText(text string) (code string, link, ok bool) {
	text = strings.TrimSpace(text)
	if command, payload, found := strings.Cut(text, " "); found {
		name, _, _ := strings.Cut(command, "@")
		payload, ours := strings.CutPrefix(strings.TrimSpace(payload), linkPrefix)
		if name != "/start" || !ours {
			return "", false, false
		}
		code, ok = parseCode(payload)
		return code, true, ok
	}
	code, ok = parseCode(text)
	return code, false, ok
}

// deepLink returns the link that sends a code to a bot; "" without a username.
func deepLink(username, code string) string {
	if username == "" {
		return ""
	}
	return "https://t.me/" + url.PathEscape(username) + "?start=" + linkPrefix + code
}

// hash is what is stored of a code. It is keyed, so that who reads the store
// can't try codes, and bound to what the code is for.
func (v *Verifier) hash(tenant string, botID, user int64, code string) []byte {
	m := hmac.New(sha256.New, v.key)
	var numbers [16]byte
	binary.BigEndian.PutUint64(numbers[:8], uint64(botID))
	binary.BigEndian.PutUint64(numbers[8:], uint64(user))
	m.Write([]byte("tgfleet ownership 1\x00"))
	m.Write(numbers[:])
	m.Write([]byte(code)) // of one length
	m.Write([]byte(tenant))
	return m.Sum(nil)
}
