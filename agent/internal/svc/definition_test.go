package svc_test

import (
	"encoding/xml"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/agent/internal/svc"
)

var update = flag.Bool("update", false, "write the golden files anew")

// packaged is the unit that the packages bring: the same as what the agent would
// write.
const packaged = "../../../installer/packaging/ggfleet-agent.service"

func TestDefinitionsAreWhatIsExpected(t *testing.T) {
	program := svc.Definition{Name: "ggfleet-agent", Program: "/usr/bin/ggfleet-agent", Root: "/var/lib/ggfleet-agent"}
	tests := map[string]struct {
		goos   string
		d      svc.Definition
		golden string
	}{
		"the unit of the packages":          {"linux", program, packaged},
		"a unit where systemd needs quotes": {"linux", svc.Definition{Name: "ggfleet-agent-0a", Program: "/opt/my agent/ggfleet-agent", Root: `/srv/100% "$HOME"\x;y`}, "testdata/quoted.service"},
		"launchd":                           {"darwin", program, "testdata/agent.plist"},
		"launchd, with what XML knows":      {"darwin", svc.Definition{Name: "a&b", Program: "/opt/<agent>", Root: "/Library/Application Support/ggfleet-agent"}, "testdata/escaped.plist"},
		"the service control manager":       {"windows", svc.Definition{Name: "ggfleet-agent", Program: `C:\Program Files\ggfleet-agent\ggfleet-agent.exe`, Root: `C:\ProgramData\ggfleet-agent`}, "testdata/windows.json"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := svc.Render(tc.goos, tc.d)
			require.NoError(t, err)
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(tc.golden), 0o755))
				require.NoError(t, os.WriteFile(tc.golden, []byte(got), 0o644))
			}
			want, err := os.ReadFile(tc.golden)
			require.NoError(t, err)
			assert.Equal(t, string(want), got)
			assert.NotContains(t, got, "@EXEC@")
			if tc.goos == "darwin" {
				d := xml.NewDecoder(strings.NewReader(got))
				for err == nil {
					_, err = d.Token()
				}
				assert.ErrorContains(t, err, "EOF", "well-formed")
			}
		})
	}
}

func TestSystemdFindsNothingWrongWithTheUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze")
	}
	dir := t.TempDir()
	for name, root := range map[string]string{"plain": "/var/lib/ggfleet-agent", "quoted": `/srv/100% "$HOME"\x;y`} {
		text, err := svc.Render("linux", svc.Definition{Name: name, Program: "/bin/sh", Root: root})
		require.NoError(t, err)
		file := filepath.Join(dir, name+".service")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", "--recursive-errors=no", file).CombinedOutput()
		assert.NoError(t, err, "%s", out)
		assert.NotContains(t, string(out), file)
	}
}

func TestADefinitionThatCannotBeIsRefused(t *testing.T) {
	_, err := svc.Render("linux", svc.Definition{Name: "a", Program: "/bin/a", Root: "/srv/a\nExecStartPre=/bin/evil"})
	assert.ErrorContains(t, err, "control characters")
	_, err = svc.Render("plan9", svc.Definition{Name: "a", Program: "/bin/a", Root: "/a"})
	assert.ErrorContains(t, err, "plan9")
}
