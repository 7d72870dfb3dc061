//go:build unix

package nucleus_test

import (
	"errors"
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

// The root of a nucleus may belong to its account. Root does not run what that
// account may have put there.
func TestTrusted(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("who is not root gives nothing away")
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, root, program string)
		denied bool
	}{
		"a program of root, by a link, is run":    {func(*testing.T, string, string) {}, false},
		"one of another account is not":           {func(t *testing.T, _, p string) { t.Helper(); require.NoError(t, os.Chown(p, 65534, 0)) }, true},
		"nor one that everybody may write":        {func(t *testing.T, _, p string) { t.Helper(); require.NoError(t, os.Chmod(p, 0o777)) }, true},
		"nor one in a folder below one of others": {func(t *testing.T, r, _ string) { t.Helper(); require.NoError(t, os.Chown(r, 65534, 0)) }, true},
		"nor one in a folder that a group may write": {func(t *testing.T, r, _ string) {
			t.Helper()
			require.NoError(t, errors.Join(os.Chown(r, 0, 65534), os.Chmod(r, 0o775)))
		}, true},
		"root's own group may write what is root's to be": {func(t *testing.T, r, _ string) { t.Helper(); require.NoError(t, os.Chmod(r, 0o775)) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			program, link := filepath.Join(root, "artifacts", "cli"), filepath.Join(t.TempDir(), "greengrass-cli")
			require.NoError(t, os.Mkdir(filepath.Dir(program), 0o755))
			require.NoError(t, os.WriteFile(program, nil, 0o755))
			require.NoError(t, os.Symlink(program, link))
			c.change(t, root, program)
			got, err := nucleus.Trusted(link)
			if c.denied {
				require.ErrorIs(t, err, fault.Denied)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, program, got)
		})
	}
}
