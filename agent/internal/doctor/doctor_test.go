package doctor_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/doctor"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/pki"
)

func TestAHealthyDeviceIsFoundHealthy(t *testing.T) {
	h := newHealthy(t)
	for _, r := range doctor.Run(t.Context(), h.host, h.device) {
		assert.Equal(t, doctor.OK, r.Status, "%s %s: %s", r.Code, r.Name, r.Detail)
		assert.NotEmpty(t, r.Detail)
		assert.Empty(t, r.Fix)
	}
}

type broken struct {
	code   string
	status doctor.Status
	says   string
	spoil  func(t *testing.T, h *healthy)
}

//nolint:funlen // a table
func cases() map[string]broken {
	const W, F = doctor.Warning, doctor.Failed
	volume := func(path string, change func(*doctor.Volume)) func(*testing.T, *healthy) {
		return func(_ *testing.T, h *healthy) {
			v := h.volume[""]
			change(&v)
			h.volume[path] = v
		}
	}
	device := func(change func(*doctor.Device)) func(*testing.T, *healthy) {
		return func(_ *testing.T, h *healthy) { change(&h.device) }
	}
	nucleus := func(change func(*doctor.Nucleus)) func(*testing.T, *healthy) {
		return func(_ *testing.T, h *healthy) { change(&h.device.Nucleus) }
	}
	vitals := func(change func(*doctor.Vitals)) func(*testing.T, *healthy) {
		return func(_ *testing.T, h *healthy) { change(&h.vitals) }
	}
	config := func(from, to string) func(*testing.T, *healthy) {
		return nucleus(func(n *doctor.Nucleus) { n.Config = []byte(strings.ReplaceAll(configDocument, from, to)) })
	}
	answers := func(status int) func(*testing.T, *healthy) {
		return func(_ *testing.T, h *healthy) {
			healthy := h.answer
			h.answer = func(w http.ResponseWriter, r *http.Request) {
				healthy(w, r)
				http.Error(w, `{"message":"no"}`, status)
			}
		}
	}
	clock := func(off time.Duration) func(*testing.T, *healthy) {
		return func(t *testing.T, h *healthy) {
			h.answer = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", at(t, now).Add(off).Format(http.TimeFormat))
			}
		}
	}
	closed := func(address string) func(*testing.T, *healthy) {
		return func(_ *testing.T, h *healthy) { h.closed[address] = true }
	}
	setenv := func(name, value string) func(*testing.T, *healthy) {
		return func(_ *testing.T, h *healthy) {
			h.host.Getenv = func(n string) string {
				if n == name {
					return value
				}
				return ""
			}
		}
	}
	return map[string]broken{
		"a folder that cannot be written": {"D101", F, "read-only", func(_ *testing.T, h *healthy) {
			h.host.Probe = func(string) error { return errors.New("read-only file system") }
		}},
		"a disk mounted read-only":   {"D102", F, "read-only", volume("/device", func(v *doctor.Volume) { v.ReadOnly = true })},
		"a disk that is nearly full": {"D103", W, "100 MB of 8192 MB", volume("/device", func(v *doctor.Volume) { v.Free = 100 << 20 })},
		"a full disk":                {"D103", F, "1 MB", volume("/device", func(v *doctor.Volume) { v.Free = 1 << 20 })},
		"too many files":             {"D104", F, "0 of", volume("/device", func(v *doctor.Volume) { v.InodesFree = 0 })},
		"a disk mounted noexec":      {"D105", F, "noexec", volume("/device", func(v *doctor.Volume) { v.NoExecute = true })},
		"programs that do not start": {"D105", F, "denied", func(_ *testing.T, h *healthy) {
			h.host.Runs = func(context.Context, string) error { return errors.New("permission denied") }
		}},
		"little memory":                 {"D106", W, "available", vitals(func(v *doctor.Vitals) { v.MemoryAvailable = ptr(uint64(40 << 20)) })},
		"no memory":                     {"D106", F, "available", vitals(func(v *doctor.Vitals) { v.MemoryAvailable = ptr(uint64(1 << 20)) })},
		"a machine with too much to do": {"D107", W, "load 17.0 on 4", vitals(func(v *doctor.Vitals) { v.Load1 = ptr(17.0) })},
		"a warm machine":                {"D108", W, "85 °C", vitals(func(v *doctor.Vitals) { v.Celsius = ptr(85.0) })},
		"a hot machine":                 {"D108", F, "99 °C", vitals(func(v *doctor.Vitals) { v.Celsius = ptr(99.0) })},
		"a clock in 1970":               {"D109", F, "1970", func(_ *testing.T, h *healthy) { h.host.Now = func() time.Time { return time.Unix(1000, 0) } }},
		"a clock that nobody sets":      {"D110", W, "not synchronised", vitals(func(v *doctor.Vitals) { v.ClockSynchronized = ptr(false) })},
		"an agent without rights":       {"D111", W, "without", func(_ *testing.T, h *healthy) { h.host.Root = false }},
		"few open files":                {"D112", W, "1024", vitals(func(v *doctor.Vitals) { v.OpenFiles = ptr(uint64(1024)) })},
		"a system without systemd":      {"D113", W, "no service manager", device(func(d *doctor.Device) { d.Service = doctor.ServiceState{} })},
		"an agent that is no service":   {"D114", W, "not installed", device(func(d *doctor.Device) { d.Service.Installed = false })},
		"a service that does not run":   {"D114", F, "does not run", device(func(d *doctor.Device) { d.Service.Running = false })},
		"a service that is not enabled": {"D114", W, "will not start", device(func(d *doctor.Device) { d.Service.Enabled = false })},
		"control groups without memory": {"D115", W, "memory", func(_ *testing.T, h *healthy) { h.files["/sys/fs/cgroup/cgroup.controllers"] = "cpu pids" }},
		"control groups of version 1": {"D115", W, "cpu", func(_ *testing.T, h *healthy) {
			h.files = map[string]string{"/proc/cgroups": "#subsys_name\thierarchy\tnum\tenabled\ncpu\t3\t1\t0\nmemory\t4\t1\t1\n"}
		}},
		"no control groups":             {"D115", W, "none", func(_ *testing.T, h *healthy) { h.files = nil }},
		"a system without nucleus":      {"D116", F, "linux/riscv64", func(_ *testing.T, h *healthy) { h.host.Arch = "riscv64" }},
		"a device that is not enrolled": {"D201", F, "no identity", device(func(d *doctor.Device) { *d = doctor.Device{Root: d.Root, Core: true, Service: d.Service} })},
		"a device that waits to be let in": {"D201", F, "enrollment list", device(func(d *doctor.Device) {
			*d = doctor.Device{Root: d.Root, Core: true, Service: d.Service, Asks: "https://fleet.example:8443"}
		})},
		"a damaged identity":              {"D202", F, "bad key", device(func(d *doctor.Device) { d.Damaged = errors.New("bad key") })},
		"a key that others can read":      {"D203", F, "key.pem", func(_ *testing.T, h *healthy) { h.modes["/device/agent/key.pem"] = 0o640 }},
		"an agent certificate at its end": {"D204", W, "it ends at", device(func(d *doctor.Device) { d.Certificate.NotAfter = d.Certificate.NotBefore.AddDate(0, 1, 2) })},
		"an expired agent certificate":    {"D204", F, "it ended at", device(func(d *doctor.Device) { d.Certificate.NotAfter = d.Certificate.NotBefore.AddDate(0, 0, 2) })},
		"no network": {"D301", F, "of 1 interfaces", func(_ *testing.T, h *healthy) {
			h.host.Interfaces = func() ([]doctor.Interface, error) { return []doctor.Interface{{Name: "eth0"}}, nil }
		}},
		"a proxy that is no address": {"D302", F, "no address", setenv("HTTPS_PROXY", "://x")},
		"a name that nobody knows": {"D303", F, "no such host", func(_ *testing.T, h *healthy) {
			h.host.Resolve = func(context.Context, string) ([]string, error) { return nil, errors.New("no such host") }
		}},
		"a closed HTTPS port": {"D304", F, "refused", func(_ *testing.T, h *healthy) {
			h.device.URL = "https://fleet.example:9443"
			h.closed["fleet.example:9443"] = true
		}},
		"somebody else's HTTPS": {"D305", F, "unknown authority", func(t *testing.T, h *healthy) {
			h.device.URL = "https://fleet.example:9443"
			impostor(t, h, "fleet.example:9443")
		}},
		"a server certificate at its end": {"D306", W, "it ends at", func(_ *testing.T, h *healthy) { h.serverLife = 33 * 24 * time.Hour }},
		"clocks that differ":              {"D307", W, "2m0s ahead", clock(2 * time.Minute)},
		"clocks that differ much":         {"D307", F, "-1h0m0s ahead", clock(-time.Hour)},
		"an agent that was revoked":       {"D308", F, "403", answers(http.StatusForbidden)},
		"a server in trouble":             {"D308", W, "503", answers(http.StatusServiceUnavailable)},
		"a closed MQTT port": {"D309", F, "refused", func(_ *testing.T, h *healthy) {
			h.device.MQTTAddress = "fleet.example:1883"
			h.closed["fleet.example:1883"] = true
		}},
		"somebody else's MQTT": {"D310", F, "unknown authority", func(t *testing.T, h *healthy) {
			h.device.MQTTAddress = "fleet.example:1883"
			impostor(t, h, "fleet.example:1883")
		}},
		"a core without configuration":         {"D401", F, "none", nucleus(func(n *doctor.Nucleus) { n.Config = nil })},
		"the configuration of another":         {"D401", F, `of "gw-2"`, config("gw-1", "gw-2")},
		"a configuration that is no YAML":      {"D401", F, "", config("{", "[")},
		"a configuration without endpoint":     {"D401", F, "stays offline", config("iotDataEndpoint: fleet.example, ", "")},
		"a core certificate that does not fit": {"D402", F, "another key", nucleus(func(n *doctor.Nucleus) { n.Certificate.Err = errors.New("for another key") })},
		"no core certificate":                  {"D402", F, "none", nucleus(func(n *doctor.Nucleus) { n.Certificate = doctor.Certificate{} })},
		"an expired core certificate":          {"D402", F, "it ended at", nucleus(func(n *doctor.Nucleus) { n.Certificate.NotAfter = n.Certificate.NotBefore.AddDate(0, 0, 3) })},
		"a core certificate of the future":     {"D402", F, "begins only", nucleus(func(n *doctor.Nucleus) { n.Certificate.NotBefore = n.Certificate.NotBefore.AddDate(0, 2, 0) })},
		"a core that trusts nobody":            {"D403", F, "lacks", nucleus(func(n *doctor.Nucleus) { n.Trusts = false })},
		"no nucleus": {"D404", F, "digest", nucleus(func(n *doctor.Nucleus) {
			*n = doctor.Nucleus{Config: n.Config, Certificate: n.Certificate, Trusts: true, LastError: "wrong digest"}
		})},
		"no Java":                          {"D405", F, "no java", func(_ *testing.T, h *healthy) { look := h.host.LookPath; h.host.LookPath = without(look, "java") }},
		"an old Java":                      {"D405", F, "version 7", func(_ *testing.T, h *healthy) { h.outputs["/usr/bin/java -version"] = `java version "1.7.0_80"` }},
		"a Java that does not start":       {"D405", F, "exit status 1", func(_ *testing.T, h *healthy) { delete(h.outputs, "/usr/bin/java -version") }},
		"a Java of unknown version":        {"D405", W, "does not tell", func(_ *testing.T, h *healthy) { h.outputs["/usr/bin/java -version"] = "?" }},
		"no user for components":           {"D406", F, "no user x", nucleus(func(n *doctor.Nucleus) { n.User = "x" })},
		"no group for components":          {"D406", F, "no group x", nucleus(func(n *doctor.Nucleus) { n.Group = "x" })},
		"a program that is gone":           {"D407", F, "not exist", nucleus(func(n *doctor.Nucleus) { n.Program = "/gone" })},
		"a program without its bit":        {"D407", F, "not executable", func(_ *testing.T, h *healthy) { h.modes["/device/program"] = 0o644 }},
		"a nucleus that does not run":      {"D408", F, "exit status 3", nucleus(func(n *doctor.Nucleus) { n.Running, n.LastError = false, "exit status 3" })},
		"a unit that failed":               {"D409", F, "greengrass.service is failed", func(_ *testing.T, h *healthy) { h.outputs["systemctl greengrass.service"] = "failed\n" }},
		"a unit that is gone":              {"D409", F, "exit status 1", func(_ *testing.T, h *healthy) { delete(h.outputs, "systemctl greengrass.service") }},
		"a nucleus that ends all the time": {"D410", F, "7 times", nucleus(func(n *doctor.Nucleus) { n.Restarts = 7 })},
		"a version that failed":            {"D411", W, "2.19", nucleus(func(n *doctor.Nucleus) { n.Rejected = "2.19.0 was not ready" })},
		"an MQTT endpoint out of reach": {"D412", F, "refused", func(t *testing.T, h *healthy) {
			config("iotDataEndpoint: fleet.example,", "iotDataEndpoint: data.example,")(t, h)
			closed("data.example:8883")(t, h)
		}},
		"credentials out of reach": {"D413", F, "refused", func(t *testing.T, h *healthy) {
			config("fleet.example:8443", "cred.example:443")(t, h)
			closed("cred.example:443")(t, h)
		}},
		"a data plane out of reach": {"D414", F, "refused", func(t *testing.T, h *healthy) {
			config("iotdata", "plane.example:7")(t, h)
			closed("plane.example:7")(t, h)
		}},
		"a nucleus that complains":        {"D415", W, "40 lines", nucleus(func(n *doctor.Nucleus) { n.LogErrors = 40 })},
		"a full disk of the nucleus":      {"D416", F, "0 MB", volume("/greengrass/v2", func(v *doctor.Volume) { v.Free = 0 })},
		"a read-only disk of the nucleus": {"D416", F, "read-only", volume("/greengrass/v2", func(v *doctor.Volume) { v.ReadOnly = true })},
		"reports that wait":               {"D501", W, "2048 KB wait", device(func(d *doctor.Device) { d.Waiting = 2 << 20 })},
		"reports that were lost":          {"D502", W, "3 were", device(func(d *doctor.Device) { d.Dropped = 3 })},
		"patches without Ansible":         {"D503", F, "ansible", func(_ *testing.T, h *healthy) { h.host.LookPath = without(h.host.LookPath, "ansible-playbook") }},
		"a nucleus with a flipped bit": {"D417", F, "bin/x is damaged", nucleus(func(n *doctor.Nucleus) {
			n.Files = func(context.Context) error { return fault.New(fault.Invalid, "bin/x is damaged") }
		})},
		"a record that was damaged": {"D505", W, "identity.json.damaged", device(func(d *doctor.Device) { d.Aside = []string{"/device/agent/identity.json.damaged"} })},
		"an update that failed":     {"D504", W, "1.5.0", device(func(d *doctor.Device) { d.Update.Rejected = "1.5.0 crashed" })},
	}
}

