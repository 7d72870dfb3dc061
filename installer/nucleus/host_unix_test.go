//go:build unix

package nucleus_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// The root of a nucleus belongs to an account that is not the agent's. What it
// puts there must not make the agent, which is root, change or wait for anything
// else.
func TestHostInAFolderOfOthers(t *testing.T) {
	t.Parallel()
	folder, outside := t.TempDir(), filepath.Join(t.TempDir(), "shadow")
	require.NoError(t, os.WriteFile(outside, []byte("secret"), 0o600))
	link, pipe := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "config.yaml")
	require.NoError(t, os.Symlink(outside, link))
	require.NoError(t, syscall.Mkfifo(pipe, 0o644))
	host := nucleus.NewHost()

	t.Run("a link put in the place of a file that was looked at opens no other file", func(t *testing.T) {
		require.Error(t, host.Chmod(link, 0o644))
		info, err := os.Stat(outside)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	})
	t.Run("nor is the other file given away", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("only root gives files away")
		}
		require.NoError(t, host.Chown(link, 65534, 65534))
		uid, _, err := host.Owner(outside)
		require.NoError(t, err)
		assert.Zero(t, uid)
	})
	t.Run("a pipe is not waited for", func(t *testing.T) {
		_, err := host.ReadFile(pipe)
		require.ErrorIs(t, err, fault.Invalid)
	})
}
