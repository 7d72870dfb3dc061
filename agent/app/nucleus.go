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
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/agent/internal/reconcile"
	"github.com/ggfleet/ggfleet/agent/internal/telemetry"
	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// NucleusSettings say how the nucleus is installed on a device.
type NucleusSettings = reconcile.Settings

// ReadNucleusSettings returns the settings of the agent in root.
func ReadNucleusSettings(root string) (NucleusSettings, error) {
	return reconcile.ReadSettings(filepath.Join(root, "agent"))
}

// StoreNucleusSettings stores them. They hold from the agent's next start on.
func StoreNucleusSettings(cfg Config, s NucleusSettings) error {
	cfg = cfg.withDefaults()
	if err := s.Check(); err != nil {
		return err
	}
	dir, err := openStopped(cfg)
	if err != nil {
		return err
	}
	return errors.Join(dir.WriteKept(reconcile.SettingsName, s), dir.Close())
}

// NucleusByHand is what a technician does to the nucleus of a device without the
// control plane.
type NucleusByHand struct {
	Archive string // file of the distribution
	Config  string // file of the installer configuration; "": the one that is stored
	DryRun  bool   // only say what would be done
	Out     io.Writer
}

// PlanNucleus writes what installing the archive would do. It changes nothing and
// works beside a running agent.
func PlanNucleus(ctx context.Context, cfg Config, h NucleusByHand) error {
	cfg = cfg.withDefaults()
	a, doc, err := h.read(ctx)
	if err != nil {
		return err
	}
	root, err := filepath.Abs(cfg.Root)
	if err != nil {
		return err
	}
	dir, forget, err := copyOf(root)
	if err != nil {
		return err
	}
	defer forget()
	if _, err := os.Stat(root); err != nil { // nothing is made for the sake of a look
		root = dir.Site()
	}
	return withLoop(ctx, cfg, dir, root, func(l *reconcile.Loop) error {
		steps, err := l.Show(ctx, a, doc)
		if err != nil {
			return err
		}
		fmt.Fprintf(h.Out, "%s %s (%s) for %s:\n", a.Version.Name, a.Version.Version, a.Manifest.Runtime, root)
		if a.Manifest.Layout == nucleus.LayoutClassic {
			settings, err := reconcile.ReadSettings(dir.Path("."))
			if err != nil {
				return err
			}
			if java, major, err := nucleus.Java(ctx, cfg.System, settings.Classic); err == nil { // else a step is refused for it
				fmt.Fprintf(h.Out, "  %-14s %s is Java %d\n", "java", java, major)
			}
		}
		return printSteps(h.Out, steps)
	})
}

// copyOf is a state folder that knows what the agent in root does, so that its
// records can be looked at while it runs.
func copyOf(root string) (dir *localstate.Dir, forget func(), err error) {
	scratch, err := os.MkdirTemp("", "ggfleet-plan-")
	if err != nil {
		return nil, nil, err
	}
	forget = func() {
		if dir != nil {
			_ = dir.Close()
		}
		_ = os.RemoveAll(scratch)
	}
	if dir, err = localstate.Open(scratch, nil); err != nil {
		forget()
		return nil, nil, err
	}
	for _, name := range []string{reconcile.RecordName, reconcile.SettingsName} {
		b, err := os.ReadFile(filepath.Join(root, "agent", name))
		if err == nil {
			err = dir.Write(name, b)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			forget()
			return nil, nil, err
		}
	}
	return dir, forget, nil
}

