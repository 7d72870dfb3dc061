//go:build !faults && unix

package faultpoint_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/faultpoint"
)

func TestAProductionBinaryIgnoresTheEnvironment(t *testing.T) {
	t.Setenv("GGFLEET_FAULT", "group:after")
	p, err := faultpoint.FromEnv()
	require.NoError(t, err)
	assert.Nil(t, p)
	t.Setenv("GGFLEET_FAULT", "nonsense")
	_, err = faultpoint.FromEnv()
	require.NoError(t, err)
}

func TestABinaryWithFaultsIsKilledAtThePoint(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(t.TempDir(), "faults.test")
	out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "faults", "-o", bin, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	for spec, killed := range map[string]bool{"group:before": true, "group:after:2": true, "group:after:3": false, "": false} {
		cmd := exec.CommandContext(t.Context(), bin, "-test.run=^TestCommitsTwice$")
		cmd.Env = append(os.Environ(), "GGFLEET_FAULT="+spec)
		out, err := cmd.CombinedOutput()
		if !killed {
			require.NoError(t, err, "%s: %s", spec, out)
			continue
		}
		require.Error(t, err, "%s: %s", spec, out)
		status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
		require.True(t, ok)
		assert.True(t, status.Signaled() && status.Signal() == syscall.SIGKILL, "%s: %v: %s", spec, err, out)
	}
}

func TestABinaryWithFaultsWritesDownTheStepsItStored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bin, log := filepath.Join(dir, "faults.test"), filepath.Join(dir, "steps")
	out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "faults", "-o", bin, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	for _, spec := range []string{"", "group:after:2"} {
		cmd := exec.CommandContext(t.Context(), bin, "-test.run=^TestCommitsTwice$")
		cmd.Env = append(os.Environ(), "GGFLEET_FAULT="+spec, "GGFLEET_FAULT_LOG="+log)
		_ = cmd.Run() // the second is killed
	}
	steps, err := os.ReadFile(log)
	require.NoError(t, err)
	assert.Equal(t, "group\ngroup\ngroup\n", string(steps), "two, then one before the kill")
}
