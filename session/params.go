package session

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
)

// Callers of RequestWithContext pass parameters in any type that encodes to the
// JSON the server expects. These readers read a parameter as the server does
// (tdlib/telegram-bot-api, Client.cpp): a JSON string counts as its content, and
// all other JSON as its text.

// maxPointers bounds the pointers that resolve follows. A type can point to
// itself.
const maxPointers = 8

// resolve follows pointers to a parameter's value. For strings, [json.Number] and
// [json.RawMessage] it returns the text that the server reads and an invalid
// reflect.Value. For a missing parameter, such as a nil pointer, both are zero.
func resolve(param any) (text string, value reflect.Value) {
	if s, ok := param.(string); ok {
		return s, reflect.Value{}
	}
	v := reflect.ValueOf(param)
	for range maxPointers {
		if k := v.Kind(); k != reflect.Pointer && k != reflect.Interface {
			break
		}
		v = v.Elem()
	}
	if !v.IsValid() {
		return "", reflect.Value{}
	}
	switch {
	case v.Kind() == reflect.String:
		return v.String(), reflect.Value{}
	case v.Type() == reflect.TypeFor[json.RawMessage]():
		return rawText(v.Bytes()), reflect.Value{}
	}
	return "", v
}

func rawText(raw json.RawMessage) string {
	text := strings.TrimSpace(string(raw))
	if !strings.HasPrefix(text, `"`) {
		return text
	}
	var content string
	if json.Unmarshal(raw, &content) != nil {
		return ""
	}
	return content
}

// intParam reads a parameter as an integer. Values outside int64 become the
// nearest int64. ok is false if the parameter is missing or not a number.
func intParam(param any) (n int64, ok bool) {
	switch v := param.(type) { // the common types, without reflection
	case nil:
		return 0, false
	case int64:
		return v, true
	case int:
		return int64(v), true
	}
	text, v := resolve(param)
	switch {
	case v.CanInt():
		return v.Int(), true
	case v.CanUint():
		return int64(min(v.Uint(), math.MaxInt64)), true
	case v.CanFloat():
		return floatInt(v.Float())
	}
	return textInt(text)
}

func floatInt(f float64) (n int64, ok bool) {
	switch {
	case math.IsNaN(f), math.IsInf(f, 0):
		return 0, false // has no JSON form
	case f >= math.MaxInt64:
		return math.MaxInt64, true
	case f <= math.MinInt64:
		return math.MinInt64, true
	}
	return int64(f), true
}

// textInt reads the digits that text starts with, and ignores the rest: the
// server reads "50.0" and "50s" as 50 (td::to_integer).
func textInt(text string) (n int64, ok bool) {
	digits, negative := strings.CutPrefix(text, "-")
	for i := 0; i < len(digits) && digits[i] >= '0' && digits[i] <= '9'; i++ {
		digit := int64(digits[i] - '0')
		if n > (math.MaxInt64-digit)/10 {
			n = math.MaxInt64
			ok = true
			break
		}
		n = 10*n + digit
		ok = true
	}
	if negative {
		n = -n
	}
	return n, ok
}

// boolParam reads a parameter as a boolean. The server takes "true", "yes" and
// "1" for true, in any case and with white space around it, and everything else
// for false (Client::to_bool).
func boolParam(param any) bool {
	switch v := param.(type) {
	case nil:
		return false
	case bool:
		return v
	}
	text, v := resolve(param)
	switch {
	case v.Kind() == reflect.Bool:
		return v.Bool()
	case v.CanInt():
		return v.Int() == 1
	case v.CanUint():
		return v.Uint() == 1
	case v.CanFloat():
		return v.Float() == 1
	}
	switch strings.ToLower(strings.Trim(text, " \t\r\n\v\x00")) {
	case "true", "yes", "1":
		return true
	}
	return false
}

// listLen returns the number of elements of a list parameter: a Go slice or
// array, or the text of a JSON array. It returns 0 for everything else.
func listLen(param any) int {
	text, v := resolve(param)
	switch v.Kind() {
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return 0 // encodes as a base64 string
		}
		return v.Len()
	case reflect.Array:
		return v.Len()
	}
	var list []json.RawMessage
	if json.Unmarshal([]byte(text), &list) != nil {
		return 0
	}
	return len(list)
}
