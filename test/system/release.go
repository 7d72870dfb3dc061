package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

// ReleaseDir is where a machine has the files of a release.
const ReleaseDir = "/media/release"

var (
	releaseMu sync.Mutex            // guards releases
	releases  = map[string]string{} // version → folder
)

// Release makes a release of the agent for this platform, once for each version,
// as make package does, and returns its folder.
func Release(t testing.TB, version string) string {
	t.Helper()
	releaseMu.Lock()
	defer releaseMu.Unlock()
	if dir, ok := releases[version]; ok {
		return dir
	}
	root, err := world.Root()
	require.NoError(t, err)
	nfpm, err := filepath.Glob(filepath.Join(root, "bin/tools/nfpm-*"))
	require.NoError(t, err)
	require.NotEmpty(t, nfpm, "there is no nfpm: make test-system installs it")
	dir, err := os.MkdirTemp("", "ggfleet-release-")
	require.NoError(t, err)
	cmd := exec.Command("go", "run", "./installer/packaging", "-version", version, "-only", "linux_amd64", "-nfpm", nfpm[0], "-out", filepath.Join(dir, version))
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	releases[version] = filepath.Join(dir, version)
	return releases[version]
}

// Media puts the release with version at ReleaseDir in the machine, in place of
// what lay there.
func (m *Machine) Media(t testing.TB, version string) {
	t.Helper()
	dir := Release(t, version)
	m.Sh(t, "rm -rf "+ReleaseDir)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		m.Copy(t, filepath.Join(dir, e.Name()), filepath.Join(ReleaseDir, e.Name()))
	}
}

// InstallAgent installs the agent with version from its package, and enrols it
// with the string unless that is empty.
func (m *Machine) InstallAgent(t testing.TB, version, enrollment string) {
	t.Helper()
	m.Media(t, version)
	m.Sh(t, "sh "+ReleaseDir+"/install.sh --yes")
	if enrollment != "" {
		m.Sh(t, "printf '%s\\n' '"+enrollment+"' | ggfleet-agent enroll -; systemctl start ggfleet-agent")
	}
}
