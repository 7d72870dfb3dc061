package arch_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWhoImportsWhom(t *testing.T) {
	t.Parallel()
	pkgs := packages(t)
	for _, r := range rules {
		matched := map[string]bool{}
		for _, p := range pkgs {
			for _, from := range r.From {
				if !below(p.Path, []string{from}) {
					continue
				}
				matched[from] = true
				if !below(p.Path, r.Except) {
					obey(t, r, p)
				}
			}
		}
		for _, from := range r.From {
			assert.True(t, matched[from], "rule %q: no package below %q: was the folder renamed?", r.Why, from)
		}
	}
}

func obey(t *testing.T, r rule, p *pkg) {
	t.Helper()
	imports := p.Imports
	if r.Tests {
		imports = slices.Concat(p.Imports, p.TestImports)
	}
	for _, imp := range imports {
		foreign := len(r.Only) > 0 && !standard(imp) && !below(local(imp), r.Only)
		if foreign || below(local(imp), r.Deny) {
			t.Errorf("%s imports %s: %s", p.Path, imp, r.Why)
		}
	}
}

func TestProgramsContainNoTestCode(t *testing.T) {
	t.Parallel()
	pkgs := packages(t)
	for _, program := range []string{"controlplane/cmd/ggfleet", "agent/cmd/ggfleet-agent", "test/cmd/ggfleet-sim"} {
		require.Contains(t, pkgs, program, "a program moved")
		var visit func(p *pkg, by string)
		seen := map[string]bool{}
		visit = func(p *pkg, by string) {
			if p == nil || seen[p.Path] {
				return
			}
			seen[p.Path] = true
			by += " > " + p.Path
			for _, imp := range p.Imports {
				if below(imp, testCode) || ours(imp) && strings.HasSuffix(imp, "test") {
					t.Errorf("%s is built with %s (%s): test code stays out of products", program, imp, by)
				}
				if ours(imp) {
					visit(pkgs[local(imp)], by)
				}
			}
		}
		visit(pkgs[program], program)
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		assert.Len(t, p.Docs, 1, "%s: one package comment, in doc.go when it is long, without a blank line before the package clause", p.Path)
	}
}

// Only what go.mod calls direct: the rest comes with these.
var requirement = regexp.MustCompile(`(?m)^(?:require)?\s+([a-z0-9.]+\.[a-z]+/\S+) v\S+$`)

var quoted = regexp.MustCompile("`([^`\n]+)`")

func TestEveryDirectDependencyIsExplained(t *testing.T) {
	t.Parallel()
	var explained []string
	for _, m := range quoted.FindAllStringSubmatch(read(t, "docs/adr/0002-dependencies.md"), -1) {
		explained = append(explained, m[1])
	}
	for _, module := range all {
		for _, m := range requirement.FindAllStringSubmatch(read(t, module+"/go.mod"), -1) {
			if name := m[1]; !ours(name) {
				assert.Contains(t, explained, name, "%s/go.mod requires it: add a line with the reason to docs/adr/0002-dependencies.md", module)
			}
		}
	}
}

// machine matches absolute paths of a workplace; a slash before them would be
// part of an address or of a longer path.
var machine = regexp.MustCompile(`(^|[^A-Za-z0-9._~:/}-])/(` + "wor" + `k|` + "roo" + `t|` + "hom" + `e/[a-z]+)/`)

// allowed holds files in which such a path is the subject.
var allowed = []string{
	"controlplane/internal/object/key_test.go", // keys that must not leave the bucket's folder
}

func TestNoFileNamesAPathOfSomebodysMachine(t *testing.T) {
	t.Parallel()
	top := root(t)
	files(t, func(name string) {
		if slices.Contains(allowed, name) {
			return
		}
		raw, err := os.ReadFile(filepath.Join(top, name))
		require.NoError(t, err)
		if strings.Contains(string(raw[:min(len(raw), 8000)]), "\x00") {
			return // not text
		}
		for i, line := range strings.Split(string(raw), "\n") {
			if machine.MatchString(line) {
				t.Errorf("%s:%d names a path of a machine: %.120s", name, i+1, strings.TrimSpace(line))
			}
		}
	})
}