// InstallNucleus installs the archive, and goes back to what ran before when it
// fails. The agent must be stopped.
func InstallNucleus(ctx context.Context, cfg Config, h NucleusByHand) error {
	if h.DryRun {
		return PlanNucleus(ctx, cfg, h)
	}
	cfg = cfg.withDefaults()
	a, doc, err := h.read(ctx)
	if err != nil {
		return err
	}
	return byHand(ctx, cfg, func(l *reconcile.Loop) error {
		if err := l.Install(ctx, a, doc); err != nil {
			return err
		}
		how := "its service runs"
		if a.Manifest.Layout == nucleus.LayoutProgram {
			how = "it runs as soon as the agent does: ggfleet-agent start" + rootFlag(cfg.Root)
		}
		_, err := fmt.Fprintf(h.Out, "nucleus %s %s installed and proven; %s\n", a.Version.Name, a.Version.Version, how)
		return err
	})
}

// RemoveNucleus stops the nucleus and takes it off the device. The agent must be
// stopped.
func RemoveNucleus(ctx context.Context, cfg Config, h NucleusByHand) error {
	return byHand(ctx, cfg.withDefaults(), func(l *reconcile.Loop) error {
		steps, err := l.Remove(ctx, h.DryRun)
		if err != nil || h.DryRun {
			return errors.Join(err, printSteps(h.Out, steps))
		}
		_, err = fmt.Fprintln(h.Out, "nucleus removed; configuration, certificates and the components' data stay")
		return err
	})
}

// RollbackNucleus goes back to the version before the current one. The agent must
// be stopped.
func RollbackNucleus(ctx context.Context, cfg Config, h NucleusByHand) error {
	cfg = cfg.withDefaults()
	return byHand(ctx, cfg, func(l *reconcile.Loop) error {
		if err := l.Rollback(ctx); err != nil {
			return err
		}
		r, err := reconcile.ReadRecord(filepath.Join(cfg.Root, "agent"))
		if err != nil {
			return err
		}
		back := "the nucleus that was there before the agent"
		if r.Current != nil {
			back = r.Current.Name + " " + r.Current.Version
		}
		_, err = fmt.Fprintf(h.Out, "gone back to %s; %s is not installed again while it is the one offered\n", back, r.Rejection.Version)
		return err
	})
}

func (h NucleusByHand) read(ctx context.Context) (a reconcile.Archive, doc []byte, err error) {
	if h.Archive == "" {
		return a, nil, fault.Field("archive", "is missing; name the file of the nucleus with --archive")
	}
	if a, err = reconcile.OpenArchive(ctx, h.Archive); err != nil || h.Config == "" {
		return a, nil, err
	}
	f, err := os.Open(h.Config)
	if err != nil {
		return a, nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	doc, err = io.ReadAll(io.LimitReader(f, config.MaxDocument+1))
	return a, doc, err
}

func openStopped(cfg Config) (*localstate.Dir, error) {
	dir, err := localstate.Open(cfg.Root, cfg.Around)
	if errors.Is(err, fault.Exists) {
		return nil, fault.New(fault.Conflict, "the agent in %s runs; stop it first: 'ggfleet-agent stop%s' does, when it is a service", cfg.Root, rootFlag(cfg.Root))
	}
	return dir, err
}

// byHand carries out f with a loop and a supervisor that nobody else uses.
func byHand(ctx context.Context, cfg Config, f func(*reconcile.Loop) error) error {
	dir, err := openStopped(cfg)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // only the lock is left
	return withLoop(ctx, cfg, dir, dir.Site(), f)
}

func withLoop(ctx context.Context, cfg Config, dir *localstate.Dir, root string, f func(*reconcile.Loop) error) (err error) {
	settings, err := reconcile.ReadSettings(dir.Path("."))
	if err != nil {
		return err
	}
	site, err := nucleus.OpenSite(root, nucleus.Limits{})
	if err != nil {
		return err
	}
	defer site.Close() //nolint:errcheck // a folder
	supervisor, err := process.New(process.Config{
		Dir: dir, System: cfg.System, OnStatus: func(telemetry.Nucleus) {}, UpFor: cfg.UpFor, Gate: cfg.Gate, Stop: cfg.Stop, MinWait: cfg.MinWait, Log: cfg.Log,
	})
	if err != nil {
		return err
	}
	var id identity.Identity
	if err := readJSON(filepath.Join(root, "agent", "identity.json"), &id); err != nil {
		return err
	}
	loop, err := reconcile.New(reconcile.Config{Core: id.Core, Dir: dir, Site: site, Supervisor: supervisor, System: cfg.System, Settings: settings, Log: cfg.Log})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- supervisor.Run(ctx) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-done, loop.Close())
	}()
	return f(loop)
}

