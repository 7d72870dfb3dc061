package system_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/test/internal/world"
	"github.com/ggfleet/ggfleet/test/system"
)

// runtime is a nucleus as AWS ships it, played by the simulator.
type runtime struct {
	name      string // of the distribution
	layout    string // of ggfleet-sim pack
	format    string
	generator string // of the installer configuration
	unit      string
	alive     string // fails unless the nucleus of version $V runs
}

func runtimes() map[string]runtime {
	return map[string]runtime{
		"classic":                    {"aws.greengrass.Nucleus", "classic", "zip", "MANUAL_INSTALL", "greengrass.service", "readlink -f /greengrass/v2/alts/current/distro | grep -- -$V- && pgrep -f '[G]reengrass.jar'"},
		"lite as package":            {"aws.greengrass.NucleusLite", "lite-deb", "deb", "MANUAL_INSTALL_LITE", "greengrass-lite.target", "dpkg-query -W -f '${Version}' aws-greengrass-lite | grep $V"},
		"lite as programs and units": {"aws.greengrass.NucleusLite", "lite", "tar.gz", "MANUAL_INSTALL_LITE", "greengrass-lite.target", "readlink /var/lib/ggfleet-nucleus/current | grep -- -$V-"},
	}
}

// pack makes a distribution with the simulator in it, and returns its file.
func (r runtime) pack(t *testing.T, sim, version string, flags ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), version+"."+r.format)
	out, err := exec.CommandContext(t.Context(), sim, append([]string{"pack", "--out", file, "--layout", r.layout, "--version", version}, flags...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return file
}

// offer has w offer a distribution, whose name and version it finds by itself.
func (r runtime) offer(t *testing.T, w *world.World, file, version string) {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	var d struct{ Name, Version, Runtime, Platform string }
	w.Call(t, http.MethodPost, "/distributions?format="+r.format, b, &d)
	require.Equal(t, []string{r.name, version}, []string{d.Name, d.Version})
	w.Call(t, http.MethodPost, "/distributions/"+d.Name+"/"+d.Version+"/activate", nil, nil)
}

func TestANucleusIsInstalledUpdatedAndKeptFromABadOneOnSystemd(t *testing.T) {
	for name, r := range runtimes() {
		t.Run(name, func(t *testing.T) {
			core := "press-" + strings.ReplaceAll(r.layout, "-", "")
			m := system.Boot(t)
			w := world.Start(t, world.Options{Flags: []string{"--mqtt-addr", "127.0.0.1:8883"}})
			sim, err := world.Build(t.Context(), "test", "ggfleet-sim")
			require.NoError(t, err)
			m.Copy(t, sim, "/usr/local/bin/ggfleet-sim")
			m.Sh(t, "ln -s ggfleet-sim /usr/local/bin/java")
			created := w.Call(t, http.MethodPost, "/coreTasks", map[string]any{
				"type": "Create", "coreVersion": "2.10.0",
				"cores": []any{map[string]any{"name": core, "provisioningTemplate": "default", "provisioningParameters": map[string]string{"ThingName": core}, "configFileGenerator": r.generator}},
			}, nil)
			task := w.WaitTask(t, created.Header.Get("Location"))
			require.Equal(t, "Success", task.Status, "%+v", task)
			var activation struct {
				Enrollment string `json:"enrollment"`
			}
			w.Call(t, http.MethodPost, "/activations", map[string]string{"deviceId": core}, &activation)
			runs := func(version string) { m.Until(t, "V="+version+"; "+r.alive+"; systemctl is-active "+r.unit) }

			r.offer(t, w, r.pack(t, sim, "2.10.0"), "2.10.0")
			system.Release(t, first) // is not part of what is measured
			began := time.Now()
			m.InstallAgent(t, first, activation.Enrollment)
			world.Eventually(t, func() string {
				if s := system.Show(t, w, core).Device.Status; s != "HEALTHY" {
					return s
				}
				return ""
			})
			t.Logf("%s: from the agent's package to HEALTHY: %.1f s", name, time.Since(began).Seconds())
			system.Healthy(t, w, core, first, began)
			t.Logf("%s: and past the gate: %.1f s", name, time.Since(began).Seconds())
			runs("2.10.0")
			status := m.Sh(t, "ggfleet-agent status")
			assert.Contains(t, status, "service "+r.unit+", active")

			began = time.Now()
			r.offer(t, w, r.pack(t, sim, "2.11.0"), "2.11.0")
			m.Until(t, "ggfleet-agent status | grep 'nucleus: .* 2.11.0'")
			t.Logf("%s: update proven after %.1f s", name, time.Since(began).Seconds())
			runs("2.11.0")
			system.Healthy(t, w, core, first, began)

			began = time.Now()
			r.offer(t, w, r.pack(t, sim, "2.12.0", "--broken", "exit"), "2.12.0")
			m.Until(t, "ggfleet-agent status | grep 'rejected: 2.12.0'")
			t.Logf("%s: bad version taken back after %.1f s", name, time.Since(began).Seconds())
			runs("2.11.0")
			system.Healthy(t, w, core, first, began)

			m.PowerCut(t)
			runs("2.11.0")
			system.Healthy(t, w, core, first, time.Now())

			w.Call(t, http.MethodPost, "/distributions/"+r.name+"/2.11.0/activate", nil, nil) // else the bad one is tried again
			// What the agent knew is lost: it finds the nucleus and takes it over.
			m.Sh(t, "systemctl stop ggfleet-agent; rm /var/lib/ggfleet-agent/agent/install.json")
			runs("2.11.0")
			m.Sh(t, "systemctl start ggfleet-agent")
			m.Until(t, "ggfleet-agent status | grep -E 'there before the agent|2.11.0'")
			system.Healthy(t, w, core, first, time.Now())

			// By hand, the agent stopped: the nucleus goes on.
			m.Copy(t, r.pack(t, sim, "2.13.0"), "/media/next")
			m.Sh(t, "ggfleet-agent stop")
			runs("2.11.0")
			t.Log(m.Sh(t, "ggfleet-agent nucleus plan --archive /media/next"))
			m.Sh(t, "ggfleet-agent nucleus install --archive /media/next")
			runs("2.13.0")
			m.Sh(t, "ggfleet-agent nucleus rollback")
			runs("2.11.0")
			t.Log(m.Sh(t, "ggfleet-agent status"))
		})
	}
}
