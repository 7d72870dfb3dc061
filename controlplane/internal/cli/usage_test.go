package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/controlplane/internal/cli"
)

func TestAWrongCommandLineNamesTheHelpThatTellsTheRightOne(t *testing.T) {
	for line, want := range map[string]string{
		"core list --lmit 3":         `see "ggfleet core list --help"`,
		"core get":                   `see "ggfleet core get --help"`,
		"cores":                      `see "ggfleet --help"`,
		"device create gauge-1":      `see "ggfleet device create --help"`,
		"core list --limit no":       `see "ggfleet core list --help"`,
		"core list --limit -3":       "",
		"core list --output picture": "",
	} {
		root := cli.New("1.2.3", nil)
		root.SetOut(&bytes.Buffer{})
		root.SetErr(&bytes.Buffer{})
		root.SetArgs(strings.Fields(line))
		c, err := root.ExecuteContextC(t.Context())
		require.Error(t, err, line)
		assert.Equal(t, cli.ExitUsage, cli.ExitCode(err), line)
		said := cli.Text(c, err)
		if want == "" {
			assert.Equal(t, err.Error(), said, "it tells the way out itself")
			continue
		}
		assert.Contains(t, said, "\n"+want, line)
	}
}

func TestAnUnknownNameIsNoEmptyList(t *testing.T) {
	o := newOperator(t)
	_, err := o.run(t, "core create press-07")
	require.NoError(t, err)
	for _, line := range []string{"core help-requests pres-07", "device help-requests gauge-9", "agent-release status 9.9.9"} {
		_, err := o.run(t, line)
		require.Error(t, err, line)
		assert.Equal(t, cli.ExitNotFound, cli.ExitCode(err), "%s: %v", line, err)
	}
	got, err := o.run(t, "core help-requests press-07")
	require.NoError(t, err)
	assert.Contains(t, got, "KIND")
}

func TestTheGeneratorIsNamedByOneFlagAndByItsFormerName(t *testing.T) {
	for _, flag := range []string{"--generator", "--config-generator"} {
		o := newOperator(t)
		got, err := o.run(t, "enrollment rule put line-2 --action approve "+flag+" MANUAL_INSTALL -o json")
		require.NoError(t, err)
		assert.Contains(t, got, `"configFileGenerator": "MANUAL_INSTALL"`)
	}
	got, err := newOperator(t).run(t, "enrollment approve --help")
	require.NoError(t, err)
	assert.Contains(t, got, "--generator")
	assert.NotContains(t, got, "--config-")
}

func TestALimitBelowNoneIsRefused(t *testing.T) {
	o := newOperator(t)
	for _, line := range []string{"core list --limit -3", "core tasks --limit -1", "core help-requests press-07 --limit -3"} {
		_, err := o.run(t, line)
		require.ErrorContains(t, err, "--limit", line)
		assert.Equal(t, cli.ExitUsage, cli.ExitCode(err), line)
	}
}

func TestAReleaseWithoutAFileOfItsOwnIsNotMade(t *testing.T) {
	o := newOperator(t)
	file := filepath.Join(t.TempDir(), "any.csv")
	require.NoError(t, os.WriteFile(file, []byte("a,b"), 0o600))
	_, err := o.run(t, "agent-release add 1.1.0 "+file)
	require.ErrorContains(t, err, "ggfleet-agent_1.1.0_GOOS_GOARCH, such as ggfleet-agent_1.1.0_linux_amd64")
	assert.Equal(t, cli.ExitUsage, cli.ExitCode(err))
	got, err := o.run(t, "agent-release list")
	require.NoError(t, err)
	assert.NotContains(t, got, "1.1.0")
}
