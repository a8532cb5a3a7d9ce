package database_test

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/examples/internal/database"
	"github.com/tgfleet/tgfleet/examples/internal/database/databasetest"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

func TestAMarkIsThereAfterARestart(t *testing.T) {
	key, err := seal.GenerateKey("k")
	require.NoError(t, err)
	t.Setenv(database.KeysVariable, key.Reveal())
	t.Run("sqlite", func(t *testing.T) { testMarks(t, filepath.Join(t.TempDir(), "a fleet?.db")) })
	t.Run("postgres", func(t *testing.T) {
		url := databasetest.Schema(t, "tgfleet_marks_")
		at := "?"
		if strings.Contains(url, at) {
			at = "&"
		}
		testMarks(t, url+at+"pool_max_conns=3") // as pgstore takes it
	})
}

func testMarks(t *testing.T, where string) {
	ctx := t.Context()
	var wg sync.WaitGroup
	for range 4 { // as several who start at once
		wg.Go(func() {
			db, err := database.Open(ctx, where, "")
			if assert.NoError(t, err) {
				assert.NoError(t, db.SetMark(ctx, "place", "first"))
				assert.NoError(t, db.Close())
			}
		})
	}
	wg.Wait()
	open := func() database.DB {
		db, err := database.Open(ctx, where, "")
		require.NoError(t, err)
		return db
	}
	get := func(db database.DB, name string) string {
		text, err := db.Mark(ctx, name)
		require.NoError(t, err)
		return text
	}
	db := open()
	assert.Equal(t, "first", get(db, "place"))
	require.NoError(t, db.SetMark(ctx, "place", "second 'place'; — "))
	require.NoError(t, db.SetMark(ctx, "other", "x"))
	require.NoError(t, db.Close())

	db = open()
	assert.Equal(t, "second 'place'; — ", get(db, "place"))
	require.NoError(t, db.SetMark(ctx, "place", ""))
	assert.Empty(t, get(db, "place"))
	assert.Equal(t, "x", get(db, "other"))
	require.NoError(t, db.Close())
	_, err := db.Mark(ctx, "place")
	if !database.IsPostgres(where) { // which is connected to for each
		assert.Error(t, err)
		left, err := filepath.Glob(where + "-*")
		require.NoError(t, err)
		assert.Empty(t, left, "the last to close leaves nothing beside the file")
	}
}