func without(look func(string) (string, error), program string) func(string) (string, error) {
	return func(name string) (string, error) {
		if name == program {
			return "", os.ErrNotExist
		}
		return look(name)
	}
}

// impostor answers on address in place of the control plane, with a CA of its
// own.
func impostor(t *testing.T, h *healthy, address string) {
	t.Helper()
	other := *h
	root, err := pki.NewRoot("impostor", at(t, now).AddDate(-1, 0, 0), 10*365*24*time.Hour)
	require.NoError(t, err)
	other.root = root
	server, dial := (&other).serve(t), h.host.Dial
	h.host.Dial = func(ctx context.Context, network, to string) (net.Conn, error) {
		if to == address {
			return (&net.Dialer{}).DialContext(ctx, network, server)
		}
		return dial(ctx, network, to)
	}
}

func TestWhatIsBrokenIsFoundAndNothingElse(t *testing.T) {
	seen := map[string]bool{}
	for name, c := range cases() {
		seen[c.code] = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHealthy(t)
			c.spoil(t, h)
			results := doctor.Run(t.Context(), h.host, h.device)
			var found []string
			for _, r := range results {
				if r.Status != doctor.Failed && r.Status != doctor.Warning {
					continue
				}
				found = append(found, r.Code)
				assert.NotEmpty(t, r.Meaning)
				assert.NotEmpty(t, r.Fix)
				if r.Code == c.code {
					assert.Equal(t, c.status, r.Status, r.Detail)
					assert.Contains(t, r.Detail, c.says)
				} else {
					t.Errorf("%s %s: %s", r.Code, r.Name, r.Detail)
				}
			}
			assert.Equal(t, []string{c.code}, found)
			assert.Equal(t, c.status, doctor.Worst(results))
		})
	}
	for _, c := range doctor.Checks() {
		assert.True(t, seen[c.Code], "nothing breaks %s %s", c.Code, c.Name)
	}
}

