package pgstore_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant/pgstore"
	"github.com/tgfleet/tgfleet/tenant/seal"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// address is the tests' server. Each test has a schema of its own there.
func address(t testing.TB) string {
	t.Helper()
	url := os.Getenv("TGFLEET_POSTGRES")
	if url == "" {
		url = "postgres://postgres@127.0.0.1:5432/postgres"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		skip(t, "no PostgreSQL answers; set TGFLEET_POSTGRES, or start one at 127.0.0.1:5432: %v", err)
	}
	require.NoError(t, conn.Close(ctx))
	return url
}

// skip passes over a test for which something is missing on this machine, and
// fails it in CI, where nothing may be.
func skip(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

func keys(t testing.TB) *seal.Ring {
	k, err := seal.GenerateKey("test")
	require.NoError(t, err)
	r, err := seal.New(k)
	require.NoError(t, err)
	return r
}

// newSchema returns a name, and drops what is there when t ends.
func newSchema(t testing.TB, url string) string {
	random := make([]byte, 8)
	_, _ = rand.Read(random)
	schema := "tgfleet_test_" + hex.EncodeToString(random)
	t.Cleanup(func() { execute(t, url, "DROP SCHEMA IF EXISTS "+schema+" CASCADE") })
	return schema
}

// execute runs a statement on a connection of its own, as an operator would.
func execute(t testing.TB, url, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql, args...)
	require.NoError(t, err)
}

// open opens a schema in a pool of a few connections.
func open(t testing.TB, url, schema string, keys *seal.Ring) *pgstore.DB {
	t.Helper()
	db, err := pgstore.Open(context.Background(), withParam(url, "pool_max_conns=5"), pgstore.Config{Keys: keys, Schema: schema})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// newPool returns a pool of the caller's own.
func newPool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(context.Background(), withParam(url, "pool_max_conns=5"))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func withParam(url, param string) string {
	if strings.Contains(url, "?") {
		return url + "&" + param
	}
	return url + "?" + param
}

// through returns the address by way of a proxy.
func through(t testing.TB, url string, p *proxy) string {
	cfg, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	c := cfg.ConnConfig
	via := fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", c.User, p.address(), c.Database)
	if c.Password != "" {
		via += "&password=" + c.Password
	}
	return via
}

// connect returns a connection of a test's own.
func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// begin begins a transaction and runs a statement in it.
func begin(t *testing.T, url, sql string, args ...any) pgx.Tx {
	t.Helper()
	tx, err := connect(t, url).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
	return tx
}

// waitBlocked returns once a transaction keeps another waiting, and false where
// done comes first.
func waitBlocked(t *testing.T, url string, by pgx.Tx, done <-chan error) bool {
	t.Helper()
	pid := by.Conn().PgConn().PID()
	conn := connect(t, url)
	for begin := time.Now(); time.Since(begin) < 30*time.Second; {
		var blocked bool
		err := conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND $1 = ANY (pg_blocking_pids(pid)))", pid).Scan(&blocked)
		require.NoError(t, err)
		if blocked {
			return true
		}
		select {
		case err := <-done:
			require.NoError(t, err)
			return false
		default:
		}
	}
	t.Fatal("nobody waits")
	panic("unreachable")
}
