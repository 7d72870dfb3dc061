package fault_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// wayOut is what an agent says that cannot heal a file by itself: it only keeps the
// nucleus running.
var wayOut = map[string]string{"agent/key.pem": "enrol again"}

// restarts are files of the agent without which the nucleus is started again.
var restarts = map[string]bool{"agent/install.json": true}

// files are the regular files of the device, but for logs and the lock.
func (d *device) files() (out []string) {
	d.t.Helper()
	require.NoError(d.t, filepath.WalkDir(d.root, func(p string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(d.root, p)
		if err == nil && e.Type().IsRegular() && !strings.HasPrefix(rel, "logs/") && rel != "agent/lock" && rel != "ready" {
			out = append(out, rel)
		}
		return err
	}))
	slices.Sort(out)
	return out
}

func TestAnyFileOfTheAgentMayBeLostOrGarbage(t *testing.T) {
	t.Parallel()
	w := world.Start(t, world.Options{})
	w.CreateCores(t, "files")
	offer(t, w, "1.0.0", worksFine, 10)
	d := enrolled(t, w, "files", "")
	d.runs("1.0.0")
	for _, name := range d.files() {
		for _, how := range []string{"lost", "garbage", "empty"} {
			if how == "empty" && !full() {
				continue
			}
			t.Run(name+" is "+how, func(t *testing.T) {
				d.t = t
				defer func() {
					if t.Failed() {
						b := d.said()
						t.Logf("the agent's log: %s", b[max(0, len(b)-3000):])
					}
				}()
				pid := d.oneNucleus()
				d.kill9()
				path := filepath.Join(d.root, name)
				before, err := os.ReadFile(path)
				if os.IsNotExist(err) {
					d.start()
					return // it comes and goes
				}
				require.NoError(t, err)
				info, err := os.Stat(path)
				require.NoError(t, err)
				switch how {
				case "lost":
					require.NoError(t, os.Remove(path))
				case "garbage":
					require.NoError(t, os.WriteFile(path, []byte("\x00\xff garbage {"), info.Mode()))
				case "empty":
					require.NoError(t, os.Truncate(path, 0))
				}
				said := len(d.said())
				d.start()
				if hint, ok := wayOut[name]; ok {
					pid = d.keepsNucleus(pid, said, hint)
					d.kill9()
					require.NoError(t, os.WriteFile(path, before, info.Mode()))
					d.start()
				}
				d.connectedAgain()
				d.runs("1.0.0")
				if strings.HasPrefix(name, "agent/") && !restarts[name] {
					assert.Equal(t, pid, d.oneNucleus(), "the nucleus has not noticed")
				}
				if strings.HasSuffix(name, "/bin/nucleus") && how == "garbage" {
					// What runs does not notice; when it ends, it could not be started again.
					require.NoError(t, syscall.Kill(-pid, syscall.SIGKILL))
					world.Eventually(t, func() string {
						if now := d.oneNucleus(); now != 0 && now != pid && strings.Contains(d.said()[said:], "files of the nucleus are damaged, it is fetched again") {
							return ""
						}
						return "the damaged nucleus is not fetched again"
					})
					d.runs("1.0.0")
				}
				if strings.HasSuffix(name, "/bin/nucleus") && how != "garbage" {
					world.Eventually(t, func() string {
						if info, err := os.Stat(path); err != nil || info.Size() == 0 {
							return "the program of the nucleus is not there"
						}
						return ""
					})
					d.runs("1.0.0")
				}
				if name == "agent/install.json" { // it is installed anew
					world.Eventually(t, func() string {
						if strings.Contains(d.said()[said:], "nucleus installed") {
							return ""
						}
						return "it is not installed anew"
					})
					d.runs("1.0.0")
				}
			})
		}
	}
	d.t = t
}

