package session

import (
	"bytes"
	"encoding/json"
	"net/http"
)

// A result may decode to hundreds of times its length: "{}," is three bytes, and
// the gotgbot.Message that it becomes more than a thousand. MaxReplyBytes bounds
// the length of a reply. These constants bound what it decodes to.
const (
	// maxUpdates is the most updates that one getUpdates returns, and the number
	// that it returns without a limit (Bot API, getUpdates).
	maxUpdates = 100
	// maxList bounds the list that any other method returns. Telegram's longest
	// has 200 elements (Bot API, getCustomEmojiStickers).
	maxList = 1_000
	// maxValues bounds the objects and arrays of a result, and the elements of
	// its arrays. The largest results are 100 updates. They hold about 62,000
	// objects and arrays if each message, and the message that it replies to, has
	// 100 entities and a keyboard of 100 buttons in 100 rows.
	maxValues = 100_000
)

// boundResult returns the result of a good reply. For getUpdates it keeps as
// many updates as the call asked for. Telegram sends the others again, because
// the caller does not confirm them. A result that is larger than any of
// Telegram's is a bad reply. boundResult needs valid JSON, and may write to it.
func boundResult(call *Call, status int, header http.Header, result json.RawMessage) (json.RawMessage, error) {
	poll, most := isLongPoll(call.Method), maxList
	if poll {
		most = askedUpdates(call)
	}
	if len(result) <= 2*most {
		return result, nil // an element takes two bytes, with its comma
	}
	s := scanResult(result, most)
	switch {
	case s.containers > maxValues || s.elements > maxValues:
		return nil, noReply(call, status, header, badReply("more than %d objects, arrays or elements", maxValues))
	case s.cut == 0:
		return result, nil
	case !poll:
		return nil, noReply(call, status, header, badReply("a list of more than %d elements", maxList))
	}
	result[s.cut] = ']' // was a comma
	return result[: s.cut+1 : s.cut+1], nil
}

// askedUpdates returns the number of updates that a getUpdates asks for. For a
// limit out of range the server takes the nearest one in range
// (Client::process_get_updates_query).
func askedUpdates(call *Call) int {
	limit, ok := intParam(call.Params["limit"])
	if !ok {
		return maxUpdates
	}
	return int(min(max(limit, 1), maxUpdates))
}

// resultSize is what a JSON text holds, up to the place where it is cut.
type resultSize struct {
	containers int // objects and arrays
	elements   int // of all arrays
	cut        int // the comma after the last element to keep; 0 keeps all
}

// scanResult counts the values of a valid JSON text. In a list of more than most
// elements it stops after most of them.
func scanResult(text []byte, most int) (s resultSize) {
	isList := bytes.HasPrefix(bytes.TrimSpace(text), []byte("["))
	depth, listed, commas, colons, empty := 0, 0, 0, 0, 0
scan:
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			i = endOfString(text, i)
		case '{', '[':
			s.containers++
			depth++
		case '}', ']':
			depth--
			if isEmpty(text, i) {
				empty++
			}
		case ':':
			colons++
		case ',':
			if depth == 1 && isList {
				if listed++; listed == most {
					s.cut = i
					break scan
				}
			}
			commas++
		}
	}
	// A container of n values has n-1 commas, if it is not empty. An object has a
	// colon for each of its values.
	s.elements = commas + s.containers - empty - colons
	return s
}

// isEmpty reports whether the object or array that ends at index end is empty.
func isEmpty(text []byte, end int) bool {
	for i := end - 1; i >= 0; i-- {
		switch text[i] {
		case ' ', '\t', '\r', '\n':
		case '{', '[':
			return true
		default:
			return false
		}
	}
	return false
}

// endOfString returns the index of the quote that ends the string at start.
func endOfString(text []byte, start int) int {
	for i := start; ; {
		quote := bytes.IndexByte(text[i+1:], '"')
		if quote < 0 {
			return len(text)
		}
		i += 1 + quote
		escapes := i
		for text[escapes-1] == '\\' {
			escapes--
		}
		if (i-escapes)%2 == 0 {
			return i
		}
	}
}
