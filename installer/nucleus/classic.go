package nucleus

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// initConfig is the copy of the installer configuration that classic's own
// installer is told to read. The nucleus keeps its configuration elsewhere and
// never looks at it again.
const initConfig = versionsDir + "/init-config.yaml"

// classic is one installation of the classic nucleus.
type classic struct {
	s   *Site
	v   Version
	o   Options
	sys System

	root  string // as the host's programs see it
	facts Facts
}

func (s *Site) classic(v Version, o Options, sys System) (*classic, error) {
	c := &classic{s: s, v: v, o: o, sys: sys, root: sys.Name(s.path)}
	if err := o.Classic.check(); err != nil {
		return nil, err
	}
	// The loader is a shell script that does not quote its root.
	if strings.ContainsAny(c.root, " \t\n'\"$`\\*?[;&|<>()%") {
		return nil, fault.Field("root", "%q has a character that the nucleus's start script does not cope with; want letters, digits, / _ - .", c.root)
	}
	if len(o.Config) > 0 {
		var err error
		if c.facts, err = CheckConfig(o.Config, LayoutClassic, c.root); err != nil {
			return nil, fault.Under("config", err)
		}
		if r := o.Classic.AWSRegion; r != "" && !bytes.Contains(o.Config, []byte(r)) {
			return nil, fault.Field("classic.awsRegion", "%q is not the awsRegion of the configuration; leave the option out", r)
		}
	}
	return c, nil
}

func (c *classic) at(name string) string { return path.Join(c.root, name) }

// dist and launchDir are where the version's files and the links of its start
// lie. Classic's own names for launch folders are "init" and deployment ids.
func (c *classic) dist() string { return c.at(c.v.Dir()) }

func (c *classic) launchDir() string {
	return c.at("alts/ggfleet-" + path.Base(c.v.Dir()))
}

func (c *classic) plan() (Plan, Step, error) {
	user, group, err := ParseAccount(c.o.Classic.user())
	if err != nil {
		return nil, Step{}, err
	}
	p := Plan{c.checkStep(), c.accounts(account{user, group, true}), c.s.unpackStep(c.v, c.o), c.setupStep(), c.launchStep()}
	if c.service() {
		p = append(p, c.unitStep(), c.s.enableStep(c.v, c.sys, ClassicUnit))
	}
	return p, c.switchStep(), nil
}

// accounts makes the components' default user. A nucleus that is set up has
// its own, unless another is asked for.
func (c *classic) accounts(a account) Step {
	step := c.s.accountsStep(c.v, c.sys, []account{a})
	if c.o.Classic.DefaultUser != "" {
		return step
	}
	done := step.Done
	step.Done = func(ctx context.Context) (bool, error) {
		if set, err := c.isSetUp(); err != nil || set {
			return set, err
		}
		return done(ctx)
	}
	return step
}

func (c *classic) service() bool { return !c.o.Classic.NoSystemService && systemd(c.sys) }

// checkStep changes nothing: it fails while the device cannot take the nucleus.
func (c *classic) checkStep() Step {
	return checkStep("the Java runtime, the configuration's files, and that nothing else is in the way", func(ctx context.Context) error {
		if _, _, err := Java(ctx, c.sys, c.o.Classic); err != nil {
			return err
		}
		if !c.o.Classic.NoSystemService && !systemd(c.sys) {
			return fault.New(fault.Unsupported, "this device is not run by systemd; install with the option noSystemService, then the agent runs the nucleus as a process")
		}
		if c.service() {
			if err := c.sys.Writable(systemdDir); err != nil {
				return fmt.Errorf("the unit %s cannot be put in place, is /etc read-only? %w", ClassicUnit, err)
			}
		}
		for _, p := range c.o.Classic.TrustedPlugins {
			if _, err := c.sys.Lstat(p); err != nil {
				return fault.Field("classic.trustedPlugins", "%s cannot be read: %v", p, err)
			}
		}
		if err := refuseOther(ctx, c.sys, LiteTarget, "nucleus lite"); err != nil {
			return err
		}
		if err := c.unitIsOurs(); err != nil {
			return err
		}
		if err := c.settled(); err != nil {
			return err
		}
		if set, err := c.isSetUp(); err != nil || set {
			return err
		}
		if len(c.o.Config) == 0 {
			return fault.Field("config", "is missing; the first installation needs the installer configuration")
		}
		if c.o.Brought {
			return nil
		}
		return checkIdentity(c.sys, c.facts, true)
	})
}

// settled is an error while the nucleus updates itself by a deployment: it has
// two launch folders then, and the links say which one it goes back to.
func (c *classic) settled() error {
	for _, name := range []string{"old", "new", "broken"} {
		if _, err := c.sys.Lstat(c.at("alts/" + name)); err == nil {
			return fault.New(fault.Conflict, "the nucleus in %s is in the middle of a deployment that updates it (alts/%s is there); wait until that has ended", c.root, name)
		} else if !missing(err) {
			return err
		}
	}
	return nil
}

// unitIsOurs is an error when the unit starts a nucleus in another root.
func (c *classic) unitIsOurs() error {
	other, err := classicUnitRoot(c.sys)
	if err != nil {
		return err
	}
	if other != "" && other != c.root {
		return fault.New(fault.Conflict, "this device has a classic nucleus in %s already (%s); take that one over (--nucleus-root %s) or remove it first", other, ClassicUnit, other)
	}
	return nil
}