// keepsNucleus waits until the agent has said what it cannot heal, and shows that the
// nucleus, which is pid, goes on and is started again when it ends.
func (d *device) keepsNucleus(pid, said int, hint string) int {
	d.t.Helper()
	world.Eventually(d.t, func() string {
		if strings.Contains(d.said()[said:], hint) {
			return ""
		}
		return "it does not say that it cannot work"
	})
	assert.Equal(d.t, pid, d.oneNucleus(), "the nucleus goes on")
	require.NoError(d.t, syscall.Kill(-pid, syscall.SIGKILL))
	var now int
	world.Eventually(d.t, func() string {
		if now = d.oneNucleus(); now != 0 && now != pid {
			return ""
		}
		return "the nucleus is not started again"
	})
	return now
}

// connectedAgain waits until the device's agent of now has connected.
func (d *device) connectedAgain() {
	d.t.Helper()
	world.Eventually(d.t, func() string {
		if s, _ := d.shown(); s.Connected && s.LastReport.After(d.began) {
			return ""
		}
		return "the agent has not reported"
	})
}

func TestIdentityAndCopyMayBeGarbageAndTheNucleusRuns(t *testing.T) {
	t.Parallel()
	w := world.Start(t, world.Options{})
	w.CreateCores(t, "twice")
	offer(t, w, "1.0.0", worksFine, 10)
	d := enrolled(t, w, "twice", "")
	d.runs("1.0.0")
	d.stop()
	for _, name := range []string{"identity.json", "identity.json.copy"} {
		require.NoError(t, os.WriteFile(filepath.Join(d.root, "agent", name), []byte("\x00 garbage"), 0o600))
	}
	d.start()
	var pid int
	world.Eventually(t, func() string {
		if pid = d.oneNucleus(); pid != 0 {
			return ""
		}
		return "the nucleus is not started"
	})
	pid = d.keepsNucleus(pid, 0, "enrol again")
	out, err := d.run("status")
	require.Error(t, err)
	assert.Contains(t, out, "identity.json is damaged")
	assert.Contains(t, out, fmt.Sprintf("running, pid %d)", pid))

	// The way out, as it says.
	d.stop()
	d.must("enroll", "-")
	d.start()
	d.runs("1.0.0")
	d.clean()
}

func TestTwoAgentsOnOneRootAndARootThatMoves(t *testing.T) {
	t.Parallel()
	w := world.Start(t, world.Options{})
	w.CreateCores(t, "moves")
	offer(t, w, "1.0.0", worksFine, 10)
	d := enrolled(t, w, "moves", "")
	d.runs("1.0.0")
	out, err := d.run("run")
	require.Error(t, err)
	assert.Contains(t, out, "another agent works in "+d.root)

	// The folder is carried elsewhere while nothing runs.
	d.stop()
	to := filepath.Join(t.TempDir(), "elsewhere")
	require.NoError(t, os.Rename(d.root, to))
	d.root = to
	d.start()
	d.runs("1.0.0")
	doc, err := os.ReadFile(filepath.Join(to, "config", "config.yaml"))
	require.NoError(t, err)
	assert.Contains(t, string(doc), to, "the paths of the configuration moved along")
	d.clean()

	// While its nucleus runs, of an agent that was killed.
	pid := d.oneNucleus()
	d.kill9()
	again := filepath.Join(t.TempDir(), "again")
	require.NoError(t, os.Rename(to, again))
	d.root = again
	d.start()
	world.Eventually(t, func() string {
		if !strings.Contains(d.said(), "root="+again) {
			return "the agent does not run yet" // until then a signal ends it as any program
		}
		return ""
	})
	d.runsBeside(pid)
}

// runsBeside waits until the agent has taken up the process pid, which was started in
// another folder, and none beside it.
func (d *device) runsBeside(pid int) {
	d.t.Helper()
	world.Eventually(d.t, func() string {
		if out, _ := d.run("status"); !strings.Contains(out, fmt.Sprintf("running, pid %d)", pid)) {
			return "the nucleus is not taken up: " + out
		}
		return ""
	})
	assert.Empty(d.t, d.nuclei(), "none is started beside it")
	d.stop()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	assert.True(d.t, err != nil || strings.Contains(string(stat), ") Z "), "it ends with its agent: %s", stat)
}
