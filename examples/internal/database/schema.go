package database

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// SchemaVariable is the environment variable that names the schema of a
// PostgreSQL.
const SchemaVariable = "TGFLEET_SCHEMA"

// OwnSchema names a new schema in the environment, for this process and those
// that it starts, and returns what drops it. It does nothing where the
// environment names one, or where is no PostgreSQL.
func OwnSchema(where, prefix string) (drop func() error, err error) {
	if !IsPostgres(where) || os.Getenv(SchemaVariable) != "" {
		return func() error { return nil }, nil
	}
	schema := prefix + strings.ToLower(rand.Text()[:16]) // a schema has 40 characters at most
	if err := os.Setenv(SchemaVariable, schema); err != nil {
		return nil, err
	}
	return func() error {
		// Whoever calls it may have been interrupted.
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := os.Unsetenv(SchemaVariable); err != nil {
			return err
		}
		conn, err := pgx.Connect(ctx, where)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		if _, err = conn.Exec(ctx, "DROP SCHEMA IF EXISTS "+pgx.Identifier{schema}.Sanitize()+" CASCADE"); err != nil {
			return fmt.Errorf("schema %s was not dropped: %w", schema, err)
		}
		return nil
	}, nil
}
