package sqlitestore

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlinbox"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
	"github.com/tgfleet/tgfleet/tenant/seal"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// ErrNewer says that the database was migrated by a newer version of the code.
var ErrNewer = sqlstore.ErrNewer

// Memory is a path for a database in memory, which ends with its DB.
const Memory = ":memory:"

// Config configures a [DB].
type Config struct {
	// Keys seal what is secret. Required.
	Keys *seal.Ring
	// BusyTimeout is how long a change waits for one of another process, and
	// past it fails with [errors.StoreUnavailable]. 0 means 5 s.
	BusyTimeout time.Duration
	// PollInterval is how often a watch looks for changes; a look takes a few
	// microseconds. 0 means 200 ms.
	PollInterval time.Duration
	// Readers is how many reads go on at once. 0 means 4.
	Readers int
	// Inbox is the inbox's part.
	Inbox InboxConfig
}

// DB is an open database, from which the stores of each concern are taken. It
// is safe for concurrent use.
type DB struct {
	cfg   Config
	write *sql.DB // of one connection, since SQLite has one writer
	read  *sql.DB // the same as write for a database in memory

	commitTx func(*sql.Tx) error // (*sql.Tx).Commit, but for tests

	mu      sync.Mutex // guards closed
	closed  bool
	changes sync.WaitGroup // those under way, and backups; none begins once closed is set

	flushes *flushes
	tenants *Tenants
	health  *Health
	usage   *Usage
	inbox   *Inbox
	leases  *Leases
	owners  *Ownership
}

// Open opens the database in the file of that path, [Memory] for one that is
// not kept. It creates the file and its tables where they are not there, and
// migrates tables of an older version; [ErrNewer] where they are of a newer
// one. Any number of processes may do so at the same time.
func Open(ctx context.Context, path string, cfg Config) (*DB, error) {
	const op = "open database"
	var bad []error
	if path == "" {
		bad = append(bad, errors.New("path is empty"))
	}
	if strings.IndexByte(path, 0) >= 0 {
		bad = append(bad, errors.New("path has a NUL"))
	}
	if cfg.Keys == nil {
		bad = append(bad, errors.New("Keys is nil"))
	}
	if cfg.BusyTimeout < 0 || cfg.PollInterval < 0 || cfg.Readers < 0 {
		bad = append(bad, errors.New("BusyTimeout, PollInterval or Readers is negative"))
	}
	_, badInbox := sqlinbox.Config(cfg.Inbox).WithDefaults()
	if bad = append(bad, badInbox...); len(bad) > 0 {
		return nil, sqlstore.Fail(op, "", errors.Internal, errors.Join(bad...))
	}
	if cfg.BusyTimeout == 0 {
		cfg.BusyTimeout = 5 * time.Second
	}
	if cfg.PollInterval == 0 {
		cfg.PollInterval = 200 * time.Millisecond
	}
	if cfg.Readers == 0 {
		cfg.Readers = 4
	}
	db := &DB{cfg: cfg, commitTx: (*sql.Tx).Commit}
	if err := db.open(ctx, path); err != nil {
		_ = db.Close()
		return nil, failure(ctx, op, "", err)
	}
	return db, nil
}

func (db *DB) open(ctx context.Context, path string) error {
	if path != Memory {
		if err := create(path, os.O_EXCL); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		// Where a symbolic link to nothing is there, its target is made.
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			if err := create(path, 0); err != nil {
				return err
			}
		}
	}
	var err error
	if db.write, err = connect(path, db.cfg, 1, "immediate"); err != nil {
		return err
	}
	db.read = db.write
	if path != Memory {
		if err := migrate(ctx, db.write, true); err != nil {
			return explained(path, err)
		}
		if db.read, err = connect(path, db.cfg, db.cfg.Readers, "deferred"); err != nil {
			return err
		}
	} else if err := migrate(ctx, db.write, false); err != nil {
		return err
	}
	if db.flushes, err = newFlushes(ctx, db); err != nil {
		return err
	}
	if db.tenants, err = newTenants(ctx, db); err != nil {
		return err
	}
	if db.health, err = newHealth(ctx, db); err != nil {
		return err
	}
	if db.usage, err = newUsage(ctx, db); err != nil {
		return err
	}
	if db.inbox, err = newInbox(ctx, db); err != nil {
		return err
	}
	if db.leases, err = newLeases(ctx, db); err != nil {
		return err
	}
	db.owners, err = newOwnership(ctx, db)
	return err
}

