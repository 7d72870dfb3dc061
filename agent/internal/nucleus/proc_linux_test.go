package nucleus_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/nucleus"
)

// Without a record the nucleus is found by its environment, which anybody can give
// a process of his own.
func TestLostNucleusIsOfTheAgentsAccount(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root starts processes of other accounts")
	}
	for name, c := range map[string]struct {
		uid   uint32
		found bool
	}{
		"a process of the agent's account is the nucleus":  {0, true},
		"a process that another account has marked is not": {65534, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			site := t.TempDir()
			cmd := exec.CommandContext(t.Context(), "sleep", "600")
			cmd.Dir, cmd.Env = "/", []string{"GGFLEET_NUCLEUS_SITE=" + site}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: &syscall.Credential{Uid: c.uid, Gid: c.uid}}
			require.NoError(t, cmd.Start())
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
			pid, ok := nucleus.Running(filepath.Join(site, "agent"))
			assert.Equal(t, c.found, ok)
			if ok {
				assert.Equal(t, cmd.Process.Pid, pid)
			}
		})
	}
}
