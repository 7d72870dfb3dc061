package world

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

var build = sync.OnceValues(func() (string, error) { return Build(context.Background(), "controlplane", "ggfleet") })

// Binary is the ggfleet under test.
func Binary() (string, error) {
	if bin := os.Getenv("GGFLEET_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	return build()
}

// Build compiles the command cmd/name of a module of this workspace and returns
// the path of its binary, with further build tags if any are named. What is up to
// date is not linked again; several test binaries may build at once.
func Build(ctx context.Context, module, name string, tags ...string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	// The linker's output is renamed into place only within one file system, and
	// only a rename is safe while others build or run the same.
	dir := filepath.Join(root, "bin", "test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making a place for test binaries: %w", err)
	}
	out := filepath.Join(dir, strings.Join(append([]string{name}, tags...), "-"))
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-tags="+strings.Join(append(tags, "nomsgpack"), ","), "-o", out, "./cmd/"+name)
	cmd.Dir = filepath.Join(root, module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOTMPDIR="+dir, "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", name, err, text)
	}
	return out, nil
}

// Root is the directory of the workspace that the test runs in.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.work")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no go.work in %s or above: tests of a running ggfleet start within the workspace", dir)
		}
	}
}

// environment is ours without ggfleet's own settings, and what the test adds.
func environment(more []string) []string {
	own := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "GGFLEET_") })
	return append(own, more...)
}
