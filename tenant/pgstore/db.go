package pgstore

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlinbox"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

// ErrNewer says that the schema was migrated by a newer version of the code.
var ErrNewer = sqlstore.ErrNewer

// Config configures a [DB].
type Config struct {
	// Keys seal what is secret. Required.
	Keys *seal.Ring
	// Schema is where the tables are: 1 to 40 of a-z, 0-9 and "_", no digit
	// first. "" means "tgfleet".
	Schema string
	// Inbox is the inbox's part.
	Inbox InboxConfig
}

// DB is a schema of a database, from which the stores of each concern are
// taken. It is safe for concurrent use.
type DB struct {
	cfg  Config
	pool *pgxpool.Pool
	own  bool
	idle time.Duration // idleLimit, but for tests

	closing time.Duration // closeTime, but for tests

	watches *watches
	flushes *flushes
	tenants *Tenants
	health  *Health
	usage   *Usage
	inbox   *Inbox
	leases  *Leases
	owners  *Ownership
}

// lateness is how long after the end of its context an operation ends. pgx by
// default cuts the connection at that moment, and a statement that was not
// written by then leaves it in the pool for 15 s, of no use to anybody. Most
// statements are done sooner than this.
const lateness = 50 * time.Millisecond

// Open connects to a database, as libpq's connection strings and environment
// variables name it, and continues like [New]. Close closes its pool.
func Open(ctx context.Context, connection string, cfg Config) (*DB, error) {
	const op = "open database"
	poolConfig, err := pgxpool.ParseConfig(connection)
	if err != nil {
		return nil, sqlstore.Fail(op, "", errors.Internal, errors.New(parseProblem(err)))
	}
	poolConfig.ConnConfig.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: c.Conn(), DeadlineDelay: lateness}
	}
	pool, err := pgxpool.NewWithConfig(ctx, poolConfig)
	if err != nil {
		return nil, failure(ctx, op, "", err)
	}
	db, err := New(ctx, pool, cfg)
	if err != nil {
		pool.Close()
		return nil, err
	}
	db.own = true
	return db, nil
}

// problemText is what pgx says of a connection string in words of its own.
var problemText = regexp.MustCompile("`: ([a-zA-Z_/ ]+)(?: \\(.*)?$")

// parseProblem says what is wrong with a connection string, and nothing of what
// is in it: pgx finds most passwords, but not all.
func parseProblem(err error) string {
	text := "connection string is not understood"
	if m := problemText.FindStringSubmatch(err.Error()); m != nil {
		text += ": " + m[1]
	}
	return text
}

// schemaName needs no quoting, and leaves room in the 63 bytes of an identifier
// for what is made of it.
var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,39}$`)

// New returns the stores in a database. It creates schema and tables where they
// are not there and migrates those of an older version; [ErrNewer] where they
// are of a newer one. Any number of processes may do so at the same time. The
// pool stays the caller's, who closes it after DB.
//
// A busy service sets BuildContextWatcherHandler of the pool's ConnConfig to a
// [pgconn.DeadlineContextWatcherHandler] with a DeadlineDelay of some
// milliseconds, as Open does: without one every canceled context costs a
// connection.
func New(ctx context.Context, pool *pgxpool.Pool, cfg Config) (*DB, error) {
	const op = "open database"
	if cfg.Schema == "" {
		cfg.Schema = "tgfleet"
	}
	var bad []error
	if pool == nil {
		bad = append(bad, errors.New("pool is nil"))
	}
	if cfg.Keys == nil {
		bad = append(bad, errors.New("Keys is nil"))
	}
	if !schemaName.MatchString(cfg.Schema) || strings.HasPrefix(cfg.Schema, "pg_") {
		bad = append(bad, errors.New("Schema is not 1 to 40 of a-z, 0-9 and '_', or begins with a digit or pg_"))
	}
	_, badInbox := sqlinbox.Config(cfg.Inbox).WithDefaults()
	if bad = append(bad, badInbox...); len(bad) > 0 {
		return nil, sqlstore.Fail(op, "", errors.Internal, errors.Join(bad...))
	}
	db := &DB{cfg: cfg, pool: pool, idle: idleLimit, closing: closeTime, watches: newWatches()}
	if err := db.migrate(ctx); err != nil {
		return nil, failure(ctx, op, "", err)
	}
	db.flushes, db.tenants, db.health, db.usage = newFlushes(db), newTenants(db), newHealth(db), newUsage(db)
	db.inbox, db.leases, db.owners = newInbox(db), newLeases(db), newOwnership(db)
	return db, nil
}

// Tenants returns the store of tenants.
func (db *DB) Tenants() *Tenants { return db.tenants }

// Health returns the store of what a [health.Monitor] knows.
func (db *DB) Health() *Health { return db.health }

// Usage returns the store of what a [usage.Recorder] counts.
func (db *DB) Usage() *Usage { return db.usage }

// Inbox returns the store of received updates.
func (db *DB) Inbox() *Inbox { return db.inbox }

// Leases returns the leases of those who poll.
func (db *DB) Leases() *Leases { return db.leases }

// Ownership returns the store of proofs that bots are their tenants'.
func (db *DB) Ownership() *Ownership { return db.owners }

// closeTime is how long Close waits. A transaction of the inbox may take as long.
const closeTime = putTime

// Close ends those who watch, ends what the inbox has going, and closes the pool
// that [Open] made. What is under way ends first, and Close waits for it, for
// 30 s at most: what hangs by then, since the server is gone or who watches does
// not return, ends with its own context, and the error is of kind
// [errors.Timeout]. Close may be called again to wait on.
//
// The pool that was given to [New] stays open, and who uses it there goes on.
// Stop managers, pollers and workers first.
func (db *DB) Close() error {
	db.watches.stop(errWatchClosed)
	done := make(chan struct{})
	go func() {
		defer close(done)
		db.inbox.close()
		if db.own {
			// Before those who watch have ended: they may be asking for what
			// can't be reached, until it is closed.
			db.pool.Close()
		}
		db.watches.close()
	}()
	timer := time.NewTimer(db.closing)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return sqlstore.Fail("close database", "", errors.Timeout, errors.New("not all that was under way has ended"))
	}
}

// name puts the schema into a statement.
func (db *DB) name(sql string) string {
	return strings.NewReplacer("{schema}", pgx.Identifier{db.cfg.Schema}.Sanitize(), "{channel}", db.channel()).Replace(sql)
}

// channel is where changes of tenants are told.
func (db *DB) channel() string { return db.cfg.Schema + "_tenant_changes" }
