package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheCommandLine(t *testing.T) {
	tests := map[string]struct {
		args   []string
		usage  bool // exit status 2
		err    string
		stdout string
	}{
		"no arguments":                 {nil, true, "help", ""},
		"help":                         {[]string{"help"}, false, "", ""},
		"a flag's help":                {[]string{"run", "--help"}, false, "", ""},
		"version":                      {[]string{"version"}, false, "", "ggfleet-agent dev"},
		"an unknown command":           {[]string{"fly"}, true, `"fly" is not a command`, ""},
		"an unknown flag":              {[]string{"run", "--rot", "x"}, true, "rot", ""},
		"enroll without a string":      {[]string{"enroll"}, true, "takes 1 arguments, not 0", ""},
		"a string that is not one":     {[]string{"enroll", "x", "--root", "ROOT"}, false, "copy it whole", ""},
		"flags before the command":     {[]string{"--root", "ROOT", "status"}, false, "", "enrolled: no"},
		"flags behind the command":     {[]string{"status", "--root", "ROOT"}, false, "", "enrolled: no"},
		"an unknown log level":         {[]string{"run", "--log-level", "loud"}, true, "loud", ""},
		"patches allowed":              {[]string{"patches", "on", "--root", "ROOT"}, false, "", "patches: on"},
		"patches forbidden twice":      {[]string{"patches", "off", "--root", "ROOT"}, false, "", "patches: off"},
		"patches perhaps":              {[]string{"patches", "perhaps", "--root", "ROOT"}, true, `not "perhaps"`, ""},
		"patches allowed by run":       {[]string{"run", "--allow-patches", "--root", "ROOT"}, true, "enroll and install", ""},
		"run before it is enrolled":    {[]string{"run", "--root", "ROOT"}, false, "not enrolled", ""},
		"the string on standard input": {[]string{"enroll", "-", "--root", "ROOT"}, false, "copy it whole", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			var args []string
			for _, a := range tc.args {
				args = append(args, strings.ReplaceAll(a, "ROOT", root))
			}
			var stdout, stderr bytes.Buffer
			err := command(t.Context(), args, strings.NewReader("ggf1.damaged"), &stdout, &stderr)
			if tc.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tc.err)
				assert.Equal(t, tc.usage, strings.Contains(err.Error(), errUsage.Error()))
			}
			assert.Contains(t, stdout.String(), tc.stdout)
		})
	}
}
