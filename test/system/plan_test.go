package system_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
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

// Sites of the tests: classic's root, and the agent's folder for lite.
const (
	classicSite = "/greengrass/v2"
	liteSite    = "/var/lib/ggfleet/nucleus"
)

// planned is a machine with the simulator on it and archives of a nucleus.
type planned struct {
	*system.Machine
	t    *testing.T
	site string
}

// plan returns a machine with archives NAME = LAYOUT VERSION [BROKEN] below
// /media and a configuration.
func plan(t *testing.T, site, config string, archives map[string]string) planned {
	t.Helper()
	m := system.Boot(t)
	root, err := world.Root()
	require.NoError(t, err)
	dir := t.TempDir()
	sim := filepath.Join(dir, "ggfleet-sim")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", sim, "./test/cmd/ggfleet-sim")
	build.Dir = root
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for name, what := range archives {
		f := strings.Fields(what)
		args := []string{"pack", "--out", filepath.Join(dir, name), "--layout", f[0], "--version", f[1]}
		if len(f) > 2 {
			args = append(args, "--broken", f[2])
		}
		out, err := exec.Command(sim, args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		m.Copy(t, filepath.Join(dir, name), "/media/"+name)
	}
	m.Copy(t, sim, "/usr/local/bin/ggfleet-sim")
	m.Sh(t, "ln -s ggfleet-sim /usr/local/bin/java; mkdir -p "+site)
	cert, key := identity(t)
	m.Write(t, site+"/cert.pem", cert, 0o644)
	m.Write(t, site+"/private.key", key, 0o600)
	m.Write(t, site+"/root.pem", cert, 0o644)
	m.Write(t, "/media/config.yaml", []byte(strings.ReplaceAll(config, "SITE", site)), 0o644)
	return planned{m, t, site}
}

// rpm builds lite's rpm with the project's own packager, from what the archive of
// programs and units holds.
func (p planned) rpm(version string) {
	p.t.Helper()
	root, err := world.Root()
	require.NoError(p.t, err)
	nfpm, err := filepath.Glob(filepath.Join(root, "bin/tools/nfpm-*"))
	require.NoError(p.t, err)
	require.NotEmpty(p.t, nfpm, "there is no nfpm: make test-system installs it")
	dir := p.t.TempDir()
	tree := filepath.Join(dir, "aws-greengrass-lite-"+version+"-Linux/usr")
	script := `name: aws-greengrass-lite
arch: amd64
version: ` + version + `
maintainer: nobody
description: a stand-in
contents:
- {src: ` + tree + `/bin, dst: /usr/local/bin, type: tree}
- {src: ` + tree + `/lib/systemd/system, dst: /usr/lib/systemd/system, type: tree}
- {src: ` + tree + `/lib/tmpfiles.d, dst: /usr/lib/tmpfiles.d, type: tree}
`
	require.NoError(p.t, os.WriteFile(filepath.Join(dir, "nfpm.yaml"), []byte(script), 0o600))
	for _, c := range [][]string{
		{"tar", "-xzf", filepath.Join(p.Root, "media", version), "-C", dir},
		{nfpm[0], "package", "-f", filepath.Join(dir, "nfpm.yaml"), "-p", "rpm", "-t", filepath.Join(dir, "lite.rpm")},
	} {
		out, err := exec.Command(c[0], c[1:]...).CombinedOutput()
		require.NoError(p.t, err, "%s", out)
	}
	p.Copy(p.t, filepath.Join(dir, "lite.rpm"), "/media/"+version)
}

func identity(t *testing.T) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gw-1"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	require.NoError(t, err)
	b, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})
}

func (p planned) do(verb, archive string) string {
	p.t.Helper()
	return p.Sh(p.t, "ggfleet-sim plan "+verb+" --root "+p.site+" --archive /media/"+archive+" --config /media/config.yaml")
}

