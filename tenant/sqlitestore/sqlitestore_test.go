package sqlitestore_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/usage"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/seal"
	"github.com/tgfleet/tgfleet/tenant/sqlitestore"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

func keys(t testing.TB) *seal.Ring {
	k, err := seal.GenerateKey("test")
	require.NoError(t, err)
	r, err := seal.New(k)
	require.NoError(t, err)
	return r
}

func open(t testing.TB, path string, keys *seal.Ring) *sqlitestore.DB {
	t.Helper()
	db, err := sqlitestore.Open(context.Background(), path, sqlitestore.Config{Keys: keys, PollInterval: 2 * time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// opened remembers what belongs to a store, which the suite does not know.
type opened struct {
	mu   sync.Mutex
	path map[tenant.Store]string
	db   map[tenant.Store]*sqlitestore.DB
}

func (o *opened) open(t *testing.T, path string, keys *seal.Ring) tenant.Store {
	db := open(t, path, keys)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.path[db.Tenants()], o.db[db.Tenants()] = path, db
	return db.Tenants()
}

func newFile(t *testing.T) string { return filepath.Join(t.TempDir(), "fleet.db") }

// migrated is a file whose tables are there. To make them takes longer than most
// tests do afterwards.
var migrated = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "sqlitestore")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	key, err := seal.GenerateKey("any")
	if err != nil {
		return nil, err
	}
	ring, err := seal.New(key)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "fleet.db")
	db, err := sqlitestore.Open(context.Background(), path, sqlitestore.Config{Keys: ring})
	if err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// readyFile is newFile for tests of anything but how the file comes to be.
func readyFile(t *testing.T) string {
	t.Helper()
	content, err := migrated()
	require.NoError(t, err)
	path := newFile(t)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

func TestStore(t *testing.T) {
	o := &opened{path: map[tenant.Store]string{}, db: map[tenant.Store]*sqlitestore.DB{}}
	storetest.Run(t, storetest.Harness{
		Open:   func(t *testing.T, keys *seal.Ring) tenant.Store { return o.open(t, readyFile(t), keys) },
		Again:  func(t *testing.T, s tenant.Store, keys *seal.Ring) tenant.Store { return o.open(t, o.path[s], keys) },
		Rows:   func(s tenant.Store) seal.Rows { return o.db[s] },
		Health: func(s tenant.Store) health.Store { return o.db[s].Health() },
		Usage:  func(s tenant.Store) usage.Store { return o.db[s].Usage() },
		Dump: func(t *testing.T, s tenant.Store) (all []byte) {
			files, err := filepath.Glob(o.path[s] + "*")
			require.NoError(t, err)
			require.Contains(t, files, o.path[s]+"-wal")
			for _, f := range files {
				b, err := os.ReadFile(f)
				require.NoError(t, err)
				all = append(all, b...)
			}
			return all
		},
		Faults: []storetest.Fault{
			{Name: "the database has reached its quota", Open: func(t *testing.T, keys *seal.Ring) (tenant.Store, func() func()) {
				s := o.open(t, newFile(t), keys)
				return s, func() func() {
					require.NoError(t, o.db[s].LimitPages(1)) // which means no more than there are
					return func() { require.NoError(t, o.db[s].LimitPages(0)) }
				}
			}},
			{Name: "the disk is full", Open: func(t *testing.T, keys *seal.Ring) (tenant.Store, func() func()) {
				dir := smallDisk(t, "16m")
				s := o.open(t, filepath.Join(dir, "fleet.db"), keys)
				return s, func() func() {
					filler := filepath.Join(dir, "filler")
					f, err := os.Create(filler)
					require.NoError(t, err)
					for err == nil {
						_, err = f.Write(make([]byte, 4096))
					}
					require.NoError(t, f.Close())
					return func() { require.NoError(t, os.Remove(filler)) }
				}
			}},
			{Name: "another program keeps the database locked", Open: func(t *testing.T, keys *seal.Ring) (tenant.Store, func() func()) {
				path := newFile(t)
				db, err := sqlitestore.Open(t.Context(), path, sqlitestore.Config{Keys: keys, BusyTimeout: 10 * time.Millisecond})
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, db.Close()) })
				o.mu.Lock()
				o.path[db.Tenants()], o.db[db.Tenants()] = path, db
				o.mu.Unlock()
				return db.Tenants(), func() func() {
					other, err := sql.Open("sqlite", path+"?_txlock=exclusive&_pragma=busy_timeout(5000)")
					require.NoError(t, err)
					tx, err := other.Begin()
					require.NoError(t, err)
					return func() {
						require.NoError(t, tx.Rollback())
						require.NoError(t, other.Close())
					}
				}
			}},
		},
	})
}

