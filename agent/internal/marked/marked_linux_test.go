package marked_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/marked"
)

const variable = "GGFLEET_TEST_OF_MARKED"

func start(t *testing.T, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "600")
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func TestProcessesAreFoundByTheirMarkOnly(t *testing.T) {
	mark := t.TempDir()
	with := start(t, variable+"="+mark)
	start(t, variable+"="+mark+"2")
	start(t, "X"+variable+"="+mark)
	start(t)
	assert.Equal(t, []int{with.Process.Pid}, marked.Processes(variable, mark))
	assert.Equal(t, mark, marked.Value(with.Process.Pid, variable))
	assert.Empty(t, marked.Value(with.Process.Pid, variable+"2"))

	marked.Kill(variable, mark)
	require.Error(t, with.Wait())
	assert.Empty(t, marked.Processes(variable, mark))
	assert.Empty(t, marked.Value(with.Process.Pid, variable), "a process that is gone")
}
