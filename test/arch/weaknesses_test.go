package arch_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A test as docs/weaknesses.md names it: package and function.
var namedTest = regexp.MustCompile("`([a-z0-9/]+) (Test[A-Za-z0-9_]+)`")

func TestTheTestsThatShowWeaknessesAbsentAreThere(t *testing.T) {
	t.Parallel()
	named := namedTest.FindAllStringSubmatch(read(t, "docs/weaknesses.md"), -1)
	require.NotEmpty(t, named)
	for _, m := range named {
		dir := m[1]
		if _, err := os.Stat(filepath.Join(root(t), dir)); err != nil {
			dir = "controlplane/internal/" + dir
		}
		sources, err := filepath.Glob(filepath.Join(root(t), dir, "*_test.go"))
		require.NoError(t, err)
		var all []byte
		for _, name := range sources {
			raw, err := os.ReadFile(name)
			require.NoError(t, err)
			all = append(all, raw...)
		}
		assert.Contains(t, string(all), "func "+m[2]+"(", "docs/weaknesses.md names %s %s: was it renamed?", m[1], m[2])
	}
}