func printSteps(w io.Writer, steps []reconcile.Planned) error {
	var refused error
	for _, s := range steps {
		state := "to do"
		switch {
		case s.Err != nil:
			state, refused = "refused: "+s.Err.Error(), s.Err
		case s.Done:
			state = "done"
		}
		if _, err := fmt.Fprintf(w, "  %-14s %s: %s\n", s.Step.Name, cmp.Or(s.Step.Describe, s.Step.Name), state); err != nil {
			return err
		}
	}
	if refused != nil {
		return fmt.Errorf("it cannot be done now: %w", refused)
	}
	return nil
}

// printNucleus writes what nucleus the agent in agentDir looks after.
func printNucleus(ctx context.Context, w io.Writer, agentDir string) error {
	r, err := reconcile.ReadRecord(agentDir)
	if err != nil {
		return err
	}
	settings, err := reconcile.ReadSettings(agentDir)
	if err != nil {
		return err
	}
	state := "not running"
	if pid, ok := process.Running(agentDir); ok {
		state = fmt.Sprintf("running, pid %d", pid)
	}
	how := func(layout nucleus.Layout, unit string) string {
		if layout == nucleus.LayoutClassic && unit == "" && !settings.Classic.NoSystemService {
			unit = nucleus.ClassicUnit
		}
		if unit == "" && (layout == nucleus.LayoutLitePackage || layout == nucleus.LayoutLiteFiles) {
			unit = nucleus.LiteTarget
		}
		if unit == "" {
			return "process of the agent, " + state
		}
		out, err := nucleus.NewHost().Run(ctx, nucleus.Command{Argv: []string{"systemctl", "is-active", unit}})
		if err != nil {
			return "service " + unit
		}
		return "service " + unit + ", " + strings.TrimSpace(string(out.Stdout))
	}
	line := func(label, name, version string, layout nucleus.Layout, root, unit string) {
		fmt.Fprintf(w, "%-9s %s %s (%s)\n", label, name, version, how(layout, unit))
		if layout == nucleus.LayoutClassic {
			fmt.Fprintf(w, "          classic in %s\n", cmp.Or(root, settings.Root))
		}
	}
	switch {
	case r.Current == nil && r.Trial == nil && r.Adopted == nil:
		fmt.Fprintln(w, "nucleus:  none installed")
	case r.Current != nil:
		line("nucleus:", r.Current.Name, r.Current.Version, r.Current.Layout, "", "")
	case r.Adopted != nil:
		line("nucleus:", string(r.Adopted.Layout), cmp.Or(r.Adopted.Version, "of unknown version"), r.Adopted.Layout, r.Adopted.Root, r.Adopted.Unit)
		fmt.Fprintln(w, "          it was there before the agent and is left as it is")
	}
	if r.Trial != nil {
		line("on trial:", r.Trial.Name, r.Trial.Version, r.Trial.Layout, "", "")
	}
	if r.Settling {
		fmt.Fprintln(w, "          it settles: a crash loop makes the agent go back")
	}
	if r.Previous != nil {
		fmt.Fprintf(w, "before:   %s ('ggfleet-agent nucleus rollback' goes back to it)\n", r.Previous.Version)
	}
	if r.Rejection != nil {
		fmt.Fprintf(w, "rejected: %s: %s\n", r.Rejection.Version, r.Rejection.Why)
	}
	readTrouble(agentDir).print(w, time.Now())
	return nil
}
