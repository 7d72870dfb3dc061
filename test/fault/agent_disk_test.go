package fault_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// smallDisk mounts a file system of so many bytes of memory.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a file system of its own needs root to be mounted")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("a file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// fill takes all room of the disk but for so many bytes, and returns what gives
// it back.
func fill(t *testing.T, disk string, but int64) (free func()) {
	t.Helper()
	name := filepath.Join(disk, "fill")
	var fs syscall.Statfs_t
	require.NoError(t, syscall.Statfs(disk, &fs))
	size := int64(fs.Bavail)*fs.Bsize - but
	f, err := os.Create(name)
	require.NoError(t, err)
	b := make([]byte, 64<<10)
	for size > 0 {
		n, err := f.Write(b[:min(int64(len(b)), size)])
		if err != nil {
			break
		}
		size -= int64(n)
	}
	_ = f.Close()
	return func() { require.NoError(t, os.Remove(name)) }
}

func TestAFullDiskDuringEnrolmentCostsNoIdentity(t *testing.T) {
	t.Parallel()
	w := world.Start(t, world.Options{})
	w.CreateCores(t, "full")
	disk := smallDisk(t, 1<<20)
	d := newDevice(t, w, "full", filepath.Join(disk, "root"))
	for _, left := range []int64{0, 4 << 10, 8 << 10, 12 << 10, 16 << 10, 20 << 10} {
		free := fill(t, disk, left)
		out, err := d.run("enroll", "-")
		free()
		if err != nil {
			assert.Contains(t, out, "no space left on device", "%d bytes", left)
		}
		t.Logf("%d bytes left: %s", left, strings.TrimSpace(out))
	}
	out := d.must("enroll", "-")
	assert.Contains(t, out, "enrolled as full:agent")
	assert.Contains(t, d.must("enroll", "-"), "already enrolled")
	d.clean()
	assert.NoFileExists(t, filepath.Join(d.root, "agent", "enroll.json"), "the secrets of the enrolment are gone")
}

func TestAFullDiskStopsNoNucleus(t *testing.T) {
	t.Parallel()
	w := world.Start(t, world.Options{})
	w.CreateCores(t, "full")
	offer(t, w, "1.0.0", worksFine, 300<<10)
	disk := smallDisk(t, 4<<20)
	d := enrolled(t, w, "full", filepath.Join(disk, "root"))
	d.runs("1.0.0")
	pid := d.oneNucleus()

	// While the next version is fetched, and while it is unpacked.
	version := "1.0.0"
	for i, left := range []int64{0, 300 << 10} {
		free := fill(t, disk, left)
		next := fmt.Sprintf("2.0.%d", i)
		offer(t, w, next, worksFine, 600<<10)
		d.waitFor("it says that the disk is full", func(s agentView) bool {
			return strings.Contains(s.Nucleus.LastError, "no space left") && s.Nucleus.State == "running" && s.Nucleus.Version == version
		})
		assert.Equal(t, pid, d.oneNucleus(), "the nucleus has not noticed")
		if left == 0 {
			d.waitFor("warned", func(s agentView) bool { return slices.Contains(s.Warnings, "lowDisk") })
		}
		free()
		d.runs(next) // soon, not in a quarter of an hour
		version, pid = next, d.oneNucleus()
	}

	// The nucleus ends while there is no room at all: it is started again.
	free := fill(t, disk, 0)
	require.NoError(t, syscall.Kill(-pid, syscall.SIGKILL))
	world.Eventually(t, func() string {
		if now := d.oneNucleus(); now != 0 && now != pid {
			return ""
		}
		return "the nucleus is not started again on a full disk"
	})
	d.runs(version)
	// So it is by an agent that is started on a full disk.
	pid = d.oneNucleus()
	d.kill9()
	d.start()
	d.runs(version)
	assert.Equal(t, pid, d.oneNucleus(), "taken up, not started beside it")
	d.stop()
	assert.Empty(t, d.nuclei())
	d.start()
	d.runs(version)
	free()
	d.kill9()
	d.start()
	d.runs(version)
	d.clean()
}

// brittleDisk is a file system that can fail: then it is read-only under everything
// that works on it, until it is mounted again.
func brittleDisk(t *testing.T) (dir string, fail, mount func()) {
	t.Helper()
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil || os.Getuid() != 0 {
		t.Skip("a file system that fails needs root and mkfs.ext4")
	}
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, 16<<20))
	out, err := exec.CommandContext(t.Context(), mkfs, "-q", image).CombinedOutput()
	require.NoError(t, err, "%s", out)
	mount = func() {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
			t.Skipf("a file system cannot be mounted here: %s", out)
		}
	}
	mount()
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir, func() {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "mount", "-o", "remount,abort", dir).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.ErrorIs(t, os.WriteFile(filepath.Join(dir, "probe"), nil, 0o600), syscall.EROFS)
	}, mount
}

func TestADiskThatFailsStopsNoNucleus(t *testing.T) {
	t.Parallel()
	disk, fail, mount := brittleDisk(t)
	w := world.Start(t, world.Options{})
	w.CreateCores(t, "brittle")
	offer(t, w, "1.0.0", worksFine, 1<<10)
	d := enrolled(t, w, "brittle", filepath.Join(disk, "root"))
	t.Cleanup(d.end) // before the disk goes
	d.runs("1.0.0")
	pid := d.oneNucleus()
	fail()
	offer(t, w, "2.0.0", worksFine, 1<<10)
	d.waitFor("it says so", func(s agentView) bool {
		return strings.Contains(s.Nucleus.LastError, "read-only file system") && s.Nucleus.State == "running" && s.Nucleus.Version == "1.0.0"
	})
	assert.Equal(t, pid, d.oneNucleus(), "the nucleus has not noticed")

	// The nucleus ends, and then the agent; both come back.
	require.NoError(t, syscall.Kill(-pid, syscall.SIGKILL))
	world.Eventually(t, func() string {
		if now := d.oneNucleus(); now != 0 && now != pid {
			return ""
		}
		return "the nucleus is not started again"
	})
	pid = d.oneNucleus()
	d.kill9()
	d.start()
	d.runs("1.0.0")
	assert.Equal(t, pid, d.oneNucleus(), "taken up, not started beside it")
	d.stop()
	d.start()
	d.runs("1.0.0")

	// A device that is started anew, its disk mended.
	d.stop()
	world.Eventually(t, func() string {
		if err := syscall.Unmount(disk, 0); err != nil {
			return err.Error()
		}
		return ""
	})
	mount()
	d.start()
	d.runs("2.0.0")
	d.clean()
}
