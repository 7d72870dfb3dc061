package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/ggfleet/ggfleet/test/internal/world"
)

const screenRecipe = `{"RecipeFormatVersion":"2020-01-25","ComponentName":"com.example.Screen","ComponentVersion":"1.0.0",
	"ComponentConfiguration":{"DefaultConfiguration":{"mode":"day","brightness":1}},
	"Manifests":[{"Platform":{"os":"linux","runtime":"*"},"Lifecycle":{"run":"x"},"Artifacts":[]}]}`

// classicCore installs a core by hand, as docs/agent.md's manual way does, and
// runs a nucleus with the habits of classic on it.
func classicCore(t *testing.T, w *world.World, name string) (root string) {
	t.Helper()
	core := w.CreateCores(t, name)[0]
	root = t.TempDir()
	cert, key := core.Files(t, root)
	ca := filepath.Join(root, "ca.pem")
	bundle, err := os.ReadFile(filepath.Join(w.Dir, "ca.pem"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(ca, bundle, 0o600))
	var config map[string]any
	require.NoError(t, yaml.Unmarshal(core.Config, &config))
	config["system"] = map[string]any{
		"certificateFilePath": cert, "privateKeyPath": key, "rootCaPath": ca, "rootpath": root, "thingName": name,
	}
	b, err := yaml.Marshal(config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, "installerConfig.yml"), b, 0o600))
	sim, err := world.Build(t.Context(), "test", "ggfleet-sim")
	require.NoError(t, err)
	cmd := exec.Command(sim, "nucleus", "--root", root, "--runtime", "classic")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the nucleus said:\n%s", log.String()[max(0, log.Len()-4<<10):])
		}
	})
	world.Eventually(t, func() string {
		if s := w.Core(t, name).Device.Status; s != "HEALTHY" {
			return "the core is " + s
		}
		return ""
	})
	return root
}

// configuration is what the component has on the device.
func configuration(t *testing.T, root, component string) map[string]any {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "config/effectiveConfig.yaml"))
	require.NoError(t, err)
	var c struct {
		Services map[string]struct {
			Configuration map[string]any `yaml:"configuration"`
		} `yaml:"services"`
	}
	require.NoError(t, yaml.Unmarshal(b, &c))
	return c.Services[component].Configuration
}

// A nucleus of the classic kind keeps configuration that is newer than the
// document that changes it, and still reports success (nucleus-contract, trap 47).
func TestGoingBackToAnOlderVersionRestoresItsConfiguration(t *testing.T) {
	t.Parallel()
	w := world.Start(t, world.Options{})
	w.PutComponent(t, []byte(screenRecipe), nil)
	version := func(mode string, brightness int) int {
		return w.PutTemplate(t, "screen", world.TemplateComponent{
			Name: "com.example.Screen", Version: "1.0.0",
			ConfigurationUpdate: &world.ConfigurationUpdate{Merge: fmt.Sprintf(`{"mode":%q,"brightness":%d}`, mode, brightness)},
		})
	}
	one, two := version("night", 10), version("party", 20)
	root := classicCore(t, w, "press-1")
	for _, step := range []struct {
		version    int
		mode       string
		brightness int
	}{{one, "night", 10}, {two, "party", 20}, {one, "night", 10}, {two, "party", 20}} {
		w.WaitTask(t, w.Deploy(t, "screen", step.version, "press-1"))
		want := world.TemplateState{Name: "screen", Version: step.version}
		world.Eventually(t, func() string {
			s := w.Core(t, "press-1").Template
			if s.Reported.Name != want.Name || s.Reported.Version != want.Version || s.Reported.DeploymentStatus != "Success" {
				b, _ := json.Marshal(s)
				return "the core says " + string(b)
			}
			return ""
		})
		got := configuration(t, root, "com.example.Screen")
		assert.Equal(t, step.mode, got["mode"], "after version %d", step.version)
		assert.InDelta(t, step.brightness, got["brightness"], 0, "after version %d", step.version)
	}
}
