package sqlitestore_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/sqlitestore"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

func files(t *testing.T, path string) []string {
	all, err := filepath.Glob(path + "*")
	require.NoError(t, err)
	return all
}

// Two services work on one file, while it is backed up again and again.
func TestTwoServicesShareAFile(t *testing.T) {
	path, ring := newFile(t), keys(t)
	dbs := []*sqlitestore.DB{open(t, path, ring), open(t, path, ring)}
	const n = 40
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	heard := make(chan tenant.Change, 10*n)
	watched := make(chan error, 2)
	for _, db := range dbs {
		go func() { watched <- db.Tenants().Watch(ctx, func(c tenant.Change) { heard <- c }) }()
	}
	for range dbs {
		require.Equal(t, tenant.Change{}, <-heard)
	}

	var work, copying sync.WaitGroup
	var handled sync.Map
	var count atomic.Int64
	for i, db := range dbs {
		work.Go(func() {
			for k := range n {
				id := fmt.Sprint(i, "/", k)
				_, err := db.Tenants().Put(ctx, storetest.Record(t, id, int64(1000*i+k+1)))
				assert.NoError(t, err)
				_, err = db.Inbox().Put(ctx, []inbox.Update{message("a", fmt.Sprint(k%7), int64(1000*i+k+1))})
				assert.NoError(t, err)
			}
		})
		work.Go(func() {
			for count.Load() < 2*n && ctx.Err() == nil {
				leases, err := db.Inbox().Lease(ctx, inbox.Want{Limit: 3, TTL: time.Hour})
				if !assert.NoError(t, err) {
					return
				}
				for _, l := range leases {
					_, twice := handled.LoadOrStore(l.ID, true)
					assert.False(t, twice, "%d was lent twice", l.ID)
					held, err := db.Inbox().Settle(ctx, []inbox.Settlement{{Lease: l, Verdict: inbox.Done}})
					assert.NoError(t, err)
					assert.Equal(t, []bool{true}, held)
					count.Add(1)
				}
			}
		})
	}
	done := make(chan struct{})
	var last string
	copying.Go(func() {
		for k := 0; ; k++ {
			last = filepath.Join(filepath.Dir(path), fmt.Sprint("copy", k))
			if !assert.NoError(t, dbs[k%2].Backup(t.Context(), last)) {
				return
			}
			select {
			case <-done: // the last copy was begun after all had been done
				return
			default:
			}
			if k > 0 && k < 3 {
				copied := open(t, last, ring)
				var check string
				assert.NoError(t, copied.Scan("PRAGMA integrity_check", &check))
				assert.Equal(t, "ok", check)
			}
		}
	})
	work.Wait()
	seen := map[string]int{}
	for range 2 * 2 * n { // each hears of all
		c := <-heard
		seen[c.ID]++
	}
	assert.Len(t, seen, 2*n)
	cancel()
	for range dbs {
		assert.ErrorIs(t, <-watched, errors.Canceled)
	}
	close(done)
	copying.Wait()

	final := filepath.Join(filepath.Dir(path), "final")
	require.NoError(t, dbs[0].Backup(t.Context(), final))
	info, err := os.Stat(final)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "updates are in the clear")
	all, err := open(t, final, ring).Tenants().List(t.Context(), tenant.Filter{Limit: 1000})
	require.NoError(t, err)
	require.Len(t, all, 2*n)
	for _, r := range all {
		assert.NoError(t, r.TokenErr)
	}
	for _, db := range dbs {
		require.NoError(t, db.Close())
	}
	assert.Equal(t, []string{path}, files(t, path), "journals are gone")
}

// Who leaves after Close has left nothing undone.
func TestCloseWaitsForChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, ring := newFile(t), keys(t)
		db, err := sqlitestore.Open(t.Context(), path, sqlitestore.Config{Keys: ring})
		require.NoError(t, err)
		committing, committed := make(chan struct{}), atomic.Bool{}
		db.OnCommit(func(tx *sql.Tx) error {
			close(committing)
			time.Sleep(time.Second) // until Close waits
			defer committed.Store(true)
			return tx.Commit()
		})
		done := make(chan error)
		go func() {
			_, err := db.Tenants().Put(t.Context(), storetest.Record(t, "a", 1))
			done <- err
		}()
		<-committing
		require.NoError(t, db.Close())
		assert.True(t, committed.Load())
		require.NoError(t, <-done)
		assert.Equal(t, []string{path}, files(t, path))
		assert.ErrorIs(t, db.Tenants().SetHealth(t.Context(), map[string]string{"a": "up"}), errors.Closed)
	})
}

func TestABackupThatFailsLeavesNoFile(t *testing.T) {
	db := open(t, newFile(t), keys(t))
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	require.NoError(t, os.WriteFile(there, []byte("keep"), 0o600))
	assert.ErrorIs(t, db.Backup(t.Context(), there), os.ErrExist)
	kept, err := os.ReadFile(there)
	require.NoError(t, err)
	assert.Equal(t, "keep", string(kept))
	assert.ErrorIs(t, db.Backup(t.Context(), filepath.Join(dir, "no", "folder")), fs.ErrNotExist)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, db.Backup(ctx, filepath.Join(dir, "new")), errors.Canceled)
	assert.Equal(t, []string{there}, files(t, dir+"/"))
}

