package bottest

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// scanEntities finds what the server finds in plain text: commands, mentions,
// hashtags and links.
func scanEntities(text string) []gotgbot.MessageEntity {
	var found []gotgbot.MessageEntity
	offset := int64(0) // in UTF-16 units
	atStart := true    // a word may begin here
	for i := 0; i < len(text); {
		if atStart {
			if kind, n := entityAt(text[i:]); n > 0 {
				length := utf16Len(text[i : i+n])
				found = append(found, gotgbot.MessageEntity{Type: kind, Offset: offset, Length: length})
				offset += length
				i += n
				atStart = false
				continue
			}
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		atStart = !isWord(r) && r != '/' && r != '@' && r != '#'
		offset += utf16Len(text[i : i+size])
		i += size
	}
	return found
}

// entityAt tells what begins a text, and how many bytes long it is.
func entityAt(text string) (kind string, n int) {
	switch text[0] {
	case '/':
		n = 1 + wordLen(text[1:], 64)
		if n == 1 {
			return "", 0
		}
		if rest := text[n:]; strings.HasPrefix(rest, "@") {
			if m := wordLen(rest[1:], 32); m > 0 {
				n += 1 + m
			}
		}
		return "bot_command", n
	case '@':
		if n = wordLen(text[1:], 32); n >= 4 {
			return "mention", n + 1
		}
	case '#':
		if n = wordLen(text[1:], 256); n > 0 {
			return "hashtag", n + 1
		}
	case 'h':
		if strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://") {
			n = strings.IndexFunc(text, unicode.IsSpace)
			if n < 0 {
				n = len(text)
			}
			if n = len(strings.TrimRight(text[:n], ".,;:!?)")); n > len("https://") {
				return "url", n
			}
		}
	}
	return "", 0
}

func wordLen(text string, most int) int {
	n := strings.IndexFunc(text, func(r rune) bool { return !isWord(r) })
	if n < 0 {
		n = len(text)
	}
	if n > most {
		return 0
	}
	return n
}

func isWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// utf16Len is the length Telegram counts text in.
func utf16Len(text string) int64 {
	n := int64(0)
	for _, r := range text {
		n++
		if r >= 0x10000 {
			n++
		}
	}
	return n
}
