package durable_test

import (
	"io/fs"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/durable"
)

func open(t *testing.T) *os.Root {
	t.Helper()
	r, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestWriteFileReplacesAndLeavesNothingBeside(t *testing.T) {
	r := open(t)
	require.NoError(t, durable.WriteFile(r, "a", []byte("one"), 0o644))
	require.NoError(t, durable.WriteFile(r, "a", []byte("two"), 0o600))
	b, err := r.ReadFile("a")
	require.NoError(t, err)
	assert.Equal(t, "two", string(b))
	info, err := r.Stat("a")
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	list, err := fs.ReadDir(r.FS(), ".")
	require.NoError(t, err)
	assert.Len(t, list, 1)
}

func TestAFailedWriteKeepsTheOldFileAndSaysSo(t *testing.T) {
	r := open(t)
	require.NoError(t, r.Mkdir("dir", 0o755))
	err := durable.WriteFile(r, "dir", []byte("x"), 0o644) // a folder is in the way
	require.ErrorContains(t, err, "writing dir")
	require.ErrorContains(t, durable.WriteFile(r, "no/such/folder", nil, 0o644), "no/such/folder")
	require.Error(t, durable.WriteFile(r, "../out", nil, 0o644))
	list, err := fs.ReadDir(r.FS(), ".")
	require.NoError(t, err)
	assert.Len(t, list, 1, "the temporary file is gone")
}

func TestSymlinkSwitchesAndSweepClears(t *testing.T) {
	r := open(t)
	require.NoError(t, durable.Symlink(r, "v1", "current"))
	require.NoError(t, durable.Symlink(r, "v2", "current"))
	got, err := r.Readlink("current")
	require.NoError(t, err)
	assert.Equal(t, "v2", got)

	require.NoError(t, r.Mkdir(durable.TempName("x"), 0o755))
	require.NoError(t, durable.Sweep(r, "."))
	require.NoError(t, durable.Sweep(r, "missing"))
	list, err := fs.ReadDir(r.FS(), ".")
	require.NoError(t, err)
	assert.Len(t, list, 1)
}