// A process that is killed leaves no file that could be taken for a copy: an
// empty one would be opened as a database of no tenants.
func TestABackupIsThereOnceItIsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := sqlitestore.Open(t.Context(), sqlitestore.Memory, sqlitestore.Config{Keys: keys(t)})
		require.NoError(t, err)
		dir := t.TempDir()
		path := filepath.Join(dir, "copy")
		done := make(chan error)
		require.NoError(t, db.Change(t.Context(), func(*sql.Tx) error { // on the one connection
			go func() { done <- db.Backup(t.Context(), path) }()
			synctest.Wait()
			assert.Len(t, files(t, dir+"/"), 1, "it has begun")
			assert.NoFileExists(t, path)
			return nil
		}))
		require.NoError(t, <-done)
		assert.Equal(t, []string{path}, files(t, dir+"/"))
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
		require.NoError(t, db.Close())
	})
}

func TestCloseWaitsForABackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, err := sqlitestore.Open(t.Context(), sqlitestore.Memory, sqlitestore.Config{Keys: keys(t)})
		require.NoError(t, err)
		dir := t.TempDir()
		path := filepath.Join(dir, "copy")
		done := make(chan error, 1)
		closed := make(chan []string)
		require.NoError(t, db.Change(t.Context(), func(*sql.Tx) error { // on the one connection
			go func() { done <- db.Backup(t.Context(), path) }()
			synctest.Wait()
			go func() {
				assert.NoError(t, db.Close())
				closed <- files(t, dir+"/")
			}()
			synctest.Wait()
			return nil
		}))
		assert.Equal(t, []string{path}, <-closed, "the copy, whole, and nothing beside it")
		require.NoError(t, <-done)
		assert.ErrorIs(t, db.Backup(t.Context(), filepath.Join(dir, "late")), errors.Closed)
		assert.Equal(t, []string{path}, files(t, dir+"/"))
	})
}

func TestABackupGoesWhereItIsTold(t *testing.T) {
	dir := t.TempDir()
	db := open(t, newFile(t), keys(t))
	t.Chdir(dir)
	for _, name := range []string{"file:x", "a?mode=memory", "ä b%20"} {
		require.NoError(t, db.Backup(t.Context(), name))
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Positive(t, info.Size(), name)
	}
	memory := open(t, sqlitestore.Memory, keys(t))
	require.NoError(t, memory.Backup(t.Context(), filepath.Join(dir, "memory")))
}

// What can't be a database is refused with the reason.
func TestAFileThatCantBeWrittenIsRefused(t *testing.T) {
	ring := keys(t)
	dir := smallDisk(t, "4m")
	path := filepath.Join(dir, "fleet.db")
	require.NoError(t, open(t, path, ring).Close())
	within := filepath.Join(dir, "mounted.db")
	require.NoError(t, os.WriteFile(within, nil, 0o600))
	run := func(args ...string) {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	run("mount", "-o", "remount,ro", dir)
	writable := newFile(t)
	require.NoError(t, os.WriteFile(writable, nil, 0o600))
	run("mount", "--bind", writable, within)
	defer run("umount", within)
	for what, row := range map[string]struct{ path, want string }{
		"a file that can't be written":      {path, "must be a file that can be written"},
		"a directory that can't be written": {within, "in a directory that can"},
		"a new file that can't be made":     {filepath.Join(dir, "new.db"), "read-only file system"},
		"no directory":                      {filepath.Join(dir, "no", "new.db"), "no such file or directory"},
		"a directory":                       {t.TempDir(), "must be a file"},
	} {
		_, err := sqlitestore.Open(t.Context(), row.path, sqlitestore.Config{Keys: ring})
		require.Error(t, err, what)
		assert.ErrorContains(t, err, row.want, what)
		assert.ErrorContains(t, err, row.path, what)
	}
}

func TestALinkToNothingYetIsFollowed(t *testing.T) {
	target, link := newFile(t), filepath.Join(t.TempDir(), "link.db")
	require.NoError(t, os.Symlink(target, link))
	open(t, link, keys(t))
	info, err := os.Stat(target)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

// A page of the file is damaged, as by a disk that forgets.
func TestARowThatCantBeReadHidesNoOther(t *testing.T) {
	path, ring := newFile(t), keys(t)
	db := open(t, path, ring)
	storetest.Unreadable(t, db.Tenants(), func(id string) {
		require.NoError(t, db.Exec("PRAGMA wal_checkpoint(TRUNCATE)"))
		file, err := os.ReadFile(path)
		require.NoError(t, err)
		const page = 4096
		number := strings.TrimPrefix(id, "tenant-")
		at := bytes.Index(file, []byte(strings.Repeat("0", 1000)+number+`"}`))
		require.Positive(t, at, "where its metadata ends")
		// The page before that one, of its own: it begins with the next one's
		// number, which now is none of the file's.
		at = at/page*page - page
		require.Equal(t, strings.Repeat("0", 100), string(file[at+4:at+104]))
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte{0x7f, 0xff, 0xff, 0xff}, int64(at))
		require.NoError(t, errors.Join(err, f.Close()))
	})
}
