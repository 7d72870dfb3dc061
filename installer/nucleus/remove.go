package nucleus

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Remove returns the plan that takes the installed nucleus v off this device:
// units, package or links, and every version's files. Configuration,
// certificates, accounts and the components' data stay, so that installing it
// again goes on where it ended. The nucleus must have been stopped: the step
// "check" fails otherwise, with fault.Conflict. Its steps have no undo.
func (s *Site) Remove(v Version, m Manifest, o Options, sys System) (Plan, error) {
	switch m.Layout {
	case LayoutProgram:
		return Plan{s.filesGone()}, nil
	case LayoutClassic:
		c, err := s.classic(v, o, sys)
		if err != nil {
			return nil, err
		}
		unit := systemdDir + "/" + ClassicUnit
		p := Plan{stopped(sys, ClassicUnit)}
		if systemd(sys) {
			p = append(p, disableStep(sys, func() ([]string, error) {
				b, err := sys.ReadFile(unit)
				if missing(err) || err == nil && unitRoot(b) != c.root {
					return nil, nil
				}
				return []string{ClassicUnit}, err
			}), goneStep(sys, "unit", []string{unit + ".d/ggfleet-java.conf", unit + ".d", unit}, func(ctx context.Context) error { return forgetUnits(ctx, sys, ClassicUnit) }))
		}
		return append(p, goneStep(sys, "launch folders", []string{c.at("alts")}, nil), s.filesGone()), nil
	case LayoutLitePackage, LayoutLiteFiles:
		l, err := s.lite(v, m, o, sys)
		if err != nil {
			return nil, err
		}
		return l.removal(), nil
	}
	return nil, fault.New(fault.Unsupported, "the layout %q of %s is not known", m.Layout, m.Name)
}

func (l *lite) removal() Plan {
	p := Plan{stopped(l.sys, LiteTarget)}
	if l.m.Layout == LayoutLiteFiles {
		var names, units []string
		if list, err := l.installed(); err == nil {
			for _, w := range list {
				names, units = append(names, w.name), append(units, path.Base(w.name))
			}
		}
		p = append(p, goneStep(l.sys, "units", names, func(ctx context.Context) error { return forgetUnits(ctx, l.sys, units...) }))
		return append(p, l.s.filesGone())
	}
	m := managerOf(l.sys, l.m.Package)
	return append(p, disableStep(l.sys, func() ([]string, error) {
		units, err := l.units()
		if errors.Is(err, fault.Invalid) { // none
			return nil, nil
		}
		return units, err
	}), Step{
		Name: "package", Describe: "remove the package " + litePackageName + " with " + m.program(),
		Done: func(ctx context.Context) (bool, error) {
			version, _, err := m.installed(ctx)
			return version == "", err
		},
		Do: func(ctx context.Context) error { return m.remove(ctx) },
	}, l.s.filesGone())
}

func stopped(sys System, unit string) Step {
	return checkStep("whether the nucleus is stopped", func(ctx context.Context) error {
		if !systemd(sys) {
			return nil
		}
		on, err := active(ctx, sys, unit)
		if err == nil && on {
			err = fault.New(fault.Conflict, "%s runs; stop it first", unit)
		}
		return err
	})
}

func disableStep(sys System, units func() ([]string, error)) Step {
	left := func(ctx context.Context) ([]string, error) {
		list, err := units()
		if err != nil {
			return nil, err
		}
		on, err := enabled(ctx, sys, list)
		var out []string
		for _, u := range list {
			if on[u] {
				out = append(out, u)
			}
		}
		return out, err
	}
	return Step{
		Name: "disable", Describe: "have systemd no longer start the nucleus with the device",
		Done: func(ctx context.Context) (bool, error) {
			list, err := left(ctx)
			return len(list) == 0, err
		},
		Do: func(ctx context.Context) error {
			list, err := left(ctx)
			if err != nil || len(list) == 0 {
				return err
			}
			_, err = run(ctx, sys, Command{Argv: append([]string{"systemctl", "disable"}, list...)})
			return err
		},
	}
}

// forgetUnits has systemd forget units that are gone, and that they failed: a JVM
// that is stopped ends with status 143.
func forgetUnits(ctx context.Context, sys System, units ...string) error {
	if err := reload(ctx, sys); err != nil {
		return err
	}
	for _, u := range units {
		_, _ = sys.Run(ctx, Command{Argv: []string{"systemctl", "reset-failed", u}}) // it fails for one that is not known any more
	}
	return nil
}

// goneStep removes names of the host.
func goneStep(sys System, name string, names []string, after func(ctx context.Context) error) Step {
	return Step{
		Name: name, Describe: "remove " + strings.Join(names, ", "),
		Done: func(context.Context) (bool, error) {
			for _, n := range names {
				if _, err := sys.Lstat(n); !missing(err) {
					return false, err
				}
			}
			return true, nil
		},
		Do: func(ctx context.Context) error {
			for _, n := range names {
				if err := sys.RemoveAll(n); err != nil {
					return err
				}
			}
			if after == nil {
				return nil
			}
			return after(ctx)
		},
	}
}

// filesGone removes every version's files.
func (s *Site) filesGone() Step {
	names := []string{currentLink, versionsDir}
	return Step{
		Name: "files", Describe: "remove " + path.Join(s.path, versionsDir) + " and the link " + currentLink,
		Done: func(context.Context) (bool, error) {
			for _, n := range names {
				if _, err := s.root.Lstat(n); !errors.Is(err, fs.ErrNotExist) {
					return false, err
				}
			}
			return true, nil
		},
		Do: func(context.Context) error {
			for _, n := range names {
				if err := s.root.RemoveAll(n); err != nil {
					return err
				}
			}
			return durable.SyncDir(s.root, ".")
		},
	}
}
