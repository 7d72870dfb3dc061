package nucleus_test

import (
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ggfleet/ggfleet/installer/nucleus"
)

func TestJavaVersions(t *testing.T) {
	for out, want := range map[string]int{
		"java version \"1.8.0_402\"\nJava(TM) SE Runtime":             8,
		"openjdk version \"17.0.10\" 2024-01-16":                      17,
		"openjdk version \"21\" 2023-09-19":                           21,
		"openjdk version \"9-ea\"":                                    9,
		"Picked up JAVA_TOOL_OPTIONS: -X\nopenjdk version \"11.0.2\"": 11,
		"hello": 0,
	} {
		got, _ := nucleus.ParseJavaVersion([]byte(out))
		assert.Equal(t, want, got, out)
	}
}

func TestDependsAreRead(t *testing.T) {
	assert.Equal(t, []string{"libc6 (>= 2.34)", "libcurl4 | libcurl4t64 (>= 8)", "adduser"},
		nucleus.ParseDepends("libc6:any (>= 2.34), libcurl4 | libcurl4t64 (>= 8),adduser"))
	assert.Empty(t, nucleus.ParseDepends(" , "))
}

func TestTheRootOfAUnit(t *testing.T) {
	for line, want := range map[string]string{
		"ExecStart=/bin/sh /greengrass/v2/alts/current/distro/bin/loader":                       "/greengrass/v2",
		`ExecStart=/bin/sh -c "/gg/alts/current/distro/bin/loader >> /gg/logs/loader.log 2>&1"`: "/gg",
		"ExecStart=/greengrass/ggc/core/greengrassd start":                                      "",
		"ExecStartPre=/gg/alts/current/distro/bin/loader":                                       "",
	} {
		assert.Equal(t, want, nucleus.UnitRoot([]byte("[Service]\n"+line+"\n")), line)
	}
}

func FuzzTexts(f *testing.F) {
	f.Add("Package: a\nVersion: 1\nArchitecture: all\nDepends: b (>= 1) | c\n d\n")
	f.Add("openjdk version \"17.0.10\"")
	f.Add("ExecStart=/bin/sh /x/alts/current/distro/bin/loader")
	f.Add("root:group")
	f.Fuzz(func(t *testing.T, s string) {
		if name, version, err := nucleus.ParseControl([]byte(s)); err == nil {
			require.NotContains(t, name+version, "/")
		}
		for _, d := range nucleus.ParseDepends(s) {
			require.NotEmpty(t, d)
		}
		if v, ok := nucleus.ParseJavaVersion([]byte(s)); ok {
			require.GreaterOrEqual(t, v, 0)
		}
		if r := nucleus.UnitRoot([]byte(s)); r != "" {
			require.True(t, path.IsAbs(r))
		}
		if user, group, err := nucleus.ParseAccount(s); err == nil {
			require.False(t, strings.ContainsAny(user+group, " -/:\n") && !strings.Contains(user+group, "-"))
			require.False(t, strings.HasPrefix(user, "-") || strings.HasPrefix(group, "-"), "no option of useradd")
		}
	})
}
