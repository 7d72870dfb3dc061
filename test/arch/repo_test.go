package arch_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const project = "github.com/ggfleet/ggfleet/"

// pkg is a folder of Go files.
type pkg struct {
	Path        string // below the project's name
	Imports     []string
	TestImports []string
	Docs        []string // files with a package comment
}

// root is the top of the repository.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(dir, "go.work"), "not the top of the repository")
	return dir
}

// files calls visit for every file of the repository, by its slash path;
// what building, installing and running leave behind is not part of it.
func files(t *testing.T, visit func(name string)) {
	t.Helper()
	top := root(t)
	require.NoError(t, filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch {
		case d.IsDir() && (rel == "bin" || rel == "dist" || d.Name() == "node_modules" || strings.HasPrefix(rel, ".") && rel != "." && rel != ".ci"):
			return fs.SkipDir
		case d.Type().IsRegular():
			visit(rel)
		}
		return nil
	}))
}

// packages reads the imports and comments of every package of the workspace.
func packages(t *testing.T) map[string]*pkg {
	t.Helper()
	top, found := root(t), map[string]*pkg{}
	files(t, func(name string) {
		if !strings.HasSuffix(name, ".go") || strings.Contains(name, "/testdata/") {
			return
		}
		dir := path.Dir(name)
		p := found[dir]
		if p == nil {
			p = &pkg{Path: dir}
			found[dir] = p
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(top, name), nil, parser.ImportsOnly|parser.ParseComments)
		require.NoError(t, err)
		for _, i := range f.Imports {
			imp, err := strconv.Unquote(i.Path.Value)
			require.NoError(t, err)
			to := &p.Imports
			if strings.HasSuffix(name, "_test.go") {
				to = &p.TestImports
			}
			if !slices.Contains(*to, imp) {
				*to = append(*to, imp)
			}
		}
		if f.Doc != nil && !ast.IsGenerated(f) && !strings.HasSuffix(f.Name.Name, "_test") {
			p.Docs = append(p.Docs, path.Base(name))
		}
	})
	require.NotEmpty(t, found)
	return found
}

// below reports whether one of paths means name (see rule).
func below(name string, paths []string) bool {
	return slices.ContainsFunc(paths, func(p string) bool {
		return name == strings.TrimSuffix(p, "$") || strings.HasPrefix(name, p+"/")
	})
}

// local is imp below the project's name, or imp itself.
func local(imp string) string { return strings.TrimPrefix(imp, project) }

func ours(imp string) bool { return strings.HasPrefix(imp, project) }

// standard reports whether imp is of the standard library.
func standard(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return !strings.Contains(first, ".")
}

func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root(t), name))
	require.NoError(t, err)
	return string(raw)
}