// files lists what a plan may change, with modes and links.
func (p planned) files() string {
	p.t.Helper()
	return p.Sh(p.t, "find "+p.site+" /etc /usr/local /usr/bin /usr/lib/systemd -path '*/versions' -prune -o -name .updated -prune -o -name '*.log' -prune -o -name ld.so.cache -prune -o \\( -type d -printf '%p %M %u\\n' \\) -o -printf '%p %M %u:%g %s %l\\n' | grep -vE '/etc/(passwd-|group-|shadow-|gshadow-|subuid|subgid|subuid-|subgid-|.pwd.lock) |/(passwd|group|shadow|gshadow) ' | sort")
}

func (p planned) pid(unit string) string {
	p.t.Helper()
	return strings.TrimSpace(p.Sh(p.t, "systemctl show -P MainPID "+unit))
}

const systemClassic = `---
system:
  certificateFilePath: SITE/cert.pem
  privateKeyPath: SITE/private.key
  rootCaPath: SITE/root.pem
  rootpath: SITE
  thingName: gw-1
services:
  aws.greengrass.Nucleus:
    componentType: NUCLEUS
    version: 2.10.0
    configuration:
      awsRegion: us-east-1
      iotRoleAlias: local
      iotDataEndpoint: localhost
      iotCredEndpoint: localhost:8444
      greengrassDataPlaneEndpoint: iotdata
`

var systemLite = strings.NewReplacer("aws.greengrass.Nucleus:", "aws.greengrass.NucleusLite:", "    version: 2.10.0\n", "", "rootpath: SITE", "rootPath: /var/lib/greengrass",
	"greengrassDataPlaneEndpoint: iotdata", "greengrassDataPlanePort: \"8443\"").Replace(systemClassic)

func TestClassicComesBesideIsSwitchedAndTakenBackOnSystemd(t *testing.T) {
	t.Parallel()
	p := plan(t, classicSite, systemClassic, map[string]string{"one.zip": "classic 2.10.0", "two.zip": "classic 2.18.0", "bad.zip": "classic 2.19.0 exit"})
	before := p.files()
	t.Log(p.do("show", "one.zip"))
	assert.Equal(t, before, p.files(), "showing changes nothing")
	p.do("prepare", "one.zip")
	p.do("switch", "one.zip")
	p.do("undo", "one.zip")
	assert.Equal(t, before, p.files(), "undone")

	p.do("prepare", "one.zip")
	p.do("switch", "one.zip")
	p.do("settle", "one.zip")
	p.Sh(t, "systemctl start greengrass; systemctl is-enabled greengrass; systemd-analyze verify greengrass.service")
	p.Until(t, "pgrep -f '[G]reengrass.jar' && test -s "+classicSite+"/logs/greengrass.log")
	pid, first := p.pid("greengrass"), p.files()
	p.do("prepare", "two.zip")
	assert.Equal(t, pid, p.pid("greengrass"), "what runs goes on")
	p.do("switch", "two.zip")
	java := strings.TrimSpace(p.Sh(t, "pgrep -f '[G]reengrass.jar'"))
	p.Sh(t, "pkill -USR1 -f '[G]reengrass.jar'") // the nucleus wants a restart: the loader starts it from the new place
	p.Until(t, "pgrep -f '[G]reengrass.jar' && test \"$(pgrep -f '[G]reengrass.jar')\" != "+java)
	assert.Contains(t, p.do("find", "two.zip"), `"Version":"2.18.0"`)
	p.do("back", "two.zip")
	p.do("undo", "two.zip")
	p.Sh(t, "systemctl restart greengrass")
	assert.Equal(t, first, p.files(), "back to the first")

	p.do("prepare", "bad.zip")
	p.do("switch", "bad.zip")
	p.Sh(t, "systemctl restart greengrass")
	p.Until(t, "systemctl show -P NRestarts greengrass | grep -v '^0' || test \"$(systemctl is-active greengrass)\" != active")
	p.do("undo", "bad.zip")
	p.Sh(t, "systemctl restart greengrass")
	p.Until(t, "pgrep -f '[G]reengrass.jar' && systemctl is-active greengrass")

	p.PowerCut(t)
	p.Until(t, "pgrep -f '[G]reengrass.jar' && systemctl is-active greengrass")
	p.Refuses(t, "ggfleet-sim plan remove --root "+classicSite+" --archive /media/one.zip")
	p.Sh(t, "systemctl stop greengrass")
	p.do("remove", "one.zip")
	p.Refuses(t, "ggfleet-sim plan find --root "+classicSite+" --archive /media/one.zip")
}