// unitRoot reads from a unit in which root its nucleus lies.
func unitRoot(unit []byte) string {
	for line := range bytes.Lines(unit) {
		key, value, _ := strings.Cut(strings.TrimSpace(string(line)), "=")
		if key != "ExecStart" {
			continue
		}
		for word := range strings.FieldsSeq(strings.NewReplacer(`"`, " ", "'", " ").Replace(value)) {
			if root, ok := strings.CutSuffix(word, "/alts/current/distro/bin/loader"); ok && path.IsAbs(root) {
				return root
			}
		}
	}
	return ""
}

// launchStep makes the folder that alts/current will point to: the link to the
// version's files, and the options of the JVM, taken over from the version that
// runs unless others are asked for.
func (c *classic) launchStep() Step {
	return c.s.hostStep(c.v, c.sys, "launch folder", "make "+c.launchDir()+", from which this version starts", func(context.Context) ([]want, error) {
		list := []want{dirWant(c.launchDir(), 0o755, -1, -1), linkWant(c.launchDir()+"/distro", c.dist())}
		params := []byte(strings.Join(c.o.Classic.JVMOptions, " "))
		if len(params) == 0 {
			b, err := c.storedParams()
			if err != nil {
				return nil, err
			}
			params = b
		}
		if len(params) > 0 {
			list = append(list, fileWant(c.launchDir()+"/launch.params", params, 0o644))
		}
		return list, nil
	}, nil)
}

// switchStep turns alts/current, in one rename. A nucleus that runs goes on with
// the files it has open until it is restarted.
func (c *classic) switchStep() Step {
	step := c.s.hostStep(c.v, c.sys, "switch", "point "+c.at("alts/current")+" to "+c.launchDir(), func(context.Context) ([]want, error) {
		return []want{linkWant(c.at("alts/current"), c.launchDir())}, nil
	}, nil)
	do := step.Do
	step.Do = func(ctx context.Context) error {
		if err := c.settled(); err != nil {
			return err
		}
		return do(ctx)
	}
	return step
}

// unitStep writes the unit that classic's installer would, from the template of
// the distribution, and a drop-in for a java that is not in systemd's PATH. A
// unit for this root that is there already is left as it is.
func (c *classic) unitStep() Step {
	unit := systemdDir + "/" + ClassicUnit
	return c.s.hostStep(c.v, c.sys, "unit", "write "+unit+", which runs "+c.at("alts/current/"+"distro/bin/loader"), func(context.Context) ([]want, error) {
		var list []want
		have, err := classicUnitRoot(c.sys)
		if err != nil {
			return nil, err
		}
		if have != c.root {
			template, err := c.sys.ReadFile(path.Join(c.dist(), classicTemplate))
			if err != nil && !missing(err) { // dry run: not unpacked yet
				return nil, err
			}
			list = append(list, fileWant(unit, c.renderUnit(template), 0o644))
		}
		if c.o.Classic.Java != "" {
			drop := "[Service]\nEnvironment=\"GG_JAVA_EXE=" + c.o.Classic.Java + "\"\n"
			list = append(list, fileWant(unit+".d/ggfleet-java.conf", []byte(drop), 0o644))
		}
		return list, nil
	}, func(ctx context.Context) error { return reload(ctx, c.sys) })
}

func (c *classic) renderUnit(template []byte) []byte {
	return []byte(strings.NewReplacer(
		"REPLACE_WITH_GG_LOADER_PID_FILE", c.at("alts/loader.pid"),
		"REPLACE_WITH_GG_LOADER_FILE", c.at("alts/current/distro/bin/loader"),
		"REPLACE_WITH_LOADER_LOG_FILE", c.at("logs/loader.log"),
	).Replace(string(template)))
}

// launch is the service, or what the loader script does, as a process.
func (c *classic) launch() (Launch, error) {
	if c.service() {
		return Launch{Unit: ClassicUnit, Watch: []string{ClassicUnit}}, nil
	}
	java, err := javaProgram(c.sys, c.o.Classic)
	if err != nil {
		return Launch{}, err
	}
	args := []string{"-Dlog.store=" + c.o.Classic.logStore()}
	params, err := c.storedParams()
	if err != nil {
		return Launch{}, err
	}
	args = append(args, strings.Fields(string(params))...)
	args = append(args, "-Droot="+c.root, "-jar", c.at("alts/current/"+"distro/"+classicJar), "--setup-system-service", "false")
	return Launch{Program: java, Args: args, Dir: c.root}, nil
}

// storedParams are the JVM options of the nucleus that runs.
func (c *classic) storedParams() ([]byte, error) {
	b, err := ReadLinked(c.sys, c.at("alts/current/launch.params"))
	if missing(err) {
		return nil, nil
	}
	return b, err
}

// used are the version folders that any of classic's launch folders needs.
func (s *Site) used() map[string]bool {
	out := map[string]bool{}
	for _, name := range []string{"current", "old", "new", "broken"} {
		launch, err := s.root.Readlink("alts/" + name)
		if err != nil {
			continue
		}
		to, err := s.root.Readlink(path.Join("alts", path.Base(launch), "distro"))
		if err == nil && path.Base(path.Dir(to)) == versionsDir {
			out[path.Base(to)] = true
		}
	}
	return out
}
