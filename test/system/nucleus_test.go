package system_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	purge     string   // how the agent goes
	stays     []string // of the nucleus after that
	host      string   // of its control plane: the machines share one network
	alive     string   // fails unless the nucleus of version $V runs
}

const byScript = "sh /media/release/install.sh --uninstall --purge --yes </dev/null"

// added are the names of after that were not there before, but for those below
// the folders.
func added(before, after string, but ...string) (names []string) {
	was := map[string]bool{}
	for name := range strings.Lines(before) {
		was[name] = true
	}
	for name := range strings.Lines(after) {
		below := func(dir string) bool { return name == dir+"\n" || strings.HasPrefix(name, dir+"/") }
		if !was[name] && !slices.ContainsFunc(but, below) {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}

func runtimes() map[string]runtime {
	return map[string]runtime{
		"classic":                    {"aws.greengrass.Nucleus", "classic", "zip", "MANUAL_INSTALL", "greengrass.service", byScript, []string{"/greengrass", "/home"}, "127.0.77.1", "readlink -f /greengrass/v2/alts/current/distro | grep -- -$V- && pgrep -f '[G]reengrass.jar'"},
		"lite as package":            {"aws.greengrass.NucleusLite", "lite-deb", "deb", "MANUAL_INSTALL_LITE", "greengrass-lite.target", byScript, []string{"/etc/greengrass", "/var/lib/greengrass", "/home"}, "127.0.77.2", "dpkg-query -W -f '${Version}' aws-greengrass-lite | grep $V"},
		"lite as programs and units": {"aws.greengrass.NucleusLite", "lite", "tar.gz", "MANUAL_INSTALL_LITE", "greengrass-lite.target", "dpkg --purge ggfleet-agent </dev/null", []string{"/etc/greengrass", "/var/lib/greengrass", "/home"}, "127.0.77.3", "readlink /var/lib/ggfleet-nucleus/current | grep -- -$V-"},
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

// machine is one with a control plane that has a core for the runtime, and what
// the core's agent enrols with.
func (r runtime) machine(t *testing.T, host string) (m *system.Machine, w *world.World, core, enrollment string) {
	t.Helper()
	core = "press-" + strings.ReplaceAll(r.layout, "-", "")
	m = system.Boot(t)
	w = world.Start(t, world.Options{Host: host, Flags: []string{"--mqtt-addr", host + ":8883"}}) // the only port that lite knows
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
	return m, w, core, activation.Enrollment
}

func TestAPurgeTakesTheNucleusAlongThatTheAgentInstalled(t *testing.T) {
	t.Parallel()
	for name, r := range runtimes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, w, core, enrollment := r.machine(t, strings.Replace(r.host, ".77.", ".78.", 1))
			before := m.Sh(t, everything)
			sim, err := world.Build(t.Context(), "test", "ggfleet-sim")
			require.NoError(t, err)
			r.offer(t, w, r.pack(t, sim, "2.10.0"), "2.10.0")
			m.InstallAgent(t, first, enrollment)
			world.Eventually(t, func() string {
				if s := system.Show(t, w, core).Device.Status; s != "HEALTHY" {
					return s
				}
				return ""
			})
			t.Log(m.Sh(t, r.purge))
			m.Refuses(t, "systemctl is-active "+r.unit)
			m.Refuses(t, "systemctl is-active ggfleet-agent")
			assert.Empty(t, m.Sh(t, "systemctl --failed --no-legend"))
			assert.Empty(t, added(before, m.Sh(t, everything), r.stays...))
		})
	}
}

func TestANucleusIsInstalledUpdatedAndKeptFromABadOneOnSystemd(t *testing.T) {
	t.Parallel()
	for name, r := range runtimes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, w, core, enrollment := r.machine(t, r.host)
			sim, err := world.Build(t.Context(), "test", "ggfleet-sim")
			require.NoError(t, err)
			runs := func(version string) { m.Until(t, "V="+version+"; "+r.alive+"; systemctl is-active "+r.unit) }

			r.offer(t, w, r.pack(t, sim, "2.10.0"), "2.10.0")
			system.Release(t, first) // is not part of what is measured
			began := time.Now()
			m.InstallAgent(t, first, enrollment)
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
			if r.layout == "lite-deb" {
				helped(t, m, operator(t, w), core)
				system.Healthy(t, w, core, first, began)
			}
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
			m.Until(t, "s=$(ggfleet-agent status); echo \"$s\" | grep 'nucleus: .*2.11.0'; ! echo \"$s\" | grep 'on trial'") // lite's programs do not say their version: it is tried
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

// helped reads the log of a component of lite and restarts it, and the nucleus,
// from afar: through systemd's journal and systemctl.
func helped(t *testing.T, m *system.Machine, ggfleet func(...string) string, core string) {
	t.Helper()
	m.Write(t, "/etc/systemd/system/ggl.com.example.Press.service",
		[]byte("[Service]\nSyslogIdentifier=com.example.Press\nExecStart=/bin/sh -c 'echo the press is up; exec sleep 100000'\n"), 0o644)
	m.Sh(t, "systemctl daemon-reload; systemctl start ggl.com.example.Press; ggfleet-agent allow all")
	m.Until(t, "ggfleet-agent logs --component com.example.Press | grep 'the press is up'")
	pid := func(unit string) string { return m.Sh(t, "systemctl show -P MainPID "+unit) }
	press, mqtt := pid("ggl.com.example.Press"), pid("ggl.core.iotcored")
	assert.Contains(t, ggfleet("core", "logs", core, "--component", "com.example.Press"), "the press is up")
	ggfleet("core", "restart", core, "--component", "com.example.Press")
	assert.NotEqual(t, press, pid("ggl.com.example.Press"))
	assert.Equal(t, mqtt, pid("ggl.core.iotcored"))
	ggfleet("core", "restart", core)
	assert.NotEqual(t, mqtt, pid("ggl.core.iotcored"))
	m.Sh(t, "systemctl stop ggl.com.example.Press; rm /etc/systemd/system/ggl.com.example.Press.service; systemctl daemon-reload")
}
