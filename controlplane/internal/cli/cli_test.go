package cli_test

import (
	"bytes"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cli"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi"
	"github.com/ggfleet/ggfleet/controlplane/internal/edge/fleetapi/fleetapitest"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/telemetry"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// operator has a server and its data directory.
type operator struct {
	*fleetapitest.Fake
	url, dir string
}

func newOperator(t *testing.T) operator {
	t.Helper()
	fake := fleetapitest.New()
	handler, err := fleetapi.New(fake.Config())
	require.NoError(t, err)
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "admin.token"), []byte(fleetapitest.AdminToken+"\n"), 0o600))
	return operator{fake, s.URL, dir}
}

// run types a command line; words are separated by spaces.
func (o operator) run(t *testing.T, line string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := cli.New("1.2.3", nil)
	c.SetOut(&out)
	c.SetErr(&bytes.Buffer{})
	c.SetArgs(append([]string{"--server", o.url, "--data-dir", o.dir}, strings.Fields(line)...))
	err := c.ExecuteContext(t.Context())
	return trim(out.String()), err
}

// trim drops the spaces that a table pads its lines with.
func trim(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

func TestTheWholeJobFromTheCommandLine(t *testing.T) {
	o := newOperator(t)
	o.AddStub("aws.greengrass.Cli", "2.5.0")
	dir := t.TempDir()
	recipe := filepath.Join(dir, "recipe.yaml")
	require.NoError(t, os.WriteFile(recipe, []byte("ComponentName: com.example.Press\nComponentVersion: 1.0.0\n  - URI: greengrass:press.tar.gz\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "press.tar.gz"), []byte("bytes"), 0o600))
	archive := filepath.Join(dir, "archive")
	require.NoError(t, os.WriteFile(archive, []byte("PK\x03\x04"), 0o600))

	for _, c := range []struct{ line, want string }{
		{"component create " + recipe + " --artifacts " + dir, `
NAME                VERSION   STATE        STUB   MISSING
com.example.Press   1.0.0     DEPLOYABLE`},
		{"component list", `
NAME                 VERSION   STATE        STUB   MISSING
aws.greengrass.Cli   2.5.0     DEPLOYABLE   stub
com.example.Press    1.0.0     DEPLOYABLE`},
		{"template create press-line --component com.example.Press=1.0.0", "press-line:1"},
		{"template update press-line --component com.example.Press=1.0.0 --component aws.greengrass.Cli=2.5.0", "press-line:2"},
		{"template get press-line", `
TEMPLATE       COMPONENT            VERSION
press-line:2   com.example.Press    1.0.0
press-line:2   aws.greengrass.Cli   2.5.0`},
		{"core create press-07 press-08", `
TASK        CORE       STATUS    MESSAGE
core-0001   press-07   Success
core-0001   press-08   Success`},
		{"activation create press-07", "ggf1.example"},
		{"deploy create press-line:1 --core press-07 --watch", `
TASK        TEMPLATE       CORE       STARTED   ON THE DEVICE   MESSAGE
depl-0001   press-line:1   press-07   Success   Success`},
		{"deploy create press-line --core press-08 --no-wait", "depl-0002"},
		{"deploy watch depl-0002", `
TASK        TEMPLATE       CORE       STARTED   ON THE DEVICE   MESSAGE
depl-0002   press-line:2   press-08   Success   Success`},
		{"core list", `
NAME       DESIRED        REPORTED       DEPLOYMENT   AGENT
press-07   press-line:1   press-line:1   Success
press-08   press-line:2   press-line:2   Success`},
		{"fleet summary", `
TEMPLATE     VERSION   DESIRED   REPORTED   SUCCESS   FAILED   IN PROGRESS
press-line   1               1          1         1        0             0
press-line   2               1          1         1        0             0`},
		{"fleet summary -o yaml", `
templates:
  press-line:
    latestVersion: 2
    versions:
      "1":
        desiredInUse: 1
        lastDeploymentFailed: 0
        lastDeploymentInProgress: 0
        lastDeploymentSuccess: 1
        reportedInUse: 1
      "2":
        desiredInUse: 1
        lastDeploymentFailed: 0
        lastDeploymentInProgress: 0
        lastDeploymentSuccess: 1
        reportedInUse: 1`},
		{"access-key create -o env", `
export AWS_ACCESS_KEY_ID='AKIAEXAMPLE00001'
export AWS_SECRET_ACCESS_KEY='secret/example+key'
export AWS_DEFAULT_REGION='us-east-1'
export AWS_REGION='us-east-1'
export AWS_ENDPOINT_URL='http://127.0.0.1:4566'`},
		{"access-key create --role viewer --description dash", `
ACCESS KEY         SECRET               ROLE     REGION      ENDPOINT
AKIAEXAMPLE00002   secret/example+key   viewer   us-east-1   http://127.0.0.1:4566`},
		{"access-key list", `
ACCESS KEY         ROLE     DESCRIPTION   CREATED
AKIAEXAMPLE00001   admin                  2026-03-02T08:00:00.120Z
AKIAEXAMPLE00002   viewer   dash          2026-03-02T08:00:00.120Z`},
		{"access-key delete AKIAEXAMPLE00002", ""},
		{"token create dash --role viewer", "text-of-dash"},
		{"token delete dash", ""},
		{"ca show -o env", "export GGFLEET_CA_ID='ca-1'"},
		{"nucleus import aws.greengrass.NucleusLite 2.3.0 " + archive + " --activate -o json", ""},
		{"nucleus import " + archive + " --platform linux/arm64 -o json", ""},
		{"nucleus pin press-07 aws.greengrass.NucleusLite 2.3.0", ""},
		{"nucleus unpin press-07", ""},
		{"version", "1.2.3"},
	} {
		got, err := o.run(t, c.line)
		require.NoError(t, err, c.line)
		if strings.HasPrefix(c.line, "nucleus import") {
			assert.Equal(t, strings.Contains(c.line, "activate"), strings.Contains(got, `"current": true`), got)
			assert.Contains(t, got, `"format": "zip"`)
			continue
		}
		assert.Equal(t, strings.TrimSpace(c.want), got, c.line)
	}
	assert.Equal(t, "bytes", o.Artifact("press.tar.gz"))
}

func TestExitCodesSayWhatWentWrong(t *testing.T) {
	o := newOperator(t)
	for line, code := range map[string]int{
		"core get nobody":                                cli.ExitNotFound,
		"core list --token wrong":                        cli.ExitDenied,
		"token list --token " + fleetapitest.ViewerToken: cli.ExitDenied,
		"core list --server http://127.0.0.1:1":          cli.ExitUnreachable,
		"core list -o xml":                               cli.ExitUsage,
		"core list -o env":                               cli.ExitUsage,
		"no-such-command":                                cli.ExitUsage,
		"core get":                                       cli.ExitUsage,
		"template create a:b --component x=1":            cli.ExitFailed,
		"template create x --component bad":              cli.ExitUsage,
		"component create /does/not/exist":               cli.ExitUsage,
		"nucleus import x 1.0.0 /dev/null":               cli.ExitUsage,
	} {
		_, err := o.run(t, line)
		assert.Equal(t, code, cli.ExitCode(err), "%s: %v", line, err)
	}
	_, err := o.run(t, "template create a:b --component x=1")
	require.ErrorContains(t, err, "name: ", "the field is named")
	assert.Equal(t, 0, cli.ExitCode(nil))
}

func TestAClientDeviceIsShownWithItsAgent(t *testing.T) {
	o := newOperator(t)
	_, err := o.run(t, "core create press-07")
	require.NoError(t, err)
	_, err = o.run(t, "device create gauge-1 --core press-07 --template gauges")
	require.NoError(t, err)
	o.SetAgent("gauge-1", fleet.AgentReport{Version: "1.2.0", LastReport: time.Date(2026, 3, 9, 17, 45, 58, 0, time.UTC), Warnings: []telemetry.Warning{telemetry.ClockWrong}})
	got, err := o.run(t, "device get gauge-1")
	require.NoError(t, err)
	assert.Regexp(t, `AGENT\ngauge-1 .* 1\.2\.0 offline, last report 2026-03-09T17:45:58\.000Z clockWrong$`, got)
}

func TestACoreIsShownWithItsAgent(t *testing.T) {
	o := newOperator(t)
	_, err := o.run(t, "core create press-07 press-08")
	require.NoError(t, err)
	o.SetAgent("press-07", fleet.AgentReport{
		Connected: true, LastReport: time.Date(2026, 3, 9, 17, 45, 58, 0, time.UTC),
		Nucleus: &telemetry.Nucleus{State: protocol.NucleusRunning, Version: "2.12.0"},
	})
	o.SetAgent("press-08", fleet.AgentReport{
		Version: "1.2.0", LastReport: time.Date(2026, 3, 9, 17, 45, 58, 0, time.UTC), Warnings: []telemetry.Warning{telemetry.LowDisk, telemetry.NucleusDown},
	})
	_, err = o.run(t, "core create press-09")
	require.NoError(t, err)
	for command, want := range map[string]string{
		"core list": `
NAME       DESIRED   REPORTED   DEPLOYMENT   AGENT
press-07   None      None       None         connected
press-08   None      None       None         1.2.0 offline, last report 2026-03-09T17:45:58.000Z lowDisk nucleusDown
press-09   None      None       None`,
		"fleet summary": `
TEMPLATE   VERSION   DESIRED   REPORTED   SUCCESS   FAILED   IN PROGRESS

Agents: 1 connected, 1 offline, lowDisk 1, nucleusDown 1`,
		"core get press-07": `
NAME       STATUS    CONNECTED   LAST SEEN   DESIRED   REPORTED   DEPLOYMENT   AGENT       NUCLEUS
press-07   UNKNOWN   false                   None      None       None         connected   running 2.12.0`,
		"core get press-09": `
NAME       STATUS    CONNECTED   LAST SEEN   DESIRED   REPORTED   DEPLOYMENT   AGENT   NUCLEUS
press-09   UNKNOWN   false                   None      None       None`,
	} {
		got, err := o.run(t, command)
		require.NoError(t, err)
		assert.Equal(t, strings.TrimSpace(want), got)
	}
}
