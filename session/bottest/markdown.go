package bottest

import (
	"strings"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// reserved must be escaped in MarkdownV2 where they mark nothing.
const reserved = "_*[]()~`>#+-=|{}.!"

// parseMarkdownV2 reads MarkdownV2, whose entities nest.
func parseMarkdownV2(s string) (string, []gotgbot.MessageEntity, error) {
	var t markupText
	lineStart := true
	for i := 0; i < len(s); {
		c := s[i]
		if lineStart {
			lineStart = false
			if c == '>' {
				if top := t.top(); top == nil {
					t.begin(">", i, gotgbot.MessageEntity{Type: "blockquote"})
				}
				i++
				continue
			}
			if top := t.top(); top != nil && top.mark == ">" {
				t.end()
			}
		}
		switch {
		case c == '\\' && i+1 < len(s) && s[i+1] < 127 && s[i+1] > 0:
			t.add(s[i+1 : i+2])
			i += 2
			continue
		case c == '\n':
			t.add("\n")
			lineStart = true
			i++
			continue
		case c == '`':
			n, err := t.code(s, i)
			if err != nil {
				return "", nil, err
			}
			i += n
			continue
		case c == ']':
			n, err := t.endLink(s, i)
			if err != nil {
				return "", nil, err
			}
			i += n
			continue
		case c == '!' && strings.HasPrefix(s[i:], "!["):
			t.begin("[", i, gotgbot.MessageEntity{Type: "custom_emoji"})
			i += 2
			continue
		case c == '[':
			t.begin("[", i, gotgbot.MessageEntity{Type: "text_link"})
			i++
			continue
		}
		if mark, kind := markV2(s[i:], t.top()); mark != "" {
			if top := t.top(); top != nil && top.mark == mark {
				t.end()
			} else {
				t.begin(mark, i, gotgbot.MessageEntity{Type: kind})
			}
			i += len(mark)
			continue
		}
		if strings.IndexByte(reserved, c) >= 0 {
			return "", nil, malformed(`Character '%c' is reserved and must be escaped with the preceding '\'`, c)
		}
		r := runeAt(s, i)
		t.add(r)
		i += len(r)
	}
	if top := t.top(); top != nil && top.mark == ">" {
		t.end()
	}
	if top := t.top(); top != nil {
		return "", nil, malformed("Can't find end of %s entity at byte offset %d", entityName(top.Type), top.at)
	}
	return t.result()
}

// markV2 is the mark that a text begins with. Two underscores are one mark
// unless an italic ends there.
func markV2(s string, top *openEntity) (mark, kind string) {
	switch {
	case strings.HasPrefix(s, "||"):
		return "||", "spoiler"
	case strings.HasPrefix(s, "__") && (top == nil || top.mark != "_"):
		return "__", "underline"
	case s[0] == '_':
		return "_", "italic"
	case s[0] == '*':
		return "*", "bold"
	case s[0] == '~':
		return "~", "strikethrough"
	}
	return "", ""
}

// code reads `code` or a ```block``` and returns its length with its marks.
func (t *markupText) code(s string, i int) (int, error) {
	mark, kind := "`", "code"
	if strings.HasPrefix(s[i:], "```") {
		mark, kind = "```", "pre"
	}
	n := strings.Index(s[i+len(mark):], mark)
	if n < 0 {
		return 0, malformed("Can't find end of %s entity at byte offset %d", entityName(kind), i)
	}
	text, e := s[i+len(mark):i+len(mark)+n], gotgbot.MessageEntity{Type: kind}
	if kind == "pre" {
		e.Language, text = splitLanguage(text)
	}
	t.begin(mark, i, e)
	t.add(strings.NewReplacer("\\`", "`", "\\\\", "\\").Replace(text))
	t.end()
	return n + 2*len(mark), nil
}

// endLink reads the ] of a link and the URL after it.
func (t *markupText) endLink(s string, i int) (int, error) {
	top := t.top()
	if top == nil || top.mark != "[" {
		return 0, malformed(`Character ']' is reserved and must be escaped with the preceding '\'`)
	}
	n := 1
	if strings.HasPrefix(s[i+1:], "(") {
		m := strings.IndexByte(s[i+1:], ')')
		if m < 0 {
			return 0, malformed("Can't find end of a URL at byte offset %d", i+2)
		}
		top.Url = s[i+2 : i+1+m]
		n += m + 1
	}
	switch {
	case top.Type == "custom_emoji":
		_, top.CustomEmojiId, _ = strings.Cut(top.Url, "id=")
		top.Url = ""
	case top.Url == "":
		top.Type = ""
	}
	t.end()
	return n, nil
}

// entityName is what error texts call an entity.
func entityName(kind string) string {
	switch kind {
	case "text_link":
		return "TextUrl"
	case "custom_emoji":
		return "CustomEmoji"
	case "blockquote":
		return "BlockQuote"
	}
	return strings.ToUpper(kind[:1]) + kind[1:]
}
