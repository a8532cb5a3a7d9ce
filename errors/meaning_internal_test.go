package errors

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestEveryRowOfTheMeaningsDecides(t *testing.T) {
	for i := range meanings {
		row := &meanings[i]
		assert.Equal(t, strings.ToLower(row.text), row.text, "it is compared in lower case")
		text := strings.ReplaceAll(row.text, "*", "x")
		assert.Same(t, row, meaningOf(row.code, text), "%q", row.text)
	}
}

func TestAFormFitsTheWholeText(t *testing.T) {
	for _, row := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true},
		{"", "a", false},
		{"ab", "ab", true},
		{"ab", "abc", false},
		{"ab", "xab", false},
		{"ab*", "ab", true},
		{"ab*", "abc", true},
		{"ab*", "xabc", false},
		{"*ab", "xab", true},
		{"*ab", "abx", false},
		{"*ab*", "xabx", true},
		{"*ab*", "a b", false},
		{"a*c", "abc", true},
		{"a*c", "ac", true},
		{"a*a", "a", false},
		{"a*b*c", "axbxc", true},
		{"a*b*c", "axcxb", false},
		{"*_forbidden", "chat_send_forbidden_forbidden", true},
	} {
		assert.Equal(t, row.want, fits(strings.Split(row.pattern, "*"), row.text), "%q %q", row.pattern, row.text)
	}
}
