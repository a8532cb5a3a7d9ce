//go:build unix

package sqlitestore_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/storetest"
)

func beLooker(path string) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		// The bytes on which SQLite has its shared lock, by the file format.
		lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: 0x40000002, Len: 510}
		err = syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &lock)
		fmt.Print(lock.Type != syscall.F_UNLCK)
	}
	if err != nil {
		fmt.Print(err)
	}
}

// The last program that closes a database removes its journal, in which one
// that is not seen would write on.
func TestOpeningADatabaseTwiceKeepsItsLock(t *testing.T) {
	path, ring := newFile(t), keys(t)
	inUse := func() string {
		look := exec.Command(os.Args[0])
		look.Env = append(os.Environ(), lookerAt+"="+path)
		out, err := look.CombinedOutput()
		require.NoError(t, err)
		return string(out)
	}
	db := open(t, path, ring)
	assert.Equal(t, "true", inUse())
	second := open(t, path, ring)
	assert.Equal(t, "true", inUse())
	_, err := second.Tenants().Put(t.Context(), storetest.Record(t, "a", 1))
	require.NoError(t, err)
	require.NoError(t, second.Close())
	assert.Equal(t, "true", inUse())
	assert.Len(t, files(t, path), 3, "database, journal and its index")
	_, err = db.Tenants().Put(t.Context(), storetest.Record(t, "b", 2))
	require.NoError(t, err)
	require.NoError(t, db.Close())
	assert.Equal(t, "false", inUse())
	assert.Equal(t, []string{path}, files(t, path), "the last one cleans up")

	all, err := open(t, path, ring).Tenants().List(t.Context(), tenant.Filter{})
	require.NoError(t, err)
	assert.Len(t, all, 2)
}
