package sqlstore

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMigrationsAreNumberedWithoutGaps(t *testing.T) {
	files := func(names ...string) fstest.MapFS {
		m := fstest.MapFS{}
		for _, n := range names {
			m["m/"+n] = &fstest.MapFile{Data: []byte(n)}
		}
		return m
	}
	all, err := Migrations(files("0001_a.sql", "0002_b_c.sql"), "m")
	require.NoError(t, err)
	assert.Equal(t, []Migration{{1, "a", "0001_a.sql"}, {2, "b_c", "0002_b_c.sql"}}, all)
	for name, bad := range map[string]fstest.MapFS{
		"a gap":            files("0001_a.sql", "0003_b.sql"),
		"two of a number":  files("0001_a.sql", "0001_b.sql"),
		"no number":        files("a.sql"),
		"a short number":   files("1_a.sql"),
		"another file":     files("0001_a.sql", "0002_b.txt"),
		"none that begins": files("0002_a.sql"),
	} {
		_, err := Migrations(bad, "m")
		assert.Error(t, err, name)
	}

	pending, err := Pending(all, 1)
	require.NoError(t, err)
	assert.Equal(t, all[1:], pending)
	pending, err = Pending(all, 2)
	require.NoError(t, err)
	assert.Empty(t, pending)
	_, err = Pending(all, 3)
	assert.ErrorIs(t, err, ErrNewer)
	_, err = Pending(all, -1)
	assert.Error(t, err)
}
