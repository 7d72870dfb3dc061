package nucleus

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/ggfleet/ggfleet/shared/fault"
)

// isSetUp reports whether the root holds the configuration of a nucleus: what
// classic's installer leaves, once it has ended. (Releases differ in whether it
// makes alts/current; the switch does.)
func (c *classic) isSetUp() (bool, error) {
	if _, err := c.sys.Lstat(c.at("config/config.tlog")); missing(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	began, ended := false, false
	versions, err := fs.ReadDir(c.s.root.FS(), beforeDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for _, v := range versions {
		for name, found := range map[string]*bool{setupRecord: &began, setupEnded: &ended} {
			_, err := c.s.root.Lstat(path.Join(beforeDir, v.Name(), name+".json"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return false, err
			}
			*found = *found || err == nil
		}
	}
	return ended || !began, nil
}

// Records of the setup: what was before it, and that it has ended well.
const (
	setupRecord = "setup"
	setupEnded  = "setup ended"
)

// configDir may hold files of others, so it only goes when it is empty.
const configDir = "config"

// madeBySetup are the names that classic's installer and the nucleus make in
// their root.
func madeBySetup() []string {
	return []string{
		"alts", "cli_ipc_info", "config/bootstrap.tlog", "config/config.tlog", "config/config.tlog~", "config/effectiveConfig.yaml",
		"deployments", "ipc.socket", "logs", "packages", "plugins", "telemetry", "work", configDir,
	}
}

// setupStep runs classic's own installer, once in the life of a root: a second
// run would merge the configuration again over what deployments have changed,
// and would not switch to another version (it leaves alts/current alone). It is
// run without --setup-system-service: releases differ in whether --start false
// holds then, and they end with code 0 when it failed. unitStep does the same.
func (c *classic) setupStep() Step {
	const name = setupRecord
	argv := c.setupCommand("java")
	return Step{
		Name: name, Describe: "run the nucleus's installer once: " + strings.Join(argv, " "),
		Done: func(context.Context) (bool, error) { return c.isSetUp() },
		Do: func(ctx context.Context) error {
			if err := c.s.remember(c.v, name, c.absent); err != nil {
				return err
			}
			if err := c.clearSetup(name); err != nil {
				return err
			}
			java, err := javaProgram(c.sys, c.o.Classic)
			if err != nil {
				return err
			}
			if err := c.sys.WriteFile(c.at(initConfig), c.o.Config, 0o600); err != nil {
				return err
			}
			argv := c.setupCommand(java)
			if _, err := run(ctx, c.sys, Command{Argv: argv, Dir: c.root}); err != nil {
				return err
			}
			if _, err := c.sys.Lstat(c.at("config/config.tlog")); missing(err) {
				return fault.New(fault.Unavailable, "the nucleus's installer ended well but left no config/config.tlog in %s; see logs/greengrass.log there", c.root)
			} else if err != nil {
				return err
			}
			return c.s.remember(c.v, setupEnded, func() (before, error) { return before{}, nil })
		},
		Undo: func(context.Context) error {
			if err := c.s.forget(c.v, setupEnded); err != nil {
				return err
			}
			if err := c.clearSetup(name); err != nil {
				return err
			}
			return c.s.forget(c.v, name)
		},
	}
}

// absent records which names the installer is going to make. What is there of
// an older nucleus, or of the agent, is not touched by an undo.
func (c *classic) absent() (before, error) {
	var r before
	for _, name := range append([]string{initConfig}, madeBySetup()...) {
		if _, err := c.sys.Lstat(c.at(name)); missing(err) {
			r.Absent = append(r.Absent, c.at(name))
		} else if err != nil {
			return r, err
		}
	}
	return r, nil
}

// clearSetup removes what the installer made, as far as the step's record says
// that it was not there before.
func (c *classic) clearSetup(step string) error {
	r, err := c.s.recall(c.v, step)
	if r == nil || err != nil {
		return err
	}
	for _, name := range r.Absent {
		remove := c.sys.RemoveAll
		if path.Base(name) == configDir {
			remove = c.sys.Remove
		}
		if err := remove(name); err != nil && !notEmpty(err) {
			return err
		}
	}
	return nil
}

func (c *classic) setupCommand(java string) []string {
	argv := append([]string{java}, c.o.Classic.JVMOptions...)
	argv = append(argv, "-Droot="+c.root, "-Dlog.store="+c.o.Classic.logStore(), "-jar", path.Join(c.dist(), classicJar),
		"--init-config", c.at(initConfig), "--component-default-user", c.o.Classic.user())
	for _, p := range c.o.Classic.TrustedPlugins {
		argv = append(argv, "--trusted-plugin", p)
	}
	if c.o.Classic.AWSRegion != "" {
		argv = append(argv, "--aws-region", c.o.Classic.AWSRegion)
	}
	if c.o.Classic.EnvStage != "" {
		argv = append(argv, "--env-stage", c.o.Classic.EnvStage)
	}
	return append(argv, "--setup-system-service", "false", "--start", "false")
}