// smallDisk mounts a file system of that size, which takes root.
func smallDisk(t *testing.T, size string) string {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		const hint = "no small file system can be mounted: %v: %s"
		if os.Getenv("CI") != "" {
			t.Fatalf(hint, err, out)
		}
		t.Skipf(hint, err, out)
	}
	t.Cleanup(func() {
		out, err := exec.Command("umount", dir).CombinedOutput()
		require.NoError(t, err, "%s", out)
	})
	return dir
}

// The WAL grows until a thousand pages are in it. On a disk that has no room for
// so many it is emptied when it fills the disk.
func TestAWALThatFillsTheDiskIsEmptied(t *testing.T) {
	db := open(t, filepath.Join(smallDisk(t, "2m"), "fleet.db"), keys(t))
	r := storetest.Record(t, "a", 1)
	r.Metadata = map[string]string{"x": strings.Repeat("x", 200_000)}
	r, err := db.Tenants().Put(t.Context(), r)
	require.NoError(t, err)
	r.Metadata = nil // its pages are free, and the file need not grow
	r, err = db.Tenants().Put(t.Context(), r)
	require.NoError(t, err)
	require.NoError(t, db.Exec("PRAGMA wal_checkpoint(TRUNCATE)"))
	failed := 0
	for n := 0; n < 1000 && failed < 3; n++ {
		next, err := db.Tenants().Put(t.Context(), r)
		if err == nil {
			r = next
			continue
		}
		require.ErrorIs(t, err, errors.StoreUnavailable)
		failed++
		r, err = db.Tenants().Put(t.Context(), r)
		require.NoError(t, err)
	}
	assert.Positive(t, failed, "the disk is too large to test anything")
}

func TestStoreInMemory(t *testing.T) {
	o := &opened{path: map[tenant.Store]string{}, db: map[tenant.Store]*sqlitestore.DB{}}
	storetest.Run(t, storetest.Harness{
		Open:   func(t *testing.T, keys *seal.Ring) tenant.Store { return o.open(t, sqlitestore.Memory, keys) },
		Health: func(s tenant.Store) health.Store { return o.db[s].Health() },
		Usage:  func(s tenant.Store) usage.Store { return o.db[s].Usage() },
	})
}

func TestTenStartsAtOnceMigrateOnce(t *testing.T) {
	for range 5 {
		path := newFile(t)
		ring := keys(t)
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				db, err := sqlitestore.Open(t.Context(), path, sqlitestore.Config{Keys: ring})
				if !assert.NoError(t, err) {
					return
				}
				_, err = db.Tenants().Put(t.Context(), storetest.Record(t, fmt.Sprint("t", i), int64(i+1)))
				assert.NoError(t, err)
				assert.NoError(t, db.Close())
			})
		}
		wg.Wait()
		all, err := open(t, path, ring).Tenants().List(t.Context(), tenant.Filter{})
		require.NoError(t, err)
		assert.Len(t, all, 10)
	}
}

func TestANewerOrForeignDatabaseIsRefused(t *testing.T) {
	path := newFile(t)
	ring := keys(t)
	db := open(t, path, ring)
	require.NoError(t, db.SetVersion(1000))
	_, err := sqlitestore.Open(t.Context(), path, sqlitestore.Config{Keys: ring})
	assert.ErrorIs(t, err, sqlitestore.ErrNewer)
	assert.ErrorContains(t, err, "1000")

	foreign := newFile(t)
	other, err := sql.Open("sqlite", foreign)
	require.NoError(t, err)
	_, err = other.Exec("CREATE TABLE notes (text TEXT)")
	require.NoError(t, err)
	require.NoError(t, other.Close())
	before, err := os.ReadFile(foreign)
	require.NoError(t, err)
	_, err = sqlitestore.Open(t.Context(), foreign, sqlitestore.Config{Keys: ring})
	assert.ErrorContains(t, err, "another program's database")
	after, err := os.ReadFile(foreign)
	require.NoError(t, err)
	assert.Equal(t, before, after, "and left as it is")

	text := newFile(t)
	require.NoError(t, os.WriteFile(text, []byte(strings.Repeat("this is no database\n", 500)), 0o600))
	_, err = sqlitestore.Open(t.Context(), text, sqlitestore.Config{Keys: ring})
	assert.ErrorIs(t, err, errors.Internal)
}

func TestOpenReportsAllThatIsWrong(t *testing.T) {
	_, err := sqlitestore.Open(t.Context(), "", sqlitestore.Config{Readers: -1})
	for _, part := range []string{"path is empty", "Keys is nil", "negative"} {
		assert.ErrorContains(t, err, part)
	}
	_, err = sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "no", "such", "folder", "x.db"), sqlitestore.Config{Keys: keys(t)})
	assert.ErrorIs(t, err, os.ErrNotExist)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = sqlitestore.Open(ctx, newFile(t), sqlitestore.Config{Keys: keys(t)})
	assert.ErrorIs(t, err, errors.Canceled)
}

