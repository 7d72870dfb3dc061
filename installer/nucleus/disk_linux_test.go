package nucleus_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/nucleus"
)

// smallDisk mounts a file system of the given size for t, or skips t.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("needs to mount a file system: %v", err)
	}
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

func TestADiskThatIsFullOrReadOnlyLeavesNoHalfVersion(t *testing.T) {
	entries := append(program(), entry{name: "big", body: string(make([]byte, 300<<10)), mode: 0o644})
	b := tarGz(t, entries...)
	name := filepath.Join(t.TempDir(), "a.tar.gz")
	require.NoError(t, os.WriteFile(name, b, 0o600))
	v := nucleus.Version{Name: "ggfleet.SimulatedNucleus", Version: "1.0.0", Digest: digest(b)}
	m, err := inspect(t, b, "")
	require.NoError(t, err)
	o := nucleus.Options{Archive: name, Format: "tar.gz"}

	dir := smallDisk(t, "size=400k")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 200<<10), 0o600))
	s, err := nucleus.OpenSite(dir, nucleus.Limits{})
	require.NoError(t, err)
	defer s.Close()
	p, change, err := s.Plan(v, m, o, nucleus.NewHost())
	require.NoError(t, err)
	require.ErrorIs(t, p.Run(t.Context(), nil), syscall.ENOSPC)
	_, err = s.Manifest(v)
	require.ErrorIs(t, err, os.ErrNotExist)
	left, err := filepath.Glob(filepath.Join(dir, "versions/*"))
	require.NoError(t, err)
	assert.Empty(t, left, "what was unpacked makes room again")

	require.NoError(t, os.Remove(filepath.Join(dir, "filler")))
	require.NoError(t, p.Run(t.Context(), nil), "with room it goes on")
	require.NoError(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	require.ErrorIs(t, nucleus.Plan{change}.Run(t.Context(), nil), syscall.EROFS)
	require.NoError(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT, ""))
	require.NoError(t, nucleus.Plan{change}.Run(t.Context(), nil))
	assert.Equal(t, v.Dir(), current(t, s))
}
