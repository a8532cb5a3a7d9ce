package tgfleet_test

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whoever gets the core gets these modules and no others. What needs more
// becomes a module of its own.
func TestTheCoreDependsOnFewModules(t *testing.T) {
	allowed := map[string]bool{
		"github.com/PaulSonOfLars/gotgbot/v2":     true,
		"github.com/hashicorp/golang-lru/v2":      true,
		"github.com/sethvargo/go-retry":           true,
		"golang.org/x/time":                       true,
		"github.com/realclientip/realclientip-go": true,
		// Of the tests.
		"github.com/stretchr/testify": true,
		"go.uber.org/goleak":          true,
		"go.yaml.in/yaml/v3":          true, // of testify
		"pgregory.net/rapid":          true,
	}
	f, err := os.Open("go.mod")
	require.NoError(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	in := false
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 2 && fields[0] == "require":
			in = true
		case len(fields) == 1 && fields[0] == ")":
			in = false
		case in:
			assert.True(t, allowed[fields[0]], "%s is not on the list", fields[0])
		case len(fields) >= 2 && fields[0] == "require":
			assert.True(t, allowed[fields[1]], "%s is not on the list", fields[1])
		}
	}
	require.NoError(t, lines.Err())
}

// gotgbot publishes release candidates only; the code is written against one.
func TestGotgbotIsPinned(t *testing.T) {
	for _, name := range []string{"go.mod", "examples/go.mod", "tenant/pgstore/go.mod", "tenant/sqlitestore/go.mod"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.Contains(t, string(text), "github.com/PaulSonOfLars/gotgbot/v2 v2.0.0-rc.36", name)
	}
}
