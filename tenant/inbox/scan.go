package inbox

import (
	"encoding/json"
	"strconv"
)

// scanner walks through JSON, as strictly as encoding/json, and copies
// nothing. After a false the position is of no use.
type scanner struct {
	data []byte
	at   int
}

// maxDepth bounds nesting. Telegram's updates are some 15 deep.
const maxDepth = 500

func (s *scanner) space() {
	for s.at < len(s.data) {
		switch s.data[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// peek returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.at < len(s.data) {
		return s.data[s.at]
	}
	return 0
}

func (s *scanner) next(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.at++
	return true
}

// object reads an object. For each member it calls member with the key, which
// must read the value.
func (s *scanner) object(depth int, member func(key []byte) bool) bool {
	if depth > maxDepth || !s.next('{') {
		return false
	}
	s.space()
	if s.next('}') {
		return true
	}
	for {
		key, ok := s.key()
		if !ok {
			return false
		}
		s.space()
		if !s.next(':') {
			return false
		}
		s.space()
		if !member(key) {
			return false
		}
		s.space()
		if s.next('}') {
			return true
		}
		if !s.next(',') {
			return false
		}
		s.space()
	}
}

// key reads a member's name.
func (s *scanner) key() ([]byte, bool) {
	start := s.at
	escaped, ok := s.text()
	if !ok {
		return nil, false
	}
	if !escaped {
		return s.data[start+1 : s.at-1], true
	}
	var name string
	if json.Unmarshal(s.data[start:s.at], &name) != nil {
		return nil, false
	}
	return []byte(name), true
}

// value reads any value. depth is that of what it is in.
func (s *scanner) value(depth int) bool {
	switch s.peek() {
	case '{':
		return s.object(depth+1, func([]byte) bool { return s.value(depth + 1) })
	case '[':
		return s.array(depth + 1)
	case '"':
		_, ok := s.text()
		return ok
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	}
	return s.number()
}

func (s *scanner) array(depth int) bool {
	if depth > maxDepth || !s.next('[') {
		return false
	}
	s.space()
	if s.next(']') {
		return true
	}
	for {
		if !s.value(depth) {
			return false
		}
		s.space()
		if s.next(']') {
			return true
		}
		if !s.next(',') {
			return false
		}
		s.space()
	}
}

func (s *scanner) literal(word string) bool {
	if len(s.data)-s.at < len(word) || string(s.data[s.at:s.at+len(word)]) != word {
		return false
	}
	s.at += len(word)
	return true
}

// text reads a string and reports whether it has escapes.
func (s *scanner) text() (escaped, ok bool) {
	if !s.next('"') {
		return false, false
	}
	data := s.data
	for i := s.at; ; i++ {
		for i < len(data) && plain[data[i]] {
			i++
		}
		if i == len(data) {
			return false, false
		}
		switch data[i] {
		case '"':
			s.at = i + 1
			return escaped, true
		case '\\':
			escaped = true
			if i++; i == len(s.data) {
				return false, false
			}
			switch s.data[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if len(s.data)-i < 5 {
					return false, false
				}
				for _, h := range s.data[i+1 : i+5] {
					if !(h >= '0' && h <= '9' || h >= 'a' && h <= 'f' || h >= 'A' && h <= 'F') {
						return false, false
					}
				}
				i += 4
			default:
				return false, false
			}
		default: // a control character
			return false, false
		}
	}
}

// plain are the bytes that stand for themselves in a string.
var plain = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= ' ' && c != '"' && c != '\\'
	}
	return t
}()

func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.data) && s.data[s.at] >= '0' && s.data[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}

func (s *scanner) number() bool {
	s.next('-')
	if !s.next('0') && !s.digits() {
		return false
	}
	if s.next('.') && !s.digits() {
		return false
	}
	if s.next('e') || s.next('E') {
		if !s.next('+') {
			s.next('-')
		}
		return s.digits()
	}
	return true
}

// integer reads a number that is an int64, written without a fraction.
func (s *scanner) integer() (int64, bool) {
	start := s.at
	if !s.number() {
		return 0, false
	}
	n, err := strconv.ParseInt(string(s.data[start:s.at]), 10, 64)
	return n, err == nil
}
