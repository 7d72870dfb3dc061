package arch_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A row of docs/weaknesses.md, and a test as it is named there: package and
// function.
var (
	weaknessRow = regexp.MustCompile(`(?m)^\| W-(\d+) \| (.+) \| (.*) \|$`)
	namedTest   = regexp.MustCompile("`([a-z0-9/]+) (Test[A-Za-z0-9_]+)`")
)

// weaknesses is how many the original has (spec cdf-services §10).
const weaknesses = 97

func TestEveryWeaknessIsShownAbsentOrSaysWhyNot(t *testing.T) {
	t.Parallel()
	rows := weaknessRow.FindAllStringSubmatch(read(t, "docs/weaknesses.md"), -1)
	seen := map[string]bool{}
	for _, row := range rows {
		number, tests := row[1], namedTest.FindAllStringSubmatch(row[3], -1)
		assert.False(t, seen[number], "W-%s stands twice", number)
		seen[number] = true
		says := regexp.MustCompile(`W-?` + number + `(\D|$)`)
		shown := false
		for _, m := range tests {
			source := testSource(t, m[1], m[2])
			assert.NotEmpty(t, source, "W-%s names %s %s: was it renamed?", number, m[1], m[2])
			shown = shown || says.MatchString(source)
		}
		if !strings.HasPrefix(row[3], "not applicable: ") {
			assert.True(t, shown, "W-%s: none of the tests of its row says that it shows it, and no reason is given", number)
		}
	}
	assert.Len(t, seen, weaknesses)
}

// testSource returns a test function with the comment before it; "" if there is
// none.
func testSource(t *testing.T, dir, name string) string {
	t.Helper()
	if _, err := os.Stat(filepath.Join(root(t), dir)); err != nil {
		dir = "controlplane/internal/" + dir
	}
	sources, err := filepath.Glob(filepath.Join(root(t), dir, "*_test.go"))
	require.NoError(t, err)
	for _, file := range sources {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		before, after, found := strings.Cut(string(raw), "\nfunc "+name+"(")
		if !found {
			continue
		}
		comment := before[strings.LastIndex(before, "\n\n")+1:]
		body, _, _ := strings.Cut(after, "\n}\n")
		return comment + "\nfunc " + name + "(" + body
	}
	return ""
}