func TestTheTableOfChecks(t *testing.T) {
	var codes []string
	for _, c := range doctor.Checks() {
		assert.Regexp(t, `^D[1-9]\d\d$`, c.Code)
		assert.NotContains(t, codes, c.Code, "twice")
		for _, need := range c.Needs {
			assert.Contains(t, codes, need, "%s needs what comes later", c.Code)
		}
		assert.NotEmpty(t, c.Name)
		assert.True(t, strings.HasSuffix(c.Meaning, ".") && strings.HasSuffix(c.Fix, "."), c.Code)
		codes = append(codes, c.Code)
	}
	assert.GreaterOrEqual(t, len(codes), 25)
	assert.True(t, slices.IsSorted(codes))
}

func result(t *testing.T, h *healthy, code string) doctor.Result {
	t.Helper()
	results := doctor.Run(t.Context(), h.host, h.device)
	i := slices.IndexFunc(results, func(r doctor.Result) bool { return r.Code == code })
	require.GreaterOrEqual(t, i, 0)
	return results[i]
}

func TestAServiceThatWaitsForTheEnrolmentIsNoComplaint(t *testing.T) {
	h := newHealthy(t)
	h.device = doctor.Device{Root: "/device", Core: true, Service: doctor.ServiceState{Manager: "systemd", Installed: true, Enabled: true}}
	r := result(t, h, "D114")
	assert.Equal(t, doctor.Skipped, r.Status, "%v", r)
	assert.Contains(t, r.Detail, "enrolled")
	h.device.Asks = "https://fleet.example:8443" // it knows how: it should run and ask
	assert.Equal(t, doctor.Failed, result(t, h, "D114").Status)
}

