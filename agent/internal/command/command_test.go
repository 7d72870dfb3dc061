package command_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/command"
)

func TestTheCommandLine(t *testing.T) {
	tests := map[string]struct {
		args   []string
		exit   int
		err    string
		stdout string
	}{
		"no arguments":                 {nil, 0, "", "Set up this device"},
		"help":                         {[]string{"help"}, 0, "", "Set up this device"},
		"a flag's help":                {[]string{"run", "--help"}, 0, "", "Work until stopped"},
		"version":                      {[]string{"version"}, 0, "", "ggfleet-agent dev"},
		"an unknown command":           {[]string{"fly"}, 2, `unknown command "fly"`, ""},
		"an unknown flag":              {[]string{"run", "--rot", "x"}, 2, "rot", ""},
		"a string that is not one":     {[]string{"enroll", "x", "--root", "ROOT"}, 1, "copy it whole", ""},
		"flags before the command":     {[]string{"--root", "ROOT", "status"}, 0, "", "enrolled: no"},
		"flags behind the command":     {[]string{"status", "--root", "ROOT"}, 0, "", "enrolled: no"},
		"an unknown log level":         {[]string{"run", "--log-level", "loud"}, 2, "loud", ""},
		"patches allowed":              {[]string{"allow", "patches,logs", "--root", "ROOT"}, 0, "", "allowed:  patches logs\n"},
		"patches forbidden twice":      {[]string{"forbid", "patches", "--root", "ROOT"}, 0, "", "allowed:  nothing\n"},
		"patches perhaps":              {[]string{"allow", "perhaps", "--root", "ROOT"}, 1, `"perhaps"`, ""},
		"allowed with enroll":          {[]string{"enroll", "x", "--allow", "perhaps", "--root", "ROOT"}, 1, `"perhaps"`, ""},
		"nothing says how to enrol":    {[]string{"enroll", "--root", "ROOT"}, 2, "nothing says how to enrol", ""},
		"a string and an address":      {[]string{"enroll", "x", "--url", "https://127.0.0.1:1", "--root", "ROOT"}, 2, "give either it, or --url", ""},
		"a string and a CA":            {[]string{"enroll", "x", "--ca", "x", "--root", "ROOT"}, 2, "give either it, or --url", ""},
		"an address without a CA":      {[]string{"enroll", "--url", "https://127.0.0.1:1", "--root", "ROOT"}, 1, "a false server could not be told from the true one", ""},
		"an address that is not https": {[]string{"enroll", "--url", "fleet.example", "--root", "ROOT"}, 1, "is not an address such as", ""},
		"a certificate without key":    {[]string{"enroll", "--cert", "x", "--root", "ROOT"}, 2, "key-file", ""},
		"a claim and a thing":          {[]string{"enroll", "--cert", "x", "--key-file", "x", "--claim-cert", "x", "--claim-key", "x"}, 2, "none of the others can be", ""},
		"a file that is not there":     {[]string{"enroll", "--file", "ROOT/none.json", "--root", "ROOT"}, 1, "no such file", ""},
		"a key that is nowhere":        {[]string{"enroll", "--url", "https://127.0.0.1:1", "--ca-fingerprint", "0000000000000000000000000000000000000000000000000000000000000000", "--key", "tpm:/dev/none", "--root", "ROOT"}, 1, "there is no TPM at /dev/none", ""},
		"run before it is enrolled":    {[]string{"run", "--root", "ROOT"}, 1, "not enrolled", ""},
		"a dry run of nothing":         {[]string{"update", "--dry-run", "--root", "ROOT"}, 2, "name the binary of a release with --file", ""},
		"the string on standard input": {[]string{"enroll", "-", "--root", "ROOT"}, 1, "copy it whole", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			args := []string{} // nil would be those of the test
			for _, a := range tc.args {
				args = append(args, strings.ReplaceAll(a, "ROOT", root))
			}
			var stdout, stderr bytes.Buffer
			c := command.New()
			c.SetArgs(args)
			c.SetIn(strings.NewReader("ggf1.damaged"))
			c.SetOut(&stdout)
			c.SetErr(&stderr)
			err := c.ExecuteContext(t.Context())
			assert.Equal(t, tc.exit, command.ExitCode(err))
			if tc.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tc.err)
			}
			assert.Contains(t, stdout.String(), tc.stdout)
		})
	}
}

func TestAWrongCommandLineNamesTheHelpThatTellsTheRightOne(t *testing.T) {
	root := t.TempDir()
	for line, want := range map[string]string{
		"run --rot x": "see 'ggfleet-agent run --help'", "fly": "see 'ggfleet-agent --help'", "allow": "see 'ggfleet-agent allow --help'",
		"update --dry-run": "see 'ggfleet-agent update --help'", "run --root " + root: "",
	} {
		c := command.New()
		c.SetArgs(strings.Fields(line))
		at, err := c.ExecuteContextC(t.Context())
		require.Error(t, err, line)
		if want == "" {
			assert.Equal(t, err.Error(), command.Text(at, err), "the command line was right")
			continue
		}
		assert.Contains(t, command.Text(at, err), "\n"+want, line)
	}
}
