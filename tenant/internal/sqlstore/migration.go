package sqlstore

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/tgfleet/tgfleet/errors"
)

// ErrNewer says that a database was migrated by a newer version of the code.
var ErrNewer = errors.New("the database is newer than this version of the code")

// Migration is one step from a version of a database to the next.
type Migration struct {
	Version int
	Name    string
	SQL     string
}

// Migrations reads the files of a directory, "0001_tenants.sql", "0002_...".
// Their numbers begin at 1 and have no gaps.
func Migrations(files fs.FS, dir string) ([]Migration, error) {
	entries, err := fs.ReadDir(files, dir) // sorted by name
	if err != nil {
		return nil, err
	}
	var all []Migration
	for _, e := range entries {
		number, name, ok := strings.Cut(strings.TrimSuffix(e.Name(), ".sql"), "_")
		version, err := strconv.Atoi(number)
		if !ok || err != nil || len(number) != 4 || !strings.HasSuffix(e.Name(), ".sql") {
			return nil, fmt.Errorf("migration %q is not named like 0001_name.sql", e.Name())
		}
		if version != len(all)+1 {
			return nil, fmt.Errorf("migration %q follows number %d", e.Name(), len(all))
		}
		sql, err := fs.ReadFile(files, path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		all = append(all, Migration{version, name, string(sql)})
	}
	return all, nil
}

// Pending returns the migrations that a database of that version lacks.
func Pending(all []Migration, version int) ([]Migration, error) {
	if version > len(all) {
		return nil, fmt.Errorf("%w: it has version %d and the code knows %d", ErrNewer, version, len(all))
	}
	if version < 0 {
		return nil, fmt.Errorf("database version %d", version)
	}
	return all[version:], nil
}
