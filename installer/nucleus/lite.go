package nucleus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// Places of nucleus lite.
const (
	liteConfig    = "/etc/greengrass/config.yaml"
	liteConfigDir = "/etc/greengrass/config.d"
	liteRoot      = "/var/lib/greengrass"
)

var configDName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.yaml$`)

// lite is one installation of nucleus lite.
type lite struct {
	s   *Site
	v   Version
	m   Manifest
	o   Options
	sys System

	facts     Facts
	core      account
	component account
}

func (s *Site) lite(v Version, m Manifest, o Options, sys System) (*lite, error) {
	l := &lite{s: s, v: v, m: m, o: o, sys: sys, facts: Facts{RootPath: liteRoot}}
	if len(o.Config) > 0 {
		var err error
		if l.facts, err = CheckConfig(o.Config, m.Layout, ""); err != nil {
			return nil, fault.Under("config", err)
		}
	} else if b, err := sys.ReadFile(liteConfig); err == nil {
		// What runs here already, for whomever wrote it: its folder and user.
		if facts, err := CheckConfig(b, m.Layout, ""); err == nil {
			l.facts = facts
		}
	}
	for name, b := range o.Lite.ConfigD {
		if !configDName.MatchString(name) {
			return nil, fault.Field("lite.configD", "%q is no file name of config.d; want letters, digits, . _ - and .yaml at the end", name)
		}
		if len(b) > maxRecipe {
			return nil, fault.Field("lite.configD."+name, "has %d bytes, at most %d are allowed", len(b), maxRecipe)
		}
	}
	var err error
	if l.core, err = pair("lite.coreUser", first(o.Lite.CoreUser, "ggcore:ggcore")); err != nil {
		return nil, err
	}
	l.component, err = pair("lite.componentUser", first(o.Lite.ComponentUser, l.facts.PosixUser, "gg_component:gg_component"))
	return l, err
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func pair(field, s string) (account, error) {
	user, group, err := ParseAccount(s)
	if err != nil {
		return account{}, fault.Field(field, "%s", fault.Message(err))
	}
	return account{user: user, group: group}, nil
}

func (l *lite) plan() (Plan, Step, error) {
	p := Plan{l.checkStep(), l.s.accountsStep(l.v, l.sys, []account{l.core, l.component}), l.s.unpackStep(l.v, l.o)}
	var change Step
	if l.m.Layout == LayoutLitePackage {
		if !slices.Contains([]string{".deb", ".rpm"}, path.Ext(l.m.Package)) {
			return nil, Step{}, fault.New(fault.Unsupported, "the package %q is neither deb nor rpm", l.m.Package)
		}
		m := managerOf(l.sys, l.m.Package)
		p = append(p, l.s.keepStep(m, l.m.PackageVersion))
		change = l.packageSwitch(m)
	} else {
		p = append(p, l.programsStep())
		change = l.filesSwitch()
	}
	p = append(p, l.foldersStep(), l.keysStep(), l.configStep())
	return p, change, nil
}

func (l *lite) checkStep() Step {
	return checkStep("systemd, the architecture, the packages that lite depends on, the configuration's files, and that nothing else is in the way", func(ctx context.Context) error {
		if !systemd(l.sys) {
			return fault.New(fault.Unsupported, "this device is not run by systemd, and nucleus lite needs it: its daemons and every component are units; take the classic nucleus here")
		}
		for _, dir := range []string{systemdDir, "/etc"} {
			if err := l.sys.Writable(dir); err != nil {
				return fmt.Errorf("lite's units and configuration cannot be put in place, is /etc read-only? %w", err)
			}
		}
		if err := refuseOther(ctx, l.sys, ClassicUnit, "the classic nucleus"); err != nil {
			return err
		}
		if l.m.Layout == LayoutLitePackage {
			if err := l.checkPackage(ctx, managerOf(l.sys, l.m.Package)); err != nil {
				return err
			}
		}
		if l.o.Brought {
			return nil
		}
		if len(l.o.Config) > 0 {
			return checkIdentity(l.sys, l.facts, false)
		}
		if _, err := l.sys.Lstat(liteConfig); missing(err) {
			return fault.Field("config", "is missing; the first installation needs the installer configuration (%s)", liteConfig)
		} else if err != nil {
			return err
		}
		return nil
	})
}

func (l *lite) checkPackage(ctx context.Context, m manager) error {
	if !has(l.sys, m.program()) {
		return fault.New(fault.Unsupported, "the nucleus comes as a %s and this device has no %s; take the package of the other kind, or the tar.gz", m.format, m.program())
	}
	if err := l.sys.Writable("/usr"); err != nil {
		return fmt.Errorf("the package cannot be installed, is /usr read-only? %w", err)
	}
	arch, err := m.architecture(ctx)
	if err != nil {
		return err
	}
	if a := l.m.Architecture; a != "all" && a != "noarch" && a != arch {
		return fault.New(fault.Invalid, "the package is for %s, this device is %s", a, arch)
	}
	unmet, err := m.unmet(ctx, l.m.Depends)
	if err == nil && unmet != "" {
		err = fault.New(fault.Unsupported, "the package depends on %s, which this device lacks; install that first: a package that cannot be configured would leave no nucleus that works", unmet)
	}
	return err
}

// foldersStep makes the folders that lite works in. Files of the configuration
// are below /etc, data belongs to the daemons.
func (l *lite) foldersStep() Step {
	return l.s.hostStep(l.v, l.sys, "folders", "make "+liteConfigDir+" and "+l.facts.RootPath+" (of "+l.core.user+")", func(ctx context.Context) ([]want, error) {
		uid, gid, err := l.coreIDs(ctx)
		if err != nil {
			return nil, err
		}
		list := []want{dirWant(liteConfigDir, 0o755, -1, -1), dirWant(l.facts.RootPath, 0o755, uid, gid)}
		for i, w := range list { // the mode of a folder that is there is its owner's affair
			if info, err := l.sys.Lstat(w.name); err == nil && info.IsDir() {
				list[i].mode = info.Mode().Perm()
			} else if err != nil && !missing(err) {
				return nil, err
			}
		}
		return list, nil
	}, nil)
}

// coreIDs are the ids of the daemons' account, -1 while it is not there.
func (l *lite) coreIDs(ctx context.Context) (uid, gid int, err error) {
	u, err := l.sys.User(ctx, l.core.user)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, -1, nil
	}
	if err != nil {
		return 0, 0, err
	}
	if l.core.group == "" {
		return u.UID, u.GID, nil
	}
	g, err := l.sys.Group(ctx, l.core.group)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, -1, nil
	}
	return u.UID, g.GID, err
}

// keysStep lets the daemons, which are not root, read certificate, key and CA.
func (l *lite) keysStep() Step {
	return l.s.hostStep(l.v, l.sys, "keys", "let the group of "+l.core.user+" read the core's key, certificate and CA", func(ctx context.Context) ([]want, error) {
		_, gid, err := l.coreIDs(ctx)
		if err != nil {
			return nil, err
		}
		var list []want
		for _, f := range []struct {
			name string
			mode fs.FileMode
		}{{l.facts.Certificate, 0o644}, {l.facts.Key, 0o640}, {l.facts.RootCA, 0o644}} {
			if f.name != "" && path.IsAbs(f.name) {
				list = append(list, want{name: f.name, keep: true, mode: f.mode, uid: -1, gid: gid})
			}
		}
		return list, nil
	}, nil)
}

// configStep writes /etc/greengrass/config.yaml, whole, and the files of
// config.d, which lite merges over it.
func (l *lite) configStep() Step {
	return l.s.hostStep(l.v, l.sys, "configuration", "write "+liteConfig, func(context.Context) ([]want, error) {
		var list []want
		if len(l.o.Config) > 0 {
			list = append(list, fileWant(liteConfig, l.o.Config, 0o644))
		}
		for _, name := range slices.Sorted(mapKeys(l.o.Lite.ConfigD)) {
			list = append(list, fileWant(liteConfigDir+"/"+name, l.o.Lite.ConfigD[name], 0o644))
		}
		return list, nil
	}, nil)
}

func mapKeys(m map[string][]byte) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func liteAllUnits() []string {
	services, sockets := LiteUnits()
	return slices.Concat([]string{LiteTarget}, sockets, services)
}

// packageSwitch installs the package over the one that is there. dpkg and rpm
// rename file by file: a kill leaves both versions' files, and running either
// way again ends it. The daemons that run have the old files open.
func (l *lite) packageSwitch(m manager) Step {
	const name = "switch"
	file := path.Join(l.sys.Name(l.s.path), l.v.Dir(), l.m.Package)
	return Step{
		Name: name, Describe: "install " + file + " with " + m.program() + " and have systemd start " + LiteTarget + " with the device",
		Done: func(ctx context.Context) (bool, error) {
			version, broken, err := m.installed(ctx)
			if err != nil || broken || version != l.m.PackageVersion {
				return false, err
			}
			units, err := l.units()
			if err != nil {
				return false, err
			}
			return allEnabled(ctx, l.sys, units)
		},
		Do: func(ctx context.Context) error {
			if err := l.s.remember(l.v, name, func() (before, error) { return l.beforePackage(ctx, m) }); err != nil {
				return err
			}
			if version, broken, err := m.installed(ctx); err != nil {
				return err
			} else if broken || version != l.m.PackageVersion {
				if err := m.install(ctx, file); err != nil {
					return err
				}
			}
			if err := reload(ctx, l.sys); err != nil {
				return err
			}
			units, err := l.units()
			if err != nil {
				return err
			}
			return enable(ctx, l.sys, units)
		},
		Undo: func(ctx context.Context) error {
			r, err := l.s.recall(l.v, name)
			if r == nil || err != nil {
				return err
			}
			if err := backToEnabled(ctx, l.sys, onlyOff(r.Enabled)); err != nil {
				return err
			}
			if err := l.packageBack(ctx, m, *r.Package); err != nil {
				return err
			}
			if err := reload(ctx, l.sys); err != nil {
				return err
			}
			if err := backToEnabled(ctx, l.sys, r.Enabled); err != nil {
				return err
			}
			for _, st := range slices.Backward(r.States) {
				if err := st.restore(l.sys); err != nil {
					return err
				}
			}
			return l.s.forget(l.v, name)
		},
	}
}

func (l *lite) beforePackage(ctx context.Context, m manager) (before, error) {
	var old oldPackage
	version, broken, err := m.installed(ctx)
	if err != nil {
		return before{}, err
	}
	if version != "" {
		if old.File, err = l.s.findPackage(ctx, m, version); err != nil {
			return before{}, err
		}
		if old.File == "" && broken {
			version = "" // half installed and its package is gone: there is nothing to go back to
		} else if old.File == "" {
			return before{}, fault.New(fault.Conflict, "%s %s is installed and there is no package to go back to it; run the plan's step \"keep\" first", litePackageName, version)
		}
	}
	old.Version = version
	// What the package's scripts write into the configuration (config.d has a
	// file of theirs, which lite merges over config.yaml).
	r, err := looks(l.sys, []want{fileWant(liteConfigDir+"/greengrass-lite.yaml", nil, 0)})
	if err != nil {
		return before{}, err
	}
	r.Package = &old
	r.Enabled, err = enabled(ctx, l.sys, liteAllUnits())
	return r, err
}

func (l *lite) packageBack(ctx context.Context, m manager, old oldPackage) error {
	now, broken, err := m.installed(ctx)
	switch {
	case err != nil:
		return err
	case now == old.Version && !broken:
		return nil
	case old.Version == "":
		return m.remove(ctx)
	}
	return m.install(ctx, old.File)
}

// units are those of lite's units that are there: releases differ.
func (l *lite) units() ([]string, error) {
	var out []string
	for _, u := range liteAllUnits() {
		for _, dir := range unitDirs() {
			if _, err := l.sys.Lstat(path.Join(dir, u)); err == nil {
				out = append(out, u)
				break
			} else if !missing(err) {
				return nil, err
			}
		}
	}
	if !slices.Contains(out, LiteTarget) {
		return nil, fault.New(fault.Invalid, "the distribution brought no unit %s", LiteTarget)
	}
	return out, nil
}

func (l *lite) launch() Launch {
	services, _ := LiteUnits()
	return Launch{Unit: LiteTarget, Watch: append([]string{LiteTarget}, services...)}
}
