package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/examples/internal/database/databasetest"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

// databases runs a test on each database, which is its own.
func databases(t *testing.T, test func(t *testing.T, where string)) {
	key, err := seal.GenerateKey("k")
	require.NoError(t, err)
	t.Setenv(database.KeysVariable, key.Reveal())
	t.Setenv(database.SecretVariable, strings.Repeat("secret", 6))
	t.Run("sqlite", func(t *testing.T) { test(t, filepath.Join(t.TempDir(), "fleet.db")) })
	t.Run("postgres", func(t *testing.T) {
		test(t, databasetest.Schema(t, "tgfleet_server_"))
	})
}

// reconciled says of each run that came to its end where it began, and what it
// did.
func (s *site) reconciled() (runs []string) {
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, "webhooks reconciled") {
			_, line, _ = strings.Cut(line, "after=")
			line, _, _ = strings.Cut(line, " newer=")
			runs = append(runs, line)
		}
	}
	return runs
}

func TestARunOverAllWebhooksGoesOnAfterARestart(t *testing.T) {
	databases(t, func(t *testing.T, where string) {
		srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
		t.Cleanup(srv.Close)
		o := options{publicURL: byWebhook.publicURL, db: where}
		start := func() *site {
			s := &site{t: t, srv: srv}
			s.start(o)
			return s
		}
		runs := func(want ...string) {
			t.Helper()
			s := start()
			require.Eventually(t, func() bool { return len(s.reconciled()) == len(want) }, 20*time.Second, time.Millisecond)
			s.close(t.Context())
			assert.Equal(t, want, s.reconciled())
			assert.NotContains(t, s.log.String(), "place among")
		}
		runs(`"" set=0 right=0`)

		db, err := database.Open(t.Context(), where, "")
		require.NoError(t, err)
		bots := make(map[string]*bottest.Bot)
		for _, id := range []string{"a", "b", "c"} {
			bots[id] = srv.NewBot(id + "_bot")
			token, err := session.ParseToken(bots[id].Token())
			require.NoError(t, err)
			_, err = db.Tenants.Put(t.Context(), tenant.Record{ID: id, BotID: bots[id].ID(), Username: bots[id].Username(), Token: token})
			require.NoError(t, err)
		}
		require.NoError(t, db.Close())

		// Telegram does not answer for b, and the process ends meanwhile.
		answer := srv.Fail(bottest.Fault{Bot: bots["b"], Method: "getWebhookInfo", Do: bottest.Hang()})
		s := start()
		require.Eventually(t, func() bool { return strings.Count(s.log.String(), "webhook changed") == 2 }, 20*time.Second, time.Millisecond)
		s.close(t.Context())
		assert.Empty(t, s.reconciled())
		answer()

		runs("a set=1 right=1", `"" set=0 right=3`) // and then those before it
		runs(`"" set=0 right=3`)                    // it had come to its end

		db, err = database.Open(t.Context(), where, "")
		require.NoError(t, err)
		mark, err := db.Mark(t.Context(), placeMark)
		require.NoError(t, err)
		assert.Empty(t, mark)
		require.NoError(t, db.SetMark(t.Context(), placeMark, "0123456789abcdef b"))
		require.NoError(t, db.Close())
		runs(`"" set=0 right=3`) // that run was about other webhooks
	})
}

func TestAPlaceIsSavedNowAndThenWhileARunGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		saved := &marks{}
		p := &place{marks: saved, log: slog.New(slog.DiscardHandler), of: "run"}
		for i := range 100 {
			p.passed(fmt.Sprintf("t%02d", i))
			time.Sleep(100 * time.Millisecond)
		}
		assert.Len(t, saved.all, 10)
		assert.Equal(t, "run t90", saved.all[9])
		assert.Equal(t, "t90", p.load(t.Context()))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		p.save(ended, "t99")
		assert.Equal(t, "t99", p.load(t.Context()), "also at the end")
	})
}

// marks are one mark, and all that it ever was.
type marks struct{ all []string }

func (m *marks) Mark(context.Context, string) (string, error) { return m.all[len(m.all)-1], nil }

func (m *marks) SetMark(ctx context.Context, _, text string) error {
	if ctx.Err() == nil {
		m.all = append(m.all, text)
	}
	return ctx.Err()
}
