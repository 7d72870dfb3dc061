package reconcile_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/agenttest"
	"github.com/ggfleet/ggfleet/agent/internal/keystore"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/agent/internal/reconcile"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// cloud answers from memory.
type cloud struct {
	assignment protocol.CoreAssignment
	config     string
	zip        []byte
	archive    []byte
	configs    int
}

func (c *cloud) Core(context.Context, protocol.AssignmentQuery) (protocol.CoreAssignment, error) {
	return c.assignment, nil
}

func (c *cloud) CoreCertificate(context.Context, string) (string, error) {
	return "", errors.New("nobody signs here")
}
func (c *cloud) CoreCerts(context.Context) ([]byte, error) { return c.zip, nil }
func (c *cloud) CoreConfig(context.Context) ([]byte, error) {
	c.configs++
	return []byte(c.config), nil
}

func (c *cloud) Download(_ context.Context, _ protocol.Distribution, f *os.File) error {
	_, err := f.WriteAt(c.archive, 0)
	return err
}

// supervisor notes what it is told.
type supervisor struct {
	used  []process.Spec
	again []bool
	told  []process.Installation
	fail  map[string]error // by version, and of "restart"

	restarts int
	health   process.Health
}

func (s *supervisor) Use(_ context.Context, spec process.Spec, restart bool) error {
	s.used, s.again = append(s.used, spec), append(s.again, restart)
	return s.fail[spec.Version.Version]
}

func (s *supervisor) Stop(context.Context, process.Spec) error { return nil }
func (s *supervisor) Restart(context.Context) error            { s.restarts++; return s.fail["restart"] }
func (s *supervisor) Health() process.Health                   { return s.health }

func (s *supervisor) Installing(_ context.Context, i process.Installation) {
	s.told = append(s.told, i)
}

type device struct {
	cloud *cloud
	sup   *supervisor
	loop  *reconcile.Loop
	root  string

	cfg     reconcile.Config
	kill    bool   // the agent is killed when a version is on trial
	onTrial func() // called when a version is on trial and before anything of it is used; may be nil
}

func newDevice(t *testing.T) *device {
	t.Helper()
	d := &device{}
	dir, err := localstate.Open(t.TempDir(), func(p localstate.Point, do func() error) error {
		err := do()
		if p == localstate.Trial && d.onTrial != nil {
			d.onTrial()
		}
		if p == localstate.Trial && d.kill {
			return errKilled
		}
		return err
	})
	require.NoError(t, err)
	site, err := nucleus.OpenSite(dir.Site(), nucleus.Limits{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = site.Close(); _ = dir.Close() })
	require.NoError(t, dir.Root().MkdirAll("downloads", 0o700))
	*d = device{
		cloud: &cloud{assignment: protocol.CoreAssignment{Core: "gw", HasCertificate: true, CertsZip: true, Config: true, CAPEM: "CA"}},
		sup:   &supervisor{fail: map[string]error{}}, root: dir.Site(),
	}
	d.cloud.config = "system: {certificateFilePath: /g/c.pem, privateKeyPath: /g/keys/k.pem, rootCaPath: /g/ca.pem, rootpath: /g, thingName: gw}\n"
	d.cloud.zip = pair(t)
	d.cfg = reconcile.Config{Core: "gw", Dir: dir, Site: site, Cloud: d.cloud, Supervisor: d.sup}
	d.anew(t)
	return d
}

// anew gives the device another agent.
func (d *device) anew(t *testing.T) {
	t.Helper()
	var err error
	d.loop, err = reconcile.New(d.cfg)
	require.NoError(t, err)
}

// pair is certs.zip with a certificate that fits its key.
func pair(t *testing.T) []byte {
	t.Helper()
	_, key, err := keystore.NewKey()
	require.NoError(t, err)
	return agenttest.CertsZip(t, agenttest.SelfSigned(t, key), key)
}

func (d *device) read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(d.root, name))
	require.NoError(t, err)
	return string(b)
}

