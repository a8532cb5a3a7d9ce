package session

import "strings"

// checkMethod reports whether the text can be a method's name: letters and
// digits, so that it is one path segment and nothing else.
func checkMethod(method string) bool {
	if method == "" || len(method) > 64 {
		return false
	}
	for i := range len(method) {
		c := method[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// repeatable reports whether a method is idempotent by nature: carried out
// twice it leaves what once does. All others, above all what sends, must not
// be repeated unless they certainly did not arrive.
func repeatable(method string) bool {
	if strings.EqualFold(method, "sendChatAction") {
		return true
	}
	for _, prefix := range [...]string{"get", "set", "edit", "delete", "answer"} {
		if len(method) > len(prefix) && strings.EqualFold(method[:len(prefix)], prefix) {
			return true
		}
	}
	return false
}
