package main

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/tenant"
)

func TestTheTenantsOfAnEarlierRunGoOn(t *testing.T) {
	t.Setenv(database.KeysVariable, "")
	path := filepath.Join(t.TempDir(), "fleet.db")
	args := []string{"-demo", "-tenants", "5", "-listen", "", "-db", path}
	for _, more := range [][]string{nil, nil, {"-polling"}} {
		var out bytes.Buffer
		var log syncLog
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan int)
		go func() { done <- run(ctx, append(slices.Clone(args), more...), &out, &log) }()
		assert.Eventually(t, func() bool { return strings.Contains(log.String(), "demo is running") }, time.Minute, 5*time.Millisecond)
		stop()
		require.Equal(t, 0, <-done, "%s", log.String())
		assert.Contains(t, out.String(), "demo: 5 tenants")
	}
	db, err := database.Open(t.Context(), path, "")
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	all, err := db.Tenants.List(t.Context(), tenant.Filter{})
	require.NoError(t, err)
	require.Len(t, all, 5)
	for _, r := range all {
		assert.Equal(t, int64(1), r.Version, "registered once")
		assert.NoError(t, r.TokenErr)
	}
	var log bytes.Buffer
	assert.Equal(t, 1, run(context.Background(), []string{"-demo", "-for", "1s", "-listen", "", "-db", filepath.Join(path, "x")}, &log, &log))
}

func TestATenantThatWasRemovedBeforeACrashIsForgotten(t *testing.T) {
	t.Setenv(database.KeysVariable, "")
	path := filepath.Join(t.TempDir(), "fleet.db")
	db, err := database.Open(t.Context(), path, "")
	require.NoError(t, err)
	then := time.Now().Add(-3 * time.Hour).UTC().Truncate(time.Hour)
	flush := health.Flush{Writer: "killed", Seq: 1}
	require.NoError(t, db.Health.Merge(t.Context(), flush, []health.Snapshot{{Tenant: "removed", Requests: 1, LastSuccess: then}}))
	flush.Writer += " too"
	require.NoError(t, db.Usage.Add(t.Context(), flush, []usage.Rollup{{Tenant: "removed", Start: then, Requests: 1}}))
	require.NoError(t, db.Close())

	s := newSite(t, options{db: path, polling: true})
	require.Eventually(t, func() bool {
		snaps, err := s.db.Health.Load(t.Context(), "", 0)
		require.NoError(t, err)
		counted, err := s.db.Usage.Tenants(t.Context(), "", 0)
		require.NoError(t, err)
		return len(snaps)+len(counted) == 0
	}, 10*time.Second, time.Millisecond)
}