func TestFilesGoWhereTheConfigurationSays(t *testing.T) {
	d := newDevice(t)
	require.NoError(t, d.loop.Pass(t.Context()))
	assert.Contains(t, d.read(t, "config/config.yaml"), "rootpath: "+d.root+",")
	assert.Contains(t, d.read(t, "c.pem"), "BEGIN CERTIFICATE")
	assert.Contains(t, d.read(t, "keys/k.pem"), "BEGIN PRIVATE KEY")
	assert.Equal(t, "CA", d.read(t, "ca.pem"))
	info, err := os.Stat(filepath.Join(d.root, "keys/k.pem"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	require.NoError(t, d.loop.Pass(t.Context()))
	assert.Equal(t, 1, d.cloud.configs, "a quiet core asks for its assignment only")
	d.cloud.assignment.CAPEM = "other CA"
	require.NoError(t, d.loop.Pass(t.Context()))
	assert.Equal(t, "other CA", d.read(t, "ca.pem"))
	assert.Equal(t, 2, d.cloud.configs, "a changed assignment has it fetched again")
}

func TestWhatTheControlPlaneMayNotDo(t *testing.T) {
	tests := map[string]struct {
		change func(*cloud)
		field  string
	}{
		"configure another core":       {func(c *cloud) { c.config = "system: {thingName: other}" }, "system.thingName"},
		"write over the agent's state": {func(c *cloud) { c.config = "system: {rootpath: /g, privateKeyPath: /g/agent/key.pem}" }, "system.privateKeyPath"},
		"write into a version":         {func(c *cloud) { c.config = "system: {rootpath: /g, rootCaPath: /g/versions/x/bin}" }, "system.rootCaPath"},
		"put two files in one place":   {func(c *cloud) { c.config = "system: {rootpath: /g, rootCaPath: /g/x, certificateFilePath: /g/x}" }, "system.rootCaPath"},
		"replace the configuration":    {func(c *cloud) { c.config = "system: {rootpath: /g, rootCaPath: /g/config/config.yaml}" }, "system.rootCaPath"},
		"assign another core":          {func(c *cloud) { c.assignment.Core = "other" }, ""},
		"send no zip":                  {func(c *cloud) { c.zip = []byte("no") }, ""},
		"offer a name with a slash":    {func(c *cloud) { c.assignment.Nucleus = &protocol.Distribution{Name: "a/b", Version: "1", Digest: "x"} }, "name"},
		"offer a digest that is a path": {func(c *cloud) {
			c.assignment.Nucleus = &protocol.Distribution{Name: "a", Version: "1", Digest: "../../x"}
		}, "digest"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t)
			tc.change(d.cloud)
			err := d.loop.Pass(t.Context())
			require.ErrorIs(t, err, fault.Invalid)
			assert.Equal(t, tc.field, fault.FieldOf(err))
			assert.Empty(t, d.sup.used)
		})
	}
}

func (d *device) offer(t *testing.T, version string) {
	t.Helper()
	d.cloud.archive = agenttest.Archive(t, version, agenttest.Works)
	d.cloud.assignment.Nucleus = agenttest.Distribution(version, d.cloud.archive)
}

func TestAChangedConfigurationRestartsTheNucleus(t *testing.T) {
	d := newDevice(t)
	d.offer(t, "1.0.0")
	require.NoError(t, d.loop.Pass(t.Context()))
	require.NoError(t, d.loop.Pass(t.Context()))
	d.cloud.assignment.CAPEM = "other CA"
	require.NoError(t, d.loop.Pass(t.Context()))
	require.NoError(t, d.loop.Pass(t.Context()))
	assert.Equal(t, []bool{false, true, false}, d.sup.again[1:])
}

func TestAFailedVersionIsNotTriedAgainUntilAnotherIsOffered(t *testing.T) {
	d := newDevice(t)
	d.offer(t, "1.0.0")
	require.NoError(t, d.loop.Pass(t.Context()))
	d.sup.fail["2.0.0"] = process.ErrUnproven
	d.offer(t, "2.0.0")
	require.NoError(t, d.loop.Pass(t.Context()))
	before := len(d.sup.used)
	require.NoError(t, d.loop.Pass(t.Context()))
	for _, s := range d.sup.used[before:] {
		assert.Equal(t, "1.0.0", s.Version.Version)
	}
	d.offer(t, "3.0.0")
	require.NoError(t, d.loop.Pass(t.Context()))
	assert.Equal(t, "3.0.0", d.sup.used[len(d.sup.used)-1].Version.Version)
}

func TestADiskThatCannotBeWrittenIsReported(t *testing.T) {
	d := newDevice(t)
	d.offer(t, "1.0.0")
	require.NoError(t, os.WriteFile(filepath.Join(d.root, "versions"), nil, 0o600)) // in the way
	require.Error(t, d.loop.Pass(t.Context()))
	require.NotEmpty(t, d.sup.told)
	assert.Contains(t, d.sup.told[len(d.sup.told)-1].Err, "versions")
	require.NoError(t, os.Remove(filepath.Join(d.root, "versions")))
	require.NoError(t, d.loop.Pass(t.Context()))
	assert.Len(t, d.sup.used, 1)
}

func TestDamagedFilesAreFetchedAgain(t *testing.T) {
	d := newDevice(t)
	d.offer(t, "1.0.0")
	require.NoError(t, d.loop.Pass(t.Context()))
	list, err := filepath.Glob(filepath.Join(d.root, "versions/*/distribution.json"))
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.NoError(t, os.WriteFile(list[0], []byte("{"), 0o600))
	require.Error(t, d.loop.Pass(t.Context()), "the damaged version is removed")
	require.NoError(t, d.loop.Pass(t.Context()))
	assert.FileExists(t, list[0])
	assert.Equal(t, "1.0.0", d.sup.used[len(d.sup.used)-1].Version.Version)
}
