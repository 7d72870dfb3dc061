//go:build unix

package nucleus_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// An account of a component has a folder of its own below the root of a nucleus, and
// puts links there that lead where only root may write.
func TestALinkThatANucleussAccountHasPlantedLeadsNoWriteElsewhere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make what belongs to others")
	}
	const account = 12345
	does := map[string]func(h *nucleus.Host, name string) error{
		"write":      func(h *nucleus.Host, n string) error { return h.WriteFile(n, []byte("x"), 0o644) },
		"link":       func(h *nucleus.Host, n string) error { return h.Symlink("x", n) },
		"folder":     func(h *nucleus.Host, n string) error { return h.MkdirAll(n+"/a/b", 0o755) },
		"mode":       func(h *nucleus.Host, n string) error { return h.Chmod(n, 0o777) },
		"owner":      func(h *nucleus.Host, n string) error { return h.Chown(n, account, account) },
		"remove":     func(h *nucleus.Host, n string) error { return h.Remove(n) },
		"remove all": func(h *nucleus.Host, n string) error { return h.RemoveAll(n) },
	}
	for name, do := range does {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			require.NoError(t, os.Chmod(top, 0o755))
			h := nucleus.NewHostAt(top)
			etc, own := filepath.Join(top, "etc"), filepath.Join(top, "greengrass/v2/work")
			for _, dir := range []string{etc, own} {
				require.NoError(t, os.MkdirAll(dir, 0o755))
			}
			kept := filepath.Join(etc, "shadow")
			require.NoError(t, os.WriteFile(kept, []byte("secret"), 0o600))
			require.NoError(t, os.Chown(own, account, account))
			plant := func(dir, link, to string, uid int) {
				require.NoError(t, os.Symlink(to, filepath.Join(dir, link)))
				require.NoError(t, os.Lchown(filepath.Join(dir, link), uid, uid))
			}
			plant(own, "absolute", "/etc", account)
			plant(own, "relative", "../../../etc", account)
			plant(own, "roots", "/etc", 0) // made by root, and exchangeable
			for _, link := range []string{"absolute", "relative", "roots"} {
				require.ErrorIs(t, do(h, "/greengrass/v2/work/"+link+"/shadow"), fault.Denied, link)
			}
			b, err := os.ReadFile(kept)
			require.NoError(t, err)
			assert.Equal(t, "secret", string(b))
			info, err := os.Stat(kept)
			require.NoError(t, err)
			assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
			entries, err := os.ReadDir(etc)
			require.NoError(t, err)
			assert.Len(t, entries, 1)

			// Root's own links are followed, as far as the host's root is concerned.
			plant(filepath.Join(top, "greengrass"), "etc", "/etc", 0)
			require.NoError(t, os.WriteFile(filepath.Join(etc, "other"), nil, 0o600))
			if name == "folder" {
				require.NoError(t, os.Remove(filepath.Join(etc, "other")))
			}
			require.NoError(t, do(h, "/greengrass/etc/other"))
		})
	}
	t.Run("links that lead to each other", func(t *testing.T) {
		top := t.TempDir()
		require.NoError(t, os.Chmod(top, 0o755))
		require.NoError(t, os.Symlink("/b", filepath.Join(top, "a")))
		require.NoError(t, os.Symlink("/a", filepath.Join(top, "b")))
		assert.ErrorContains(t, nucleus.NewHostAt(top).WriteFile("/a/x", nil, 0o600), "too many levels")
	})
}
