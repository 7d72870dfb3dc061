package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/agent/internal/reconcile"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Purge removes all that the agent in cfg.Root has brought: the nucleus that it
// installed, with its services and versions, and its root with identity and keys.
// It writes what of a nucleus stays. It refuses while an agent or a nucleus that
// is its process runs, and folders that cannot be an agent's alone. One that was
// interrupted can be done again.
func Purge(ctx context.Context, w io.Writer, cfg Config) error {
	cfg = cfg.withDefaults()
	root, err := PurgeCheck(cfg.Root)
	if err != nil {
		return err
	}
	cfg.Root = root
	dir, err := openStopped(cfg)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // its file is gone by then
	if pid, ok := process.Running(dir.Path(".")); ok {
		return fault.New(fault.Conflict, "the nucleus in %s still runs, pid %d; start the agent and stop it in order, or end that process, and purge again", root, pid)
	}
	stays, err := purgeNucleus(ctx, cfg, dir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(root)
	for _, e := range entries {
		if e.Name() != "agent" { // last: what is still to do is known from it
			err = errors.Join(err, os.RemoveAll(filepath.Join(root, e.Name())))
		}
	}
	if err == nil {
		err = os.RemoveAll(filepath.Join(root, "agent"))
	}
	if err != nil {
		return fmt.Errorf("removing %s: %w", root, err)
	}
	_ = os.Remove(root) // it may be a mount point
	_, err = fmt.Fprintf(w, "%s is removed\n%s", root, stays)
	return err
}

// purgeNucleus takes the nucleus that the agent in dir has installed off the
// device, and says what of it stays. One that was there before is not touched.
func purgeNucleus(ctx context.Context, cfg Config, dir *localstate.Dir) (stays string, err error) {
	r, err := reconcile.ReadRecord(dir.Path("."))
	if err != nil {
		return "", err
	}
	settings, err := reconcile.ReadSettings(dir.Path("."))
	if err != nil {
		return "", err
	}
	var ours []nucleus.Layout
	for _, v := range []*reconcile.Installed{r.Current, r.Trial} {
		if v != nil && v.Layout != "" && v.Layout != nucleus.LayoutProgram {
			ours = append(ours, v.Layout)
		}
	}
	if len(ours) > 0 {
		if err := withLoop(ctx, cfg, dir, dir.Site(), func(l *reconcile.Loop) error { return l.Clear(ctx) }); err != nil {
			return "", err
		}
	}
	lite := cfg.Root == localstate.DefaultRoot // another agent's nucleus may lie there otherwise
	for _, layout := range ours {
		if layout == nucleus.LayoutClassic {
			stays = "stays: " + cmp.Or(settings.Root, reconcile.DefaultClassicRoot)
			continue
		}
		stays, lite = "stays: /etc/greengrass and "+reconcile.DefaultLiteRoot, true
	}
	if stays != "" {
		stays += " with the nucleus's configuration, certificates and components' data, and the accounts that it runs as\n"
	}
	if r.Current == nil && r.Adopted != nil {
		stays = fmt.Sprintf("stays: the nucleus in %s, which was there before the agent\n", r.Adopted.Root)
		if r.Adopted.Layout == nucleus.LayoutLiteFiles { // it may run from there: an agent that lost its record adopts its own
			lite = false
		}
	}
	if lite {
		err = cfg.System.RemoveAll(reconcile.LiteSite)
	}
	return stays, err
}

// PurgeCheck returns the absolute path of what Purge would remove, or why it
// would not.
func PurgeCheck(root string) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	home, _ := os.UserHomeDir()
	if strings.Count(filepath.ToSlash(root), "/") < 2 || root == home {
		return "", fault.New(fault.Invalid, "%s holds more than an agent; remove by hand what the agent made there", root)
	}
	if info, err := os.Lstat(filepath.Join(root, "agent")); err != nil || !info.IsDir() {
		return "", fault.New(fault.NotFound, "there is no agent in %s: nothing to purge", root)
	}
	return root, nil
}
