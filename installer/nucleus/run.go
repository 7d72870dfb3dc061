package nucleus

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// runLimit bounds one program: a package whose script hangs must not hold the
// device for ever.
const runLimit = 10 * time.Minute

// run runs a program and returns its standard output. An exit code other than 0
// and those in fine is an error with the last lines of what the program said.
func run(ctx context.Context, sys System, c Command, fine ...int) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	r, err := sys.Run(ctx, c)
	if errors.Is(err, exec.ErrNotFound) {
		return "", fault.New(fault.Unsupported, "this device has no program %q", c.Argv[0])
	}
	if err != nil {
		return "", err
	}
	if r.Code != 0 && !slices.Contains(fine, r.Code) {
		return "", fault.New(fault.Unavailable, "%s ended with code %d: %s", strings.Join(c.Argv, " "), r.Code, lastLines(r))
	}
	return string(r.Stdout), nil
}

// lastLines is the end of what a program said, in one line.
func lastLines(r Result) string {
	said := strings.TrimSpace(string(r.Stderr))
	if said == "" {
		said = strings.TrimSpace(string(r.Stdout))
	}
	lines := strings.Split(said, "\n")
	text := strings.Join(lines[max(0, len(lines)-5):], " | ")
	return strings.ToValidUTF8(text[max(0, len(text)-1000):], "")
}

func has(sys System, program string) bool {
	_, err := sys.LookPath(program)
	return err == nil
}
