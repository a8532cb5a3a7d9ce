package bottest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// parseText takes the markup of a parse mode out of a text.
func parseText(text, mode string) (string, []gotgbot.MessageEntity, *apiError) {
	var (
		plain string
		found []gotgbot.MessageEntity
		err   error
	)
	switch strings.ToLower(mode) {
	case "":
		return text, nil, nil
	case "html":
		plain, found, err = parseHTML(text)
	case "markdown":
		plain, found, err = parseMarkdown(text)
	case "markdownv2":
		plain, found, err = parseMarkdownV2(text)
	default:
		return "", nil, badRequest("unsupported parse_mode")
	}
	if err != nil {
		return "", nil, badRequest("can't parse entities: " + err.Error())
	}
	slices.SortStableFunc(found, func(a, b gotgbot.MessageEntity) int {
		if a.Offset != b.Offset {
			return int(a.Offset - b.Offset)
		}
		return int(b.Length - a.Length)
	})
	return plain, found, nil
}

// markupError is what the server says of markup, word for word.
type markupError string

func (e markupError) Error() string { return string(e) }

func malformed(format string, args ...any) error { return markupError(fmt.Sprintf(format, args...)) }

// markupText is a text that grows while its markup is read.
type markupText struct {
	b      strings.Builder
	length int64 // in UTF-16 units
	found  []gotgbot.MessageEntity
	open   []openEntity
}

type openEntity struct {
	gotgbot.MessageEntity
	mark string // how it began
	at   int    // where it began in the source, in bytes
}

func (t *markupText) add(s string) {
	t.b.WriteString(s)
	t.length += utf16Len(s)
}

func (t *markupText) begin(mark string, at int, e gotgbot.MessageEntity) {
	e.Offset = t.length
	t.open = append(t.open, openEntity{MessageEntity: e, mark: mark, at: at})
}

func (t *markupText) top() *openEntity {
	if len(t.open) == 0 {
		return nil
	}
	return &t.open[len(t.open)-1]
}

// end closes the entity that was begun last.
func (t *markupText) end() {
	e := t.top().MessageEntity
	t.open = t.open[:len(t.open)-1]
	if e.Length = t.length - e.Offset; e.Length > 0 && e.Type != "" {
		t.found = append(t.found, e)
	}
}

func (t *markupText) result() (string, []gotgbot.MessageEntity, error) {
	return t.b.String(), t.found, nil
}

// parseMarkdown reads the old Markdown, whose entities do not nest.
func parseMarkdown(s string) (string, []gotgbot.MessageEntity, error) {
	var t markupText
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' && i+1 < len(s) && strings.IndexByte("_*`[", s[i+1]) >= 0 {
			i++
			t.add(s[i : i+1])
			continue
		}
		start := i
		unended := malformed("Can't find end of the entity starting at byte offset %d", start)
		switch {
		case strings.HasPrefix(s[i:], "```"):
			n := strings.Index(s[i+3:], "```")
			if n < 0 {
				return "", nil, unended
			}
			language, code := splitLanguage(s[i+3 : i+3+n])
			t.begin("```", start, gotgbot.MessageEntity{Type: "pre", Language: language})
			t.add(code)
			t.end()
			i += 3 + n + 2
		case c == '_' || c == '*' || c == '`':
			n := strings.IndexByte(s[i+1:], c)
			if n < 0 {
				return "", nil, unended
			}
			t.begin(s[i:i+1], start, gotgbot.MessageEntity{Type: markdownKind(c)})
			t.add(s[i+1 : i+1+n])
			t.end()
			i += n + 1
		case c == '[':
			n := strings.IndexByte(s[i:], ']')
			if n < 0 {
				return "", nil, unended
			}
			label, url, size := s[i+1:i+n], "", n
			if strings.HasPrefix(s[i+n+1:], "(") {
				if m := strings.IndexByte(s[i+n+1:], ')'); m >= 0 {
					url, size = s[i+n+2:i+n+1+m], n+1+m
				}
			}
			t.link(start, label, url)
			i += size
		default:
			t.add(runeAt(s, i))
			i += len(runeAt(s, i)) - 1
		}
	}
	return t.result()
}

func (t *markupText) link(at int, label, url string) {
	kind := "text_link"
	if url == "" {
		kind = ""
	}
	t.begin("[", at, gotgbot.MessageEntity{Type: kind, Url: url})
	t.add(label)
	t.end()
}

func markdownKind(c byte) string {
	switch c {
	case '*':
		return "bold"
	case '_':
		return "italic"
	}
	return "code"
}

// splitLanguage takes the language off a block of code.
func splitLanguage(code string) (language, rest string) {
	first, rest, ok := strings.Cut(code, "\n")
	if !ok || strings.ContainsAny(first, " \t") {
		return "", code
	}
	return first, rest
}

// runeAt is the character at a byte offset.
func runeAt(s string, i int) string {
	for _, r := range s[i:] {
		n := len(string(r))
		return s[i:min(i+n, len(s))]
	}
	return ""
}
