package main

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/tenant"
)

func TestTheTenantsOfAnEarlierRunGoOn(t *testing.T) {
	t.Setenv(database.KeysVariable, "")
	path := filepath.Join(t.TempDir(), "fleet.db")
	args := []string{"-demo", "-tenants", "5", "-for", "1s", "-listen", "", "-db", path}
	for _, more := range [][]string{nil, nil, {"-polling"}} {
		var out, log bytes.Buffer
		require.Equal(t, 0, run(context.Background(), append(args, more...), &out, &log), "%s", log.String())
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
