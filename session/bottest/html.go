package bottest

import (
	"strconv"
	"strings"

	"github.com/PaulSonOfLars/gotgbot/v2"
)

// parseHTML reads the tags the Bot API knows.
func parseHTML(s string) (string, []gotgbot.MessageEntity, error) {
	var t markupText
	for i := 0; i < len(s); {
		switch s[i] {
		case '&':
			text, n := htmlEntity(s[i:])
			t.add(text)
			i += n
		case '<':
			n, err := t.tag(s, i)
			if err != nil {
				return "", nil, err
			}
			i += n
		default:
			n := strings.IndexAny(s[i:], "&<")
			if n < 0 {
				n = len(s) - i
			}
			t.add(s[i : i+n])
			i += n
		}
	}
	if top := t.top(); top != nil {
		return "", nil, malformed("Can't find end tag corresponding to start tag %q", top.mark)
	}
	return t.result()
}

// tag reads the tag at i and returns its length.
func (t *markupText) tag(s string, i int) (int, error) {
	n := strings.IndexByte(s[i:], '>')
	if strings.HasPrefix(s[i:], "</") {
		if n < 0 {
			return 0, malformed("Unclosed end tag at byte offset %d", i)
		}
		name, top := strings.ToLower(strings.TrimSpace(s[i+2:i+n])), t.top()
		if top == nil {
			return 0, malformed("Unexpected end tag at byte offset %d", i)
		}
		if name != "" && name != top.mark {
			return 0, malformed("Unmatched end tag at byte offset %d, expected %q, found %q", i, "</"+top.mark+">", "</"+name+">")
		}
		t.end()
		return n + 1, nil
	}
	rest := s[i+1:]
	if n >= 0 {
		rest = s[i+1 : i+n]
	}
	name := rest
	if m := strings.IndexAny(rest, " \t\r\n"); m >= 0 {
		name = rest[:m]
	}
	attributes := rest[len(name):]
	name = strings.ToLower(strings.TrimSuffix(name, "/"))
	e, ok := t.htmlTag(name, attributes)
	if !ok {
		return 0, malformed("Unsupported start tag %q at byte offset %d", name, i)
	}
	if n < 0 {
		return 0, malformed("Unclosed start tag at byte offset %d", i)
	}
	t.begin(name, i, e)
	return n + 1, nil
}

// htmlTag says what a tag means.
func (t *markupText) htmlTag(name, attributes string) (e gotgbot.MessageEntity, ok bool) {
	switch name {
	case "b", "strong":
		e.Type = "bold"
	case "i", "em":
		e.Type = "italic"
	case "u", "ins":
		e.Type = "underline"
	case "s", "strike", "del":
		e.Type = "strikethrough"
	case "tg-spoiler":
		e.Type = "spoiler"
	case "span":
		if attribute(attributes, "class") != "tg-spoiler" {
			return e, false
		}
		e.Type = "spoiler"
	case "code":
		e.Type = "code"
		if top := t.top(); top != nil && top.mark == "pre" {
			top.Language = strings.TrimPrefix(attribute(attributes, "class"), "language-")
			e.Type = "" // only names the language
		}
	case "pre":
		e.Type = "pre"
	case "a":
		e.Type, e.Url = "text_link", attribute(attributes, "href")
		if e.Url == "" {
			e.Type = ""
		}
	case "tg-emoji":
		e.Type, e.CustomEmojiId = "custom_emoji", attribute(attributes, "emoji-id")
	case "blockquote":
		e.Type = "blockquote"
		if strings.Contains(attributes, "expandable") {
			e.Type = "expandable_blockquote"
		}
	case "tg-time": // its entity is left out
	default:
		return e, false
	}
	return e, true
}

func attribute(attributes, name string) string {
	_, rest, ok := strings.Cut(attributes, name+"=")
	if !ok || rest == "" {
		return ""
	}
	if quote := rest[0]; quote == '"' || quote == '\'' {
		value, _, _ := strings.Cut(rest[1:], string(quote))
		return value
	}
	value, _, _ := strings.Cut(rest, " ")
	return value
}

// htmlEntity reads the character that s begins with, and its length in s.
func htmlEntity(s string) (string, int) {
	end := strings.IndexByte(s, ';')
	if end < 0 || end > 12 {
		return "&", 1
	}
	switch name := s[1:end]; name {
	case "lt":
		return "<", end + 1
	case "gt":
		return ">", end + 1
	case "amp":
		return "&", end + 1
	case "quot":
		return `"`, end + 1
	default:
		if digits, ok := strings.CutPrefix(name, "#"); ok {
			base := 10
			if hex, ok := strings.CutPrefix(strings.ToLower(digits), "x"); ok {
				digits, base = hex, 16
			}
			if r, err := strconv.ParseUint(digits, base, 21); err == nil && r != 0 {
				return string(rune(r)), end + 1
			}
		}
	}
	return "&", 1
}