// create makes an empty file that nobody else may read. SQLite gives its
// journals the same permissions.
//
// A file that is there is not opened: to close it would take away the locks that
// another DB of this process has on it, and another process would find nobody
// there and remove the journal that is in use.
func create(path string, flag int) error {
	f, err := os.OpenFile(path, flag|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// prepared is a statement that is compiled once, since compiling one takes
// longer than running it.
type prepared struct {
	stmt **sql.Stmt
	db   *sql.DB
	text string
}

func prepare(ctx context.Context, all []prepared) error {
	for _, p := range all {
		var err error
		if *p.stmt, err = p.db.PrepareContext(ctx, p.text); err != nil {
			return err
		}
	}
	return nil
}

// connect returns connections to the file. What it returns connects when it is
// first used.
func connect(path string, cfg Config, n int, lock string) (*sql.DB, error) {
	dsn := "file::memory:"
	if path != Memory {
		// As a URI, with all that means something in one escaped.
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		abs = filepath.ToSlash(abs)
		if !strings.HasPrefix(abs, "/") {
			abs = "/" + abs // C:/...
		}
		dsn = (&url.URL{Scheme: "file", OmitHost: true, Path: abs}).String()
	}
	query := url.Values{
		"_pragma": {
			fmt.Sprintf("busy_timeout(%d)", cfg.BusyTimeout.Milliseconds()),
			"foreign_keys(1)",
			"synchronous(FULL)",
			"journal_size_limit(67108864)", // a WAL that grew once does not stay so
			"trusted_schema(0)",
		},
		"_txlock": {lock},
	}
	db, err := sql.Open("sqlite", dsn+"?"+query.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
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

// Close closes the database. Changes that are under way end first, and backups,
// however long they take; what comes later fails. Those who watch get an error of kind [errors.Closed]. The last
// one to close a file leaves nothing beside it.
func (db *DB) Close() error {
	if db.inbox != nil {
		db.inbox.queue.Wait()
	}
	db.mu.Lock()
	db.closed = true
	db.mu.Unlock()
	db.changes.Wait() // package sql would leave them to end later
	var all []error
	if db.read != nil && db.read != db.write {
		all = append(all, db.read.Close())
	}
	if db.write != nil {
		all = append(all, db.write.Close())
	}
	if err := errors.Join(all...); err != nil {
		return sqlstore.Fail("close database", "", errors.Internal, err)
	}
	return nil
}

// change runs f in a transaction of the one writer.
func (db *DB) change(ctx context.Context, f func(tx *sql.Tx) error) error {
	if err := db.begin(); err != nil {
		return err
	}
	defer db.changes.Done()
	err := db.transact(ctx, f)
	db.makeRoom(ctx, err)
	return err
}

// makeRoom is called after each change. What fills the disk may be the WAL,
// which is only emptied after changes that succeed. The next change finds the
// room.
func (db *DB) makeRoom(ctx context.Context, err error) {
	if full(err) {
		_, _ = db.write.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	}
}

// begin announces a change or a backup, which is to call db.changes.Done.
func (db *DB) begin() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return sql.ErrConnDone
	}
	db.changes.Add(1)
	return nil
}

func (db *DB) transact(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	if err := f(tx); err != nil {
		return err
	}
	return db.commit(ctx, tx)
}

// commit ends a transaction. Where nobody knows any more whether it was
// committed, the error is an [unsure].
func (db *DB) commit(ctx context.Context, tx *sql.Tx) error {
	if err := ctx.Err(); err != nil {
		return err // who has begun it rolls it back
	}
	err := db.commitTx(tx)
	if err == nil || rolledBack(err) {
		return err
	}
	return &unsure{err}
}