func TestTheWayToTheControlPlaneIsLookedAtBeforeTheEnrolment(t *testing.T) {
	h := newHealthy(t)
	url := h.device.URL
	h.device = doctor.Device{Root: "/device", Core: true, Service: h.device.Service, Asks: url, URL: url}
	assert.Equal(t, doctor.OK, result(t, h, "D304").Status)
	assert.Equal(t, doctor.Skipped, result(t, h, "D305").Status)
	assert.Equal(t, doctor.Skipped, result(t, h, "D309").Status, "nobody knows yet where that is")
	h.closed["fleet.example:8443"] = true
	assert.Equal(t, doctor.Failed, result(t, h, "D304").Status)
	h.host.Resolve = func(context.Context, string) ([]string, error) { return nil, errors.New("no such host") }
	assert.Equal(t, doctor.Failed, result(t, h, "D303").Status)
}

func TestTheGroupThatWasNamedMayReadTheKeyOfAClientDevice(t *testing.T) {
	h := newHealthy(t)
	h.device.Shared = []string{"/device/private.key"}
	for mode, want := range map[fs.FileMode]doctor.Status{0o600: doctor.OK, 0o640: doctor.OK, 0o660: doctor.Failed, 0o644: doctor.Failed} {
		h.modes["/device/private.key"] = mode
		assert.Equal(t, want, result(t, h, "D203").Status, mode)
	}
}

