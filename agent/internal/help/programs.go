package help

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/run"
)

const (
	programTime = time.Minute
	maxOutput   = 256 << 10
)

// output runs a program to its end and returns the beginning of what it printed.
// fault.Unsupported: there is no such program here.
func output(ctx context.Context, argv ...string) (string, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return "", fault.New(fault.Unsupported, "there is no %s on this device", argv[0])
	}
	ctx, cancel := context.WithTimeout(ctx, programTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, argv[1:]...)
	cmd.Env = run.Environ()
	cmd.WaitDelay = time.Second
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &capped{&out, maxOutput}, &capped{&problem, 1 << 10}
	err = cmd.Run()
	name := filepath.Base(path)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return "", fault.New(fault.Unavailable, "%s did not end within %s", name, programTime)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, text(problem.String()))
	}
	return out.String(), nil
}
