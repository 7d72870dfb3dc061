package selfupdate

import (
	"context"
	"errors"
	"os/exec"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// tryVersion has the staged program say its version, which it can only if it is
// for this platform, on a file system that lets programs run, and not broken
// from the start.
func (u *Updater) tryVersion(ctx context.Context, file string, s Slot) error {
	limited, cancel := context.WithTimeout(ctx, u.cfg.Tryout)
	defer cancel()
	cmd := exec.CommandContext(limited, file, "version")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return blocked(fault.New(fault.Unsupported, "%s may not be executed; is the file system mounted noexec? move the agent's root with --root, or mount it with exec", file))
	case errors.Is(err, syscall.ENOEXEC):
		err = fault.New(fault.Invalid, "the program is not for this platform")
	case limited.Err() != nil:
		err = fault.New(fault.Invalid, "the program did not say its version in %s", u.cfg.Tryout)
	case err != nil:
		err = fault.New(fault.Invalid, "the program does not run here: %v", err)
	default:
		if words := strings.Fields(string(out[:min(len(out), 200)])); len(words) < 2 || words[1] != s.Version {
			err = fault.New(fault.Invalid, "the program says that it is %.60q, its signature says %s", strings.Join(words, " "), s.Version)
		}
	}
	if err != nil {
		return refuse(errors.Join(err, u.cfg.Dir.Root().RemoveAll(path.Join(releasesDir, s.Name()))))
	}
	return nil
}