func TestTheJavaThatIsSetIsLookedAt(t *testing.T) {
	h := newHealthy(t)
	h.device.Nucleus.Java = "/opt/jre/bin/java"
	h.host.LookPath = func(program string) (string, error) {
		if program == "java" {
			return "", os.ErrNotExist
		}
		return program, nil
	}
	h.outputs["/opt/jre/bin/java -version"] = `openjdk version "21.0.1"`
	r := result(t, h, "D405")
	assert.Equal(t, doctor.OK, r.Status, "%v", r)
	assert.Contains(t, r.Detail, "/opt/jre/bin/java is version 21")
}

func TestAClientDeviceHasNoNucleusToLookAt(t *testing.T) {
	h := newHealthy(t)
	h.device.Core, h.device.Nucleus = false, doctor.Nucleus{}
	for _, r := range doctor.Run(t.Context(), h.host, h.device) {
		want := doctor.OK
		if strings.HasPrefix(r.Code, "D4") || r.Code == "D116" {
			want = doctor.Skipped
		}
		assert.Equal(t, want, r.Status, "%s: %s", r.Code, r.Detail)
	}
}

func TestWhatIsUnknownIsNoComplaint(t *testing.T) {
	h := newHealthy(t)
	h.vitals = doctor.Vitals{}
	h.host.Volume = func(string) (doctor.Volume, error) { return doctor.Volume{}, errors.New("not here") }
	h.host.Interfaces = func() ([]doctor.Interface, error) { return nil, errors.New("not here") }
	for _, r := range doctor.Run(t.Context(), h.host, h.device) {
		assert.NotContains(t, []doctor.Status{doctor.Failed, doctor.Warning}, r.Status, "%s: %s", r.Code, r.Detail)
	}
}

