package hosttest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path"
	"path/filepath"

	"github.com/ggfleet/ggfleet/installer/nucleus"
)

// UseDpkg gives the host the dpkg of this machine, working below the host's
// folder. It reports false when the machine has none or the test is not root.
func (h *Host) UseDpkg() (bool, error) {
	for _, p := range []string{"dpkg", "dpkg-query", "dpkg-deb", "cp"} {
		program, err := exec.LookPath(p)
		if err != nil || os.Geteuid() != 0 {
			return false, nil //nolint:nilerr // then not
		}
		h.Programs[p] = func(ctx context.Context, c nucleus.Command) nucleus.Result { return h.below(ctx, program, c) }
	}
	admin := h.Path("/var/lib/dpkg")
	for _, d := range []string{"updates", "info"} {
		if err := os.MkdirAll(filepath.Join(admin, d), 0o755); err != nil {
			return false, err
		}
	}
	for _, f := range []string{"status", "available"} {
		if err := os.WriteFile(filepath.Join(admin, f), nil, 0o644); err != nil {
			return false, err
		}
	}
	return true, nil
}

// below runs a program of the machine on the files of the host.
func (h *Host) below(ctx context.Context, program string, c nucleus.Command) nucleus.Result {
	args := append([]string(nil), c.Argv[1:]...)
	switch base := path.Base(program); base {
	case "dpkg":
		if args[0] != "--compare-versions" && args[0] != "--print-architecture" {
			last := len(args) - 1
			if path.IsAbs(args[last]) {
				args[last] = h.Path(args[last])
			}
			args = append([]string{"--root=" + h.Path("/"), "--force-script-chrootless", "--log=/dev/null", "--force-unsafe-io"}, args...)
		}
	case "dpkg-query":
		args = append([]string{"--admindir=" + h.Path("/var/lib/dpkg")}, args...)
	default: // cp, dpkg-deb
		for i, a := range args {
			if path.IsAbs(a) {
				args[i] = h.Path(a)
			}
		}
	}
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.Env = append(append(os.Environ(), c.Env...), "LC_ALL=C")
	err := cmd.Run()
	r := nucleus.Result{Stdout: out.Bytes(), Stderr: errOut.Bytes()}
	if exit, is := errors.AsType[*exec.ExitError](err); is {
		r.Code = exit.ExitCode()
	} else if err != nil {
		return failed(127, "%v", err)
	}
	return r
}
