// Package databasetest finds the PostgreSQL that the examples' tests talk to.
package databasetest

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/examples/internal/database"
)

// URL returns the address of the tests' PostgreSQL, $TGFLEET_POSTGRES or the one
// at 127.0.0.1:5432. A test for which none answers is passed over, and fails in
// CI, where one must.
func URL(t *testing.T) string {
	t.Helper()
	url := os.Getenv("TGFLEET_POSTGRES")
	if url == "" {
		url = "postgres://postgres@127.0.0.1:5432/postgres"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		const hint = "no PostgreSQL answers; set TGFLEET_POSTGRES, or start one at 127.0.0.1:5432: %v"
		if os.Getenv("CI") != "" {
			t.Fatalf(hint, err)
		}
		t.Skipf(hint, err)
	}
	require.NoError(t, conn.Close(ctx))
	return url
}

// Schema is [URL], and the database opened there has a schema of the test's own,
// which goes with the test. Its name begins with prefix.
func Schema(t *testing.T, prefix string) string {
	t.Helper()
	url := URL(t)
	t.Setenv(database.SchemaVariable, "")
	drop, err := database.OwnSchema(url, prefix)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, drop()) })
	return url
}
