package command_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/command"
)

func TestPurgeAsksAndRemovesOnlyAnAgent(t *testing.T) {
	agent := func(t *testing.T) string {
		root := filepath.Join(t.TempDir(), "root")
		for _, name := range []string{"agent/identity.json", "versions/a/bin/sim", "private.key"} {
			require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte("{}"), 0o600))
		}
		return root
	}
	run := func(t *testing.T, root, answer string, args ...string) (string, error) {
		var out bytes.Buffer
		c := command.New()
		c.SetArgs(append([]string{"uninstall", "--purge", "--root", root}, args...))
		c.SetIn(strings.NewReader(answer))
		c.SetOut(&out)
		c.SetErr(&out)
		return out.String(), c.ExecuteContext(t.Context())
	}
	for name, answer := range map[string]string{"no": "n\n", "nothing": "", "anything": "yes please\n", "an empty line": "\n"} {
		t.Run("the answer is "+name, func(t *testing.T) {
			root := agent(t)
			_, err := run(t, root, answer)
			require.ErrorContains(t, err, "nothing was removed")
			assert.Equal(t, command.ExitFailed, command.ExitCode(err))
			assert.FileExists(t, filepath.Join(root, "private.key"))
		})
	}
	for name, tc := range map[string]struct {
		answer string
		args   []string
	}{"the answer is yes": {"y\n", nil}, "it was said before": {"", []string{"--yes"}}} {
		t.Run(name, func(t *testing.T) {
			root := agent(t)
			_, err := run(t, root, tc.answer, tc.args...)
			require.NoError(t, err)
			assert.NoDirExists(t, root)
			_, err = run(t, root, "", "--yes")
			assert.ErrorContains(t, err, "nothing to purge")
		})
	}
	for name, root := range map[string]string{"the root of the system": "/", "a folder of the system": "/etc", "a folder without an agent": t.TempDir()} {
		t.Run("refused: "+name, func(t *testing.T) {
			_, err := run(t, root, "", "--yes")
			assert.Error(t, err)
			assert.DirExists(t, root)
		})
	}
}
