package tgfleet_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
)

// What the README shows is here and in other files that are compiled.
var samples = []string{"readme_test.go", "tenant/sqlitestore/example_service_test.go"}

var (
	_ = register
	_ = embed
)

func register(ctx context.Context, token string, chatID int64) error {
	monitor, _ := health.New(health.Config{})                          // how each bot does; with a Store, after restarts too
	guard, _ := session.NewGuard(session.GuardConfig{Health: monitor}) // limits, breakers, retries; a zero config is never wrong
	defer guard.Close()
	s, _ := session.New(session.Config{Guard: guard})
	defer s.Close(ctx)
	pool, err := tenant.NewPool(s, tenant.NewMemoryStore(), tenant.PoolConfig{Limiter: guard})
	if err != nil {
		return err
	}
	defer pool.Close(ctx)
	manager := tenant.NewManager(pool, tenant.ManagerConfig{Health: monitor})

	// A customer has filled in the form.
	if _, err := manager.Register(ctx, "customer-7", token); err != nil {
		return errors.New(errors.Friendly(err, "en")) // "This is not a valid bot token. Please copy ..."
	}
	// From now on, anywhere:
	return pool.Do(ctx, "customer-7", func(ctx context.Context, t *tenant.Tenant) error {
		_, err := t.Bot.SendMessageWithContext(ctx, chatID, "hello", nil)
		return err
	})
}

func embed(s *session.Session, token string) (*gotgbot.Bot, error) {
	bot, err := gotgbot.NewBot(token, &gotgbot.BotOpts{BotClient: s.Client("me")})
	return bot, err
}

// plain returns text without what the place of a sample changes: the indent, and
// the spaces before comments.
func plain(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return "\n" + strings.Join(lines, "\n") + "\n"
}

func TestTheSamplesOfTheREADMEAreCompiled(t *testing.T) {
	var compiled strings.Builder
	for _, name := range samples {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		compiled.WriteString(plain(string(text)))
	}
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```go\n(.*?)\n```").FindAllStringSubmatch(string(text), -1)
	require.Len(t, blocks, 3)
	for _, block := range blocks {
		assert.True(t, strings.Contains(compiled.String(), plain(block[1])), "in none of %v:\n%s", samples, block[1])
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	links := regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	commands := regexp.MustCompile(`go run (\./\S+)`)
	for _, name := range []string{"README.md", "CHANGELOG.md", "CONTRIBUTING.md"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, m := range append(links.FindAllStringSubmatch(string(text), -1), commands.FindAllStringSubmatch(string(text), -1)...) {
			if !strings.Contains(m[1], "://") {
				_, err := os.Stat(filepath.FromSlash(m[1]))
				assert.NoError(t, err, name)
			}
		}
	}
}