func TestAnyPathIsThePathOfTheFile(t *testing.T) {
	dir := t.TempDir()
	ring := keys(t)
	for _, name := range []string{"a b.db", "a?mode=memory", "a%20b", "a#b", "file:x", "ä🎉", "a&b=c", "..x", ":memory:x"} {
		path := filepath.Join(dir, name)
		_, err := open(t, path, ring).Tenants().Put(t.Context(), storetest.Record(t, "a", 1))
		require.NoError(t, err, name)
		info, err := os.Stat(path)
		require.NoError(t, err, name)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "only its owner may read it")
		wal, err := os.Stat(path + "-wal")
		require.NoError(t, err, name)
		assert.Equal(t, os.FileMode(0o600), wal.Mode().Perm())
	}
	t.Chdir(dir)
	_, err := open(t, "relative.db", ring).Tenants().Put(t.Context(), storetest.Record(t, "a", 1))
	require.NoError(t, err)
	_, err = os.Stat(filepath.Join(dir, "relative.db"))
	require.NoError(t, err)
}

func TestAClosedDatabaseSaysSo(t *testing.T) {
	db, err := sqlitestore.Open(t.Context(), newFile(t), sqlitestore.Config{Keys: keys(t)})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	require.NoError(t, db.Close())
	_, err = db.Tenants().Get(t.Context(), "a")
	assert.ErrorIs(t, err, errors.Closed)
	_, err = db.Tenants().Put(t.Context(), storetest.Record(t, "a", 1))
	assert.ErrorIs(t, err, errors.Closed)
}

// Whoever misses more changes than are kept is told so.
func TestAWatchThatMissedChangesSaysSo(t *testing.T) {
	db := open(t, newFile(t), keys(t))
	_, err := db.Tenants().Put(t.Context(), storetest.Record(t, "a", 1))
	require.NoError(t, err)
	changes := make(chan tenant.Change)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	go func() { done <- db.Tenants().Watch(ctx, func(c tenant.Change) { changes <- c }) }()
	assert.Equal(t, tenant.Change{}, <-changes)
	// Both in one transaction, or the watch might see the one before the other.
	require.NoError(t, db.Exec(`BEGIN; UPDATE tenants SET version = version + 1;
		UPDATE tenant_changes SET seq = seq + 20000; COMMIT`))
	assert.Equal(t, tenant.Change{}, <-changes)
	cancel()
	for range 3 {
		select {
		case <-changes:
		case err := <-done:
			assert.ErrorIs(t, err, errors.Canceled)
			return
		}
	}
}

// An operator with a shell is heard like a replica is.
func TestAChangeByHandIsSeen(t *testing.T) {
	db := open(t, newFile(t), keys(t))
	_, err := db.Tenants().Put(t.Context(), storetest.Record(t, "a", 1))
	require.NoError(t, err)
	changes := make(chan tenant.Change, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- db.Tenants().Watch(ctx, func(c tenant.Change) { changes <- c }) }()
	assert.Equal(t, tenant.Change{}, <-changes)
	require.NoError(t, db.Exec("UPDATE tenants SET status = 'suspended', version = version + 1 WHERE id = 'a'"))
	assert.Equal(t, tenant.Change{ID: "a", Version: 2, Status: tenant.Suspended}, <-changes)
	cancel()
	assert.ErrorIs(t, <-done, errors.Canceled)

	// What is not understood is not taken for active.
	require.NoError(t, db.Exec("UPDATE tenants SET status = 'fine', version = version + 1 WHERE id = 'a'"))
	r, err := db.Tenants().Get(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, tenant.Suspended, r.Status)
}

func TestARowOfAnotherTenantDoesNotOpen(t *testing.T) {
	db := open(t, newFile(t), keys(t))
	for i, id := range []string{"a", "b"} {
		_, err := db.Tenants().Put(t.Context(), storetest.Record(t, id, int64(i+1)))
		require.NoError(t, err)
	}
	require.NoError(t, db.Exec("UPDATE tenants SET token = (SELECT token FROM tenants WHERE id = 'a') WHERE id = 'b'"))
	r, err := db.Tenants().Get(t.Context(), "b")
	require.NoError(t, err)
	assert.ErrorIs(t, r.TokenErr, seal.ErrAltered)
	assert.True(t, r.Token.IsZero())
}

// A newer version of the code may know more than this one.
func TestARowThatIsNotUnderstoodHidesNoOther(t *testing.T) {
	db := open(t, newFile(t), keys(t))
	storetest.NotUnderstood(t, db.Tenants(), func(set string) {
		require.NoError(t, db.Exec("UPDATE tenants SET "+set))
	})
}
