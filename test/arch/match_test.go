package arch_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// What the rules rest on, tried on paths that look alike.
func TestAPathMeansItselfAndWhatLiesBelow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path, rule string
		want       bool
	}{
		"the package itself":               {"go.etcd.io", "go.etcd.io", true},
		"a package below":                  {"go.etcd.io/etcd/client/v3", "go.etcd.io", true},
		"a longer name is another package": {"controlplane/internal/fleetview", "controlplane/internal/fleet", false},
		"with $ the package itself":        {"log", "log$", true},
		"with $ nothing below":             {"log/slog", "log$", false},
		"testing is not below test":        {"testing", "test", false},
	} {
		assert.Equal(t, c.want, below(c.path, []string{c.rule}), name)
	}
}

func TestMachinePathsAreToldFromOtherPaths(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"cd /" + "work/main":                         true,
		`dir := "/` + "root/go/src" + `"`:            true,
		"/" + "home/someone/notes.txt":               true,
		"/greengrass/v2/work/aws.greengrass.Nucleus": false,
		"https://host/work/1":                        false,
		"{id}/work/log":                              false,
		"the /home page":                             false,
	} {
		assert.Equal(t, want, machine.MatchString(line), line)
	}
}
