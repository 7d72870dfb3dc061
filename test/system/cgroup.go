package system

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// cgroups makes control groups for one machine, below those of this process, and
// returns their folders: machines in the same group would take each other's
// services for their own. They are removed with the test.
func cgroups(t testing.TB) (dirs []string) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	const top = "/sys/fs/cgroup"
	name := "ggfleet-machine-" + rand.Text() // the same in all hierarchies, as nspawn wants it
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		require.Len(t, f, 3, line)
		var mount string
		switch {
		case f[1] == "name=systemd":
			mount = filepath.Join(top, "systemd")
		case f[0] == "0" && exists(filepath.Join(top, "cgroup.procs")):
			mount = top
		case f[0] == "0" && exists(filepath.Join(top, "unified")):
			mount = filepath.Join(top, "unified")
		default:
			continue
		}
		dir := filepath.Join(mount, f[2], name)
		require.NoError(t, os.Mkdir(dir, 0o755))
		t.Cleanup(func() { removeCgroup(t, dir) })
		dirs = append(dirs, dir)
	}
	require.NotEmpty(t, dirs, "no control groups for systemd are mounted here")
	return dirs
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// removeCgroup removes a group with those below it. The kernel may need a moment
// to see that they are empty.
func removeCgroup(t testing.TB, dir string) {
	t.Helper()
	require.Eventually(t, func() bool {
		var all []string
		_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				all = append(all, p)
			}
			return nil
		})
		var left error
		for _, d := range slices.Backward(all) {
			if err := os.Remove(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
				left = err
			}
		}
		return left == nil
	}, 2*time.Minute, 100*time.Millisecond, "the control group %s is not empty", dir)
}
