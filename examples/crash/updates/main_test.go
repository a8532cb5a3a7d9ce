package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAServiceThatIsKilledLosesNoUpdate(t *testing.T) {
	for _, source := range []string{"webhook", "polling"} {
		t.Run(source, func(t *testing.T) {
			var out bytes.Buffer
			require.NoError(t, run(t.Context(), []string{
				"-source", source, "-kills", "3", "-longest", "300ms", "-updates", "2000", "-chats", "20", "-tenants", "4",
			}, &out, &out), "%s", &out)
			assert.Regexp(t, `\nupdates: 3 kills, 2000 written, 2000 handled, \d+ came again .*, lost 0, duplicate 0, out of order 0\n$`, out.String())
		})
	}
}

// A count that finds nothing wrong anywhere would prove nothing.
func TestTheCountsFindWhatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	for text, want := range map[string][3]int{
		"": {0, 0, 0},
		"done a 1 1\ndone a 1 2\ndone a 2 1\nagain a 1 1\n": {3, 0, 0},
		"done a 1 1\ndone a 1 1\n":                          {1, 1, 0},
		"done a 1 2\ndone a 1 1\ndone b 1 1\n":              {3, 0, 1},
		"done a 1 1\ndone a 1":                              {1, 0, 0},
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		l, err := readLedger(path)
		require.NoError(t, err)
		assert.Equal(t, want, [3]int{len(l.seen), l.twice, l.disorder}, "%q", text)
	}
}
