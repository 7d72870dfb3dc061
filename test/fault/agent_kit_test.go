package fault_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// agentBinary is a real agent that looks at its assignment twice a second;
// GGFLEET_AGENT_BIN names one that is built already.
var agentBinary = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("GGFLEET_AGENT_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	root, err := world.Root()
	if err != nil {
		return "", err
	}
	out := filepath.Join(root, "bin", "test", "ggfleet-agent-fast")
	cmd := exec.CommandContext(context.Background(), "go", "build", "-buildvcs=false", "-trimpath", "-tags=nomsgpack", "-o", out,
		"-ldflags", "-X 'github.com/ggfleet/ggfleet/agent/app.buildTimes=500ms 20s 2s 2s'", "./cmd/ggfleet-agent")
	cmd.Dir = filepath.Join(root, "agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the agent: %w\n%s", err, text)
	}
	return out, nil
})

// testNucleus is the component that shell scripts are packed as.
const testNucleus = "ggfleet.TestNucleus"

// Nuclei: shell scripts that get the root as $2 and their version as $3.
const (
	worksFine = "#!/bin/sh\ncd \"$2\" || exit 1\ntrap 'exit 0' TERM\ntouch ready\nwhile :; do sleep 1 & wait $!; done\n"
	endsSoon  = "#!/bin/sh\nexit 7\n"
)

// archive is a distribution of a script, with so many bytes more that cannot be
// compressed.
func archive(t *testing.T, version, script string, more int) []byte {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	tw := tar.NewWriter(gz)
	manifest := fmt.Sprintf(`{"name":%q,"version":%q,"runtime":"simulated","entrypoint":"bin/nucleus","args":["--root","{root}",%q],"readyFile":"ready"}`,
		testNucleus, version, version)
	load := make([]byte, more)
	_, _ = rand.Read(load)
	for _, f := range []struct {
		name string
		body []byte
		mode int64
	}{{"distribution.json", []byte(manifest), 0o644}, {"bin/nucleus", []byte(script), 0o755}, {"lib/load", load, 0o644}} {
		require.NoError(t, tw.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.body))}))
		_, err := tw.Write(f.body)
		require.NoError(t, err)
	}
	require.NoError(t, tw.Close())
	require.NoError(t, gz.Close())
	return b.Bytes()
}

// offer makes w offer a script as the nucleus.
func offer(t *testing.T, w *world.World, version, script string, more int) {
	t.Helper()
	path := "/distributions/" + testNucleus + "/" + version
	w.Call(t, http.MethodPut, path+"?format=tar.gz", archive(t, version, script, more), nil)
	w.Call(t, http.MethodPost, path+"/activate", nil, nil)
}

// device is a real agent with a folder of its own.
type device struct {
	t                        *testing.T
	w                        *world.World
	core, program, root, log string
	enrolment                string

	cmd   *exec.Cmd // nil: not running
	began time.Time // when it was started
}

// newDevice has everything but the enrolment: root may be a folder that is there.
func newDevice(t *testing.T, w *world.World, core, root string) *device {
	t.Helper()
	program, err := agentBinary()
	require.NoError(t, err)
	dir := t.TempDir()
	if root == "" {
		root = filepath.Join(dir, "root")
	}
	d := &device{t: t, w: w, core: core, program: program, root: root, log: filepath.Join(dir, "agent.log")}
	var activation struct {
		Enrollment string `json:"enrollment"`
	}
	w.Call(t, http.MethodPost, "/activations", map[string]string{"deviceId": core}, &activation)
	d.enrolment = activation.Enrollment
	t.Cleanup(d.end)
	return d
}