func TestAnAgentWhoseCertificateIsRefusedByTLSIsToldSo(t *testing.T) {
	h := newHealthy(t)
	h.host.Settle = 5 * time.Minute // it is refused before, however slow the machine is
	connect := h.device.TLS
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		h.device.TLS = func(host string) *tls.Config {
			c := connect(host)
			c.Certificates, c.MinVersion, c.MaxVersion = nil, version, version
			return c
		}
		results := doctor.Run(t.Context(), h.host, h.device)
		find := func(code string) doctor.Result {
			return results[slices.IndexFunc(results, func(r doctor.Result) bool { return r.Code == code })]
		}
		assert.Equal(t, doctor.Failed, find("D310").Status)
		assert.Contains(t, find("D310").Detail, "remote error")
		if version == tls.VersionTLS13 { // only there is the server known by then
			assert.Equal(t, doctor.OK, find("D305").Status, "the server is the right one")
			assert.Equal(t, doctor.Skipped, find("D307").Status)
			assert.Equal(t, doctor.Failed, find("D308").Status)
			assert.Contains(t, find("D308").Detail, "does not take the certificate of gw-1:agent")
		}
	}
}

func TestTheDocumentNamesEveryCheck(t *testing.T) {
	document, err := os.ReadFile("../../../docs/doctor.md")
	require.NoError(t, err)
	for _, c := range doctor.Checks() {
		assert.Contains(t, string(document), "| "+c.Code+" | "+c.Name+" | "+c.Meaning+" | "+c.Fix+" |\n")
	}
	assert.Equal(t, len(doctor.Checks()), strings.Count(string(document), "\n| D"), "rows of checks that are gone")
}
