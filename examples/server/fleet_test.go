package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/session/bottest"
)

// Telegram lets one bot an hour begin here. Those that were called before the
// restart have begun.
func TestARestartMakesNoBotCold(t *testing.T) {
	t.Setenv(database.KeysVariable, "")
	o := options{db: filepath.Join(t.TempDir(), "fleet.db")}
	srv := bottest.New(bottest.Config{Limits: bottest.NoLimits()})
	defer srv.Close()
	open := func(starts ...ratelimit.Limit) *fleet {
		f, err := newFleet(t.Context(), o, session.Config{Transport: srv.Transport()},
			session.LimitConfig{ColdStarts: starts, MaxWait: time.Millisecond}, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		return f
	}
	f := open([]ratelimit.Limit{}...)
	for _, id := range []string{"a", "b", "c", "long-ago"} {
		_, err := f.manager.Register(t.Context(), id, srv.NewBot(id+"_bot").Token())
		require.NoError(t, err)
	}
	now := time.Now()
	require.NoError(t, f.db.Health.Merge(t.Context(), health.Flush{Writer: "before", Seq: 1}, []health.Snapshot{
		{Tenant: "a", LastSuccess: now}, {Tenant: "b", LastSuccess: now.Add(-time.Minute)}, {Tenant: "c", LastFailure: now},
		{Tenant: "long-ago", LastSuccess: now.Add(-24 * time.Hour)},
	}))
	f.close(context.Background())

	f = open(ratelimit.Per(1, time.Hour))
	defer f.close(context.Background())
	for _, id := range []string{"a", "b", "c"} {
		assert.NoError(t, f.askMe(t.Context(), id), id) // c is the one that may begin
	}
	assert.ErrorIs(t, f.askMe(t.Context(), "long-ago"), errors.Throttled)
}
