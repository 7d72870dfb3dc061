package e2e_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

const nucleusVersion = "2.12.0"

// offerNucleus makes w offer the simulated nucleus to agents.
func offerNucleus(t *testing.T, w *world.World) {
	t.Helper()
	sim, err := world.Build(t.Context(), "test", "ggfleet-sim")
	require.NoError(t, err)
	archive := filepath.Join(t.TempDir(), "nucleus.tar.gz")
	out, err := exec.CommandContext(t.Context(), sim, "pack", "--out", archive, "--version", nucleusVersion).CombinedOutput()
	require.NoError(t, err, "%s", out)
	content, err := os.ReadFile(archive)
	require.NoError(t, err)
	const path = "/distributions/ggfleet.SimulatedNucleus/" + nucleusVersion
	w.Call(t, http.MethodPut, path+"?format=tar.gz", content, nil)
	w.Call(t, http.MethodPost, path+"/activate", nil, nil)
}

// agentProcess is a real agent on a device of its own.
type agentProcess struct {
	program, root, log string
	cmd                *exec.Cmd // nil: not running
}

// enrol lets an agent in for core, with further options of its command, starts it,
// and ends it and its nucleus with the test.
func enrol(t *testing.T, w *world.World, core string, options ...string) *agentProcess {
	t.Helper()
	program, err := world.Build(t.Context(), "agent", "ggfleet-agent")
	require.NoError(t, err)
	dir := t.TempDir()
	a := &agentProcess{program: program, root: filepath.Join(dir, "root"), log: filepath.Join(dir, "agent.log")}
	var activation struct {
		Enrollment string `json:"enrollment"`
	}
	w.Call(t, http.MethodPost, "/activations", map[string]string{"deviceId": core}, &activation)
	enroll := exec.CommandContext(t.Context(), program, append([]string{"enroll", "-", "--root", a.root}, options...)...)
	enroll.Stdin = strings.NewReader(activation.Enrollment)
	out, err := enroll.CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Cleanup(func() { a.end(t) })
	a.start(t)
	return a
}

func (a *agentProcess) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(a.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer func() { _ = log.Close() }() // the process has its own
	a.cmd = exec.Command(a.program, "run", "--root", a.root)
	a.cmd.Stdout, a.cmd.Stderr = log, log
	require.NoError(t, a.cmd.Start())
}

// kill9 kills the agent, which leaves its nucleus running.
func (a *agentProcess) kill9(t *testing.T) {
	t.Helper()
	require.NoError(t, a.cmd.Process.Kill())
	_ = a.cmd.Wait()
	a.cmd = nil
}

var nucleusPID = regexp.MustCompile(`pid (\d+)`)

func (a *agentProcess) end(t *testing.T) {
	if a.cmd != nil {
		_ = a.cmd.Process.Signal(syscall.SIGTERM)
		assert.NoError(t, a.cmd.Wait(), "the agent stops in order")
	}
	out, err := exec.Command(a.program, "status", "--root", a.root).CombinedOutput()
	assert.NoError(t, err, "%s", out)
	if m := nucleusPID.FindSubmatch(out); m != nil { // of an agent that was killed and not started again
		if pid, err := strconv.Atoi(string(m[1])); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if t.Failed() {
		nuclei, _ := filepath.Glob(filepath.Join(a.root, "*", "logs", "nucleus.log"))
		for _, log := range append(nuclei, filepath.Join(a.root, "logs", "nucleus.log"), a.log) {
			if text, err := os.ReadFile(log); err == nil {
				t.Logf("the end of %s:\n%s", filepath.Base(log), text[max(0, len(text)-4<<10):])
			}
		}
	}
}
