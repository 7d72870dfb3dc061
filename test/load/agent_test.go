package load_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// TestAgent measures what the agent takes on a device, with its nucleus running.
func TestAgent(t *testing.T) {
	if !full() {
		t.Skip("waits; make bench does, and the demo runs agents")
	}
	const name, version = "bench-agent", "2.12.0"
	w, _ := start(t)
	sim, agent := program(t, "test", "ggfleet-sim"), program(t, "agent", "ggfleet-agent")
	archive := filepath.Join(t.TempDir(), "nucleus.tar.gz")
	output(t, sim, "pack", "--out", archive, "--version", version)
	content, err := os.ReadFile(archive)
	require.NoError(t, err)
	w.Call(t, http.MethodPut, "/distributions/ggfleet.SimulatedNucleus/"+version+"?format=tar.gz", content, nil)
	w.Call(t, http.MethodPost, "/distributions/ggfleet.SimulatedNucleus/"+version+"/activate", nil, nil)
	provision(t, w, []string{name})

	var activation struct {
		Enrollment string `json:"enrollment"`
	}
	w.Call(t, http.MethodPost, "/activations", map[string]string{"deviceId": name}, &activation)
	root := filepath.Join(t.TempDir(), "core")
	enroll := exec.CommandContext(t.Context(), agent, "enroll", "-", "--root", root)
	enroll.Stdin = strings.NewReader(activation.Enrollment)
	text, err := enroll.CombinedOutput()
	require.NoError(t, err, "%s", text)

	ctx, _ := background(t)
	run := exec.CommandContext(ctx, agent, "run", "--root", root)
	var said bytes.Buffer
	run.Stdout, run.Stderr = &said, &said
	require.NoError(t, run.Start())
	t.Cleanup(func() {
		_ = run.Process.Signal(os.Interrupt)
		_ = run.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	world.Eventually(t, func() string {
		if s := w.Core(t, name).Device.Status; s != "HEALTHY" {
			return "the core is " + s
		}
		return ""
	})
	const idle = 20 * time.Second
	before := used(t, run.Process.Pid)
	wait := time.NewTimer(idle)
	defer wait.Stop()
	<-wait.C
	after := used(t, run.Process.Pid)
	row(t, "agent with its nucleus running", fmt.Sprintf("%.1f MB, %.2f %% of a CPU while idle",
		float64(after.rss)/mb, 100*(after.cpu-before.cpu).Seconds()/idle.Seconds()), "", "", "20 MB, 0.1 %")
}
