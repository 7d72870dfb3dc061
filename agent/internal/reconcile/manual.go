package reconcile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
)

// Archive is a distribution that a technician has brought.
type Archive struct {
	File     string
	Format   string
	Version  nucleus.Version
	Manifest nucleus.Manifest
}

// OpenArchive looks at a distribution in a file. Errors about it are those of
// nucleus.Inspect.
func OpenArchive(ctx context.Context, file string) (a Archive, err error) {
	if a.File, err = filepath.Abs(file); err != nil {
		return a, err
	}
	f, err := os.Open(a.File)
	if err != nil {
		return a, err
	}
	defer f.Close() //nolint:errcheck // read only
	if a.Format, err = nucleus.Sniff(f); err != nil {
		return a, err
	}
	if a.Manifest, err = nucleus.Inspect(f, a.Format); err != nil {
		return a, err
	}
	a.Version = nucleus.Version{Name: a.Manifest.Name, Version: a.Manifest.Version}
	a.Version.Digest, err = nucleus.Digest(ctx, f)
	return a, err
}

// Planned is one step of an installation as Show found it.
type Planned struct {
	Step nucleus.Step
	Done bool
	Err  error // why it cannot be done now
}

// Show returns the steps that installing an archive would take, and changes
// nothing. doc is the installer configuration; empty: the stored one.
func (l *Loop) Show(ctx context.Context, a Archive, doc []byte) (out []Planned, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dry, l.given = true, doc
	defer func() {
		l.dry, l.given = false, nil
		if len(l.made) > 0 { // nothing is left of a look
			err = errors.Join(err, l.closeSites())
		}
		for _, dir := range l.made {
			err = errors.Join(err, l.sys.Remove(dir))
		}
		l.made = nil
	}()
	r, err := l.record()
	if err != nil {
		return nil, err
	}
	p, err := l.prepareArchive(ctx, r, a)
	if err != nil {
		return nil, err
	}
	for _, s := range append(p.plan, p.change) {
		done, err := s.Done(ctx)
		out = append(out, Planned{s, done, err})
	}
	return out, nil
}

func (l *Loop) prepareArchive(ctx context.Context, r Record, a Archive) (prepared, error) {
	p, err := l.prepare(ctx, r, installed(a.Version, a.Manifest.Layout), &a.Manifest)
	if err != nil {
		return p, err
	}
	p.options.Archive, p.options.Format = a.File, a.Format
	p.plan, p.change, err = p.site.Plan(a.Version, a.Manifest, p.options, l.sys)
	return p, err
}

// Install installs an archive by hand, as if it had been offered: on trial, and
// gone back from when it fails.
func (l *Loop) Install(ctx context.Context, a Archive, doc []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, step := range []func() error{l.tidy, l.swapBack, func() error { return l.found(ctx) }} {
		if err := step(); err != nil {
			return err
		}
	}
	if len(doc) > 0 {
		if err := l.take(ctx, doc); err != nil {
			return fmt.Errorf("the configuration: %w", err)
		}
	}
	r, err := l.record()
	if err != nil {
		return err
	}
	if r.Trial != nil && r.Trial.id() != a.Version {
		return fault.New(fault.Conflict, "version %s is on trial; let the agent end that first", r.Trial.Version)
	}
	if r.Current == nil || r.Current.id() != a.Version {
		if err := l.forgetOld(a.Version); err != nil {
			return err
		}
	}
	if r, err = l.record(); err != nil {
		return err
	}
	if err := l.dropDamaged(ctx, r, a); err != nil {
		return err
	}
	if err := l.installArchive(ctx, r, a.Version, a.File, a.Format); err != nil {
		return err
	}
	if r, err = l.record(); err != nil {
		return err
	}
	if r.Rejected == a.Version.Digest && r.Rejection != nil {
		return fault.New(fault.Unavailable, "%s failed, what ran before runs again: %s", a.Version.Version, r.Rejection.Why)
	}
	return nil
}

// found adopts what is on the device when nothing is recorded, so that there is
// something to go back to.
func (l *Loop) found(ctx context.Context) error {
	r, err := l.record()
	if err != nil || r.Current != nil || r.Trial != nil || r.Adopted != nil || r.Preparing != nil {
		return err
	}
	_, err = l.adopt(ctx)
	return err
}

// take stores a configuration that a technician has brought, and the files that it
// names, as if the control plane had sent them.
func (l *Loop) take(ctx context.Context, doc []byte) error {
	own, err := config.RewriteSystemPaths(doc, filepath.ToSlash(l.cfg.Site.Path()))
	if err != nil {
		return err
	}
	if _, err := l.places(own); err != nil {
		return err
	}
	if err := l.deliver(ctx, doc, own); err != nil {
		return err
	}
	return l.write(ctx, localstate.CoreConfig, nucleus.File{Name: nucleus.ConfigFile, Data: own, Mode: 0o644})
}

// Remove stops the installed nucleus and takes it off the device. Configuration,
// certificates and the components' data stay. An adopted nucleus is not the
// agent's to remove.
func (l *Loop) Remove(ctx context.Context, dry bool) ([]Planned, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dry = true
	defer func() { l.dry = false }()
	r, err := l.record()
	if err != nil {
		return nil, err
	}
	switch {
	case r.Trial != nil:
		return nil, fault.New(fault.Conflict, "version %s is on trial; let the agent end that first", r.Trial.Version)
	case r.Current == nil && r.Adopted != nil:
		return nil, fault.New(fault.Unsupported, "the nucleus in %s was there before the agent; remove it as it was installed", r.Adopted.Root)
	case r.Current == nil:
		return nil, fault.New(fault.NotFound, "no nucleus is installed by this agent")
	}
	return l.takeOff(ctx, r, *r.Current, dry)
}

// Clear is Remove before the agent itself is removed: it ends a trial, and is
// done when there is no nucleus, or only one that was there before the agent.
func (l *Loop) Clear(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dry = true
	defer func() { l.dry = false }()
	r, err := l.record()
	if err != nil {
		return err
	}
	for _, v := range []*Installed{r.Trial, r.Current} { // they may not be of one layout
		if v == nil {
			continue
		}
		if _, err := l.takeOff(ctx, r, *v, false); err != nil {
			return fmt.Errorf("removing nucleus %s: %w", v.Version, err)
		}
	}
	return nil
}

func (l *Loop) takeOff(ctx context.Context, r Record, v Installed, dry bool) ([]Planned, error) {
	p, err := l.prepare(ctx, r, v, nil)
	if err != nil {
		return nil, err
	}
	plan, err := p.site.Remove(p.id(), p.manifest, p.options, l.sys)
	if err != nil {
		return nil, err
	}
	if dry {
		var out []Planned
		for _, s := range plan {
			done, err := s.Done(ctx)
			if errors.Is(err, fault.Conflict) {
				err = nil // it runs now, and will be stopped
			}
			out = append(out, Planned{s, done, err})
		}
		return out, nil
	}
	spec, err := l.spec(p)
	if err != nil {
		return nil, err
	}
	if err := l.cfg.Supervisor.Stop(ctx, spec); err != nil {
		return nil, err
	}
	if err := l.carryOut(ctx, plan); err != nil {
		return nil, err
	}
	return nil, l.store(localstate.Prune, Record{})
}