func TestLiteComesAsAnRPMAndGoesUpAndDown(t *testing.T) {
	t.Parallel()
	p := plan(t, liteSite, systemLite, map[string]string{"2.4.0": "lite 2.4.0", "2.5.0": "lite 2.5.0"})
	p.rpm("2.4.0")
	p.rpm("2.5.0")
	before := p.files()
	for _, verb := range []string{"prepare", "switch", "back", "undo"} {
		p.do(verb, "2.5.0")
	}
	assert.Equal(t, before, p.files(), "undone")
	for _, verb := range []string{"prepare", "switch", "settle"} {
		p.do(verb, "2.5.0")
	}
	p.Sh(t, "systemctl start greengrass-lite.target")
	p.Until(t, "systemctl is-active ggl.core.iotcored.service")
	first := p.files()
	p.do("prepare", "2.4.0")
	p.do("switch", "2.4.0")
	assert.Equal(t, "2.4.0-1", p.Sh(t, "rpm -q --qf '%{VERSION}-%{RELEASE}' aws-greengrass-lite"))
	assert.Contains(t, p.do("find", "2.4.0"), `"Version":"2.4.0"`)
	p.do("undo", "2.4.0")
	assert.Equal(t, "2.5.0-1", p.Sh(t, "rpm -q --qf '%{VERSION}-%{RELEASE}' aws-greengrass-lite"))
	assert.Equal(t, first, p.files(), "back to the first")
}

func TestLiteIsInstalledTurnedAndTakenBackOnSystemd(t *testing.T) {
	t.Parallel()
	tests := map[string]map[string]string{
		"as package":            {"one": "lite-deb 2.4.0", "two": "lite-zip 2.5.0"},
		"as programs and units": {"one": "lite 2.4.0", "two": "lite 2.5.0"},
	}
	for name, archives := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := plan(t, liteSite, systemLite, archives)
			before := p.files()
			t.Log(p.do("show", "one"))
			assert.Equal(t, before, p.files(), "showing changes nothing")
			p.do("prepare", "one")
			p.do("switch", "one")
			p.do("settle", "one")
			p.Sh(t, "systemctl start greengrass-lite.target")
			p.Until(t, "systemctl is-active greengrass-lite.target ggl.core.iotcored.service ggl.core.ggconfigd.service ggl.aws_iot_mqtt.socket")
			pid, first := p.pid("ggl.core.iotcored"), p.files()
			p.do("prepare", "two")
			assert.Equal(t, pid, p.pid("ggl.core.iotcored"), "what runs goes on")
			p.do("switch", "two")
			assert.Contains(t, p.do("find", "two"), map[bool]string{true: `"Version":"2.5.0"`, false: `"Root":"/var/lib/greengrass"`}[name == "as package"])
			p.Sh(t, "systemctl restart greengrass-lite.target")
			p.Until(t, "systemctl is-active ggl.core.iotcored.service")
			p.do("back", "two")
			p.do("undo", "two")
			assert.Equal(t, first, p.files(), "back to the first")
			p.Sh(t, "systemctl restart greengrass-lite.target")
			p.Until(t, "systemctl is-active ggl.core.iotcored.service")
			p.PowerCut(t)
			p.Until(t, "systemctl is-active greengrass-lite.target ggl.core.iotcored.service")
			p.Sh(t, "systemctl stop greengrass-lite.target")
			p.do("remove", "one")
			p.Sh(t, "test -e /etc/greengrass/config.yaml; ! test -e /etc/systemd/system/multi-user.target.wants/greengrass-lite.target")
		})
	}
}
