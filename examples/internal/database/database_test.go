package database_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/examples/internal/database/databasetest"
	"github.com/tgfleet/tgfleet/tenant/seal"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

func TestADatabaseIsOpenedAgainWithItsKeys(t *testing.T) {
	t.Setenv(database.KeysVariable, "")
	path := filepath.Join(t.TempDir(), "fleet.db")
	want := storetest.Record(t, "shop", 7)
	var wg sync.WaitGroup
	for range 5 { // as several who start at once
		wg.Go(func() {
			db, err := database.Open(t.Context(), path, "")
			if assert.NoError(t, err) {
				_, _ = db.Tenants.Put(t.Context(), want)
				assert.NoError(t, db.Close())
			}
		})
	}
	wg.Wait()
	db, err := database.Open(t.Context(), path, "")
	require.NoError(t, err)
	r, err := db.Tenants.Get(t.Context(), "shop")
	require.NoError(t, err)
	assert.NoError(t, r.TokenErr)
	assert.True(t, want.Token.Equal(r.Token))
	require.NoError(t, db.Close())
	info, err := os.Stat(database.KeysFile(path))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	key, err := seal.GenerateKey("other")
	require.NoError(t, err)
	t.Setenv(database.KeysVariable, key.Reveal())
	db, err = database.Open(t.Context(), path, "")
	require.NoError(t, err)
	r, err = db.Tenants.Get(t.Context(), "shop")
	require.NoError(t, err)
	assert.ErrorIs(t, r.TokenErr, seal.ErrNoKey, "the environment comes first")
	require.NoError(t, db.Close())
}

func TestATemporaryDatabaseLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv(database.KeysVariable, "")
	db, err := database.Open(t.Context(), "", "")
	require.NoError(t, err)
	_, err = db.Tenants.Put(t.Context(), storetest.Record(t, "shop", 7))
	require.NoError(t, err)
	require.NoError(t, db.Close())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestASchemaOfOnesOwnIsDropped(t *testing.T) {
	t.Setenv(database.SchemaVariable, "")
	t.Setenv(database.KeysVariable, "")
	url := databasetest.URL(t)
	drop, err := database.OwnSchema(url, "tgfleet_updates_")
	require.NoError(t, err)
	schema := os.Getenv(database.SchemaVariable)
	db, err := database.Open(t.Context(), url, filepath.Join(t.TempDir(), "none"))
	require.Error(t, err, "there are no keys")
	key, err := seal.GenerateKey("k")
	require.NoError(t, err)
	t.Setenv(database.KeysVariable, key.Reveal())
	db, err = database.Open(t.Context(), url, "")
	require.NoError(t, err)
	require.NoError(t, db.Close())
	schemas := func() (n int) {
		conn, err := pgx.Connect(t.Context(), url)
		require.NoError(t, err)
		defer conn.Close(t.Context())
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_namespace WHERE nspname = $1", schema).Scan(&n))
		return n
	}
	assert.Equal(t, 1, schemas())
	require.NoError(t, drop())
	assert.Zero(t, schemas())
	assert.Empty(t, os.Getenv(database.SchemaVariable))

	for _, where := range []string{"fleet.db", url} { // nothing to do
		t.Setenv(database.SchemaVariable, "mine")
		drop, err := database.OwnSchema(where, "tgfleet_updates_")
		require.NoError(t, err)
		assert.Equal(t, "mine", os.Getenv(database.SchemaVariable))
		require.NoError(t, drop())
	}
}
