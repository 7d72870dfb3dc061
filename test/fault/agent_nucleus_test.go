package fault_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

func TestANucleusThatMisbehavesCostsTheDeviceNothing(t *testing.T) {
	t.Parallel()
	w := world.Start(t, world.Options{})
	w.CreateCores(t, "bad")
	offer(t, w, "1.0.0", worksFine, 10)
	d := enrolled(t, w, "bad", "")
	d.runs("1.0.0")

	// One that ends at once is left for the one before, which is not tried again.
	offer(t, w, "2.0.0", endsSoon, 10)
	d.waitFor("gone back", func(s agentView) bool {
		return s.Nucleus.State == "running" && s.Nucleus.Version == "1.0.0" && strings.Contains(s.Nucleus.LastError, "2.0.0 failed and 1.0.0 runs again")
	})
	pid := d.oneNucleus()
	wait(t, 2*time.Second)
	assert.Equal(t, pid, d.oneNucleus(), "it is not tried again")

	// One that leaves processes outside its group: they end with it.
	offer(t, w, "3.0.0", "#!/bin/sh\ncd \"$2\"\nsetsid sh -c 'echo $$ > left; exec sleep 1000' &\nsleep 0.2\n"+strings.TrimPrefix(worksFine, "#!/bin/sh\n"), 10)
	d.shows("3.0.0")
	left := d.pidIn("left")
	require.NoError(t, syscall.Kill(left, 0))
	pid = d.leader()
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL)) // as the kernel does when memory is out
	world.Eventually(t, func() string {
		if now := d.pidIn("left"); now == 0 || now == left || !gone(left) {
			return fmt.Sprintf("what the nucleus left still runs: %d, now %d", left, now)
		}
		return ""
	})
	d.shows("3.0.0")
	d.waitFor("its end is counted", func(s agentView) bool { return s.Nucleus.Restarts > 0 })

	// One that fills its log.
	offer(t, w, "4.0.0", strings.Replace(worksFine, "sleep 1", "yes nonsense | head -c 20000000; sleep 1", 1), 10)
	d.runs("4.0.0")
	world.Eventually(t, func() string {
		info, err := os.Stat(filepath.Join(d.root, "logs", "nucleus.log.1"))
		if err != nil || info.Size() == 0 {
			return "there is no older log"
		}
		assert.LessOrEqual(t, info.Size(), int64(6<<20), "the older log")
		return ""
	})

	// One that ignores SIGTERM is replaced all the same.
	offer(t, w, "5.0.0", strings.Replace(worksFine, "trap 'exit 0' TERM", "trap '' TERM", 1), 10)
	d.runs("5.0.0")
	offer(t, w, "6.0.0", worksFine, 10)
	d.runs("6.0.0")
	d.stop()
	assert.Empty(t, d.nuclei())
	d.clean()
}

// pidIn reads a process id from a file of the root; 0 when there is none.
func (d *device) pidIn(name string) (pid int) {
	b, _ := os.ReadFile(filepath.Join(d.root, name))
	_, _ = fmt.Sscan(string(b), &pid)
	return pid
}

// gone reports whether a process has ended, be it reaped or not.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// leader is the process of the nucleus that the agent tells.
func (d *device) leader() (pid int) {
	d.t.Helper()
	out := d.must("status")
	_, after, ok := strings.Cut(out, "running, pid ")
	require.True(d.t, ok, out)
	_, _ = fmt.Sscan(after, &pid)
	return pid
}

// shows is runs for a nucleus of more than one process group.
func (d *device) shows(version string) {
	d.t.Helper()
	d.waitFor(version+" runs", func(s agentView) bool { return s.Nucleus.State == "running" && s.Nucleus.Version == version })
}