// run has the agent's program do something at once, and returns what it says.
func (d *device) run(args ...string) (string, error) {
	cmd := exec.CommandContext(d.t.Context(), d.program, append(args, "--root", d.root)...)
	cmd.Stdin = strings.NewReader(d.enrolment)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (d *device) must(args ...string) string {
	d.t.Helper()
	out, err := d.run(args...)
	require.NoError(d.t, err, "%v: %s", args, out)
	return out
}

// enrolled is a device that is enrolled and runs.
func enrolled(t *testing.T, w *world.World, core, root string) *device {
	t.Helper()
	d := newDevice(t, w, core, root)
	d.must("enroll", "-")
	d.start()
	return d
}

func (d *device) start() {
	d.t.Helper()
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(d.t, err)
	defer func() { _ = log.Close() }() // the process has its own
	d.cmd = exec.Command(d.program, "run", "--root", d.root)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.began = time.Now()
	require.NoError(d.t, d.cmd.Start())
}

// kill9 kills the agent, which leaves its nucleus running.
func (d *device) kill9() {
	d.t.Helper()
	require.NoError(d.t, d.cmd.Process.Kill())
	_ = d.cmd.Wait()
	d.cmd = nil
}

// stop ends the agent in order.
func (d *device) stop() {
	d.t.Helper()
	require.NoError(d.t, d.cmd.Process.Signal(syscall.SIGTERM))
	assert.NoError(d.t, d.cmd.Wait(), "the agent stops in order")
	d.cmd = nil
}

func (d *device) end() {
	if d.cmd != nil {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		_ = d.cmd.Wait()
	}
	for _, pid := range d.nuclei() {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
	if d.t.Failed() {
		b, _ := os.ReadFile(d.log)
		d.t.Logf("the end of the log of the agent of %s:\n%s", d.core, b[max(0, len(b)-8<<10):])
	}
}

// said is all that the agent logged.
func (d *device) said() string {
	b, _ := os.ReadFile(d.log)
	return string(b)
}

// nuclei are the process groups that the agent has made as its nucleus.
func (d *device) nuclei() (out []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range dirs {
		env, err := os.ReadFile(filepath.Join(p, "environ"))
		if err != nil || !slices.Contains(strings.Split(string(env), "\x00"), "HOME="+d.root) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(p))
		if pgid, err := syscall.Getpgid(pid); err == nil && pgid == pid {
			out = append(out, pid)
		}
	}
	return out
}

// oneNucleus is the process group of the only nucleus; 0 when there is none or
// more.
func (d *device) oneNucleus() int {
	if all := d.nuclei(); len(all) == 1 {
		return all[0]
	}
	return 0
}

var temporary = regexp.MustCompile(`\.tmp-[A-Z2-7]{20,}`)

// clean waits until nothing is left in the device's folder that is nobody's: an
// agent that runs may be about to remove it.
func (d *device) clean() {
	d.t.Helper()
	world.Eventually(d.t, func() (left string) {
		_ = filepath.WalkDir(d.root, func(p string, _ os.DirEntry, err error) error {
			if err != nil || temporary.MatchString(p) {
				left = fmt.Sprintf("a temporary file is left: %s %v", p, err)
			}
			return nil
		})
		if list, _ := os.ReadDir(filepath.Join(d.root, "agent", "downloads")); len(list) > 0 {
			left = fmt.Sprintf("downloads are left: %v", list)
		}
		return left
	})
}

// toldNucleus is what the control plane shows of a nucleus.
type toldNucleus struct {
	State, Name, Version, LastError string
	Restarts                        int
}

// agentView is what the control plane shows of an agent.
type agentView struct {
	Connected      bool
	Version        string
	LastReport     time.Time
	Warnings       []string
	Nucleus        toldNucleus
	DroppedReports int
}

// shown is what the control plane has heard of the device.
func (d *device) shown() (out agentView, healthy bool) {
	d.t.Helper()
	var got struct {
		Device struct {
			Status    string
			Connected bool
		}
		Agent *json.RawMessage
	}
	a, err := d.w.Do(d.t.Context(), http.MethodGet, "/cores/"+d.core, nil)
	if err != nil || a.Status != http.StatusOK || json.Unmarshal(a.Body, &got) != nil || got.Agent == nil {
		return agentView{}, false
	}
	require.NoError(d.t, json.Unmarshal(*got.Agent, &out))
	return out, got.Device.Status == "HEALTHY" && got.Device.Connected
}

// runs waits until the device's agent of now is connected and says that it runs the
// version. What the one before said is shown until its end is seen.
func (d *device) runs(version string) {
	d.t.Helper()
	world.Eventually(d.t, func() string {
		s, _ := d.shown()
		if s.Connected && s.LastReport.After(d.began) && s.Nucleus.State == "running" && s.Nucleus.Version == version && d.oneNucleus() != 0 {
			return ""
		}
		return fmt.Sprintf("waiting for %s, the device shows %+v, nuclei %v", version, s, d.nuclei())
	})
}

// waitFor waits until the device shows what is wanted.
func (d *device) waitFor(what string, ok func(agentView) bool) {
	d.t.Helper()
	world.Eventually(d.t, func() string {
		s, _ := d.shown()
		if ok(s) {
			return ""
		}
		return fmt.Sprintf("%s: the device shows %+v", what, s)
	})
}
