package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Names in the agent's folder.
const (
	RecordName = "install.json"
	downloads  = "downloads"
)

// Record says which version is installed. With a Trial, current may point to
// either; the next pass carries the trial to its end.
type Record struct {
	Current  *nucleus.Version `json:"current,omitempty"`
	Trial    *nucleus.Version `json:"trial,omitempty"`
	Rejected string           `json:"rejected,omitempty"` // digest that failed the health gate; not tried again while it is the one offered
}

func (l *Loop) record() (Record, error) {
	var r Record
	err := l.cfg.Dir.ReadJSON(RecordName, &r)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, nil
	}
	return r, err
}

func (l *Loop) store(p localstate.Point, r Record) error {
	return l.cfg.Dir.Do(p, func() error { return l.cfg.Dir.WriteJSON(RecordName, r) })
}

// resume starts what is installed, without the control plane.
func (l *Loop) resume(ctx context.Context) error {
	r, err := l.record()
	if err != nil {
		return err
	}
	if r.Trial != nil {
		return l.try(ctx, r)
	}
	if r.Current == nil {
		return nil
	}
	if err := l.apply(ctx, localstate.Switch, l.cfg.Site.SwitchStep(*r.Current, nil)); err != nil {
		return err
	}
	if err := l.start(ctx, *r.Current, false); err != nil {
		return err
	}
	// A kill may have come between settling and clearing up. What was fetched of
	// another archive stays: the download goes on from there.
	settled := func(name string) bool { return name == r.Current.Digest || name == r.Rejected }
	return l.cfg.Dir.Do(localstate.Prune, func() error { return l.prune(*r.Current, settled) })
}

// runNucleus makes the offered version the one that runs.
func (l *Loop) runNucleus(ctx context.Context, offered *protocol.Distribution) error {
	r, err := l.record()
	if err != nil {
		return err
	}
	if r.Trial != nil {
		return l.try(ctx, r)
	}
	wanted := r.Current
	if offered != nil && offered.Digest != r.Rejected {
		wanted = &nucleus.Version{Name: offered.Name, Version: offered.Version, Digest: offered.Digest}
	}
	switch {
	case wanted == nil:
		return nil
	case r.Current != nil && *wanted == *r.Current && l.present(*wanted):
		if err := l.apply(ctx, localstate.Switch, l.cfg.Site.SwitchStep(*wanted, nil)); err != nil {
			return err
		}
		return l.start(ctx, *wanted, l.changed)
	case offered == nil || offered.Digest != wanted.Digest:
		return fault.New(fault.NotFound, "the files of nucleus %s %s are gone from this device and the control plane offers none; offer that version again", wanted.Name, wanted.Version)
	}
	if err := l.install(ctx, r, *wanted, *offered); err != nil {
		if ctx.Err() == nil {
			l.cfg.Supervisor.Installing(ctx, installation(*offered, err))
		}
		return fmt.Errorf("installing nucleus %s %s: %w", wanted.Name, wanted.Version, err)
	}
	return nil
}

func (l *Loop) present(v nucleus.Version) bool {
	_, err := l.cfg.Site.Manifest(v)
	return err == nil
}

// start has v run and waits for its proof. That it is not proven yet is no
// failure of a version that nothing replaces: it is kept running as well as can
// be.
func (l *Loop) start(ctx context.Context, v nucleus.Version, restart bool) error {
	err := l.use(ctx, v, restart)
	if err == nil || errors.Is(err, process.ErrUnproven) {
		l.changed = false
	}
	if errors.Is(err, process.ErrUnproven) {
		l.log.WarnContext(ctx, "nucleus is not proven", "version", v.Version, logx.Err, err)
		return nil
	}
	return err
}

func (l *Loop) use(ctx context.Context, v nucleus.Version, restart bool) error {
	m, err := l.cfg.Site.Manifest(v)
	if err != nil {
		return err
	}
	program, args := l.cfg.Site.Command(v, m)
	return l.cfg.Supervisor.Use(ctx, process.Spec{Version: v, Manifest: m, Program: program, Args: args, Root: l.cfg.Site.Path()}, restart)
}

// install fetches and unpacks v beside what runs, then puts it on trial.
func (l *Loop) install(ctx context.Context, r Record, v nucleus.Version, d protocol.Distribution) error {
	if err := v.Check(); err != nil {
		return err
	}
	l.cfg.Supervisor.Installing(ctx, process.Installation{Version: v})
	archive := path.Join(downloads, v.Digest)
	unpack := l.cfg.Site.UnpackStep(v, l.cfg.Dir.Path(archive), d.Format)
	if done, err := unpack.Done(ctx); err != nil {
		// A manifest that cannot be read: the folder is damaged, put it there anew.
		damaged := nucleus.Plan{unpack, l.cfg.Site.SwitchStep(v, nil)}
		if err := damaged.Undo(ctx); err != nil {
			return err
		}
		return fmt.Errorf("its files were damaged and are removed: %w", err)
	} else if !done {
		if err := l.cfg.Dir.Do(localstate.Download, func() error { return l.download(ctx, archive, d) }); err != nil {
			return err
		}
	}
	if err := l.apply(ctx, localstate.Unpack, unpack); err != nil {
		if errors.Is(err, fault.Invalid) || errors.Is(err, fault.TooLarge) {
			err = errors.Join(err, l.cfg.Dir.Root().Remove(archive)) // not what was offered: fetch it whole next time
		}
		return err
	}
	r.Trial = &v
	if err := l.store(localstate.Trial, r); err != nil {
		return err
	}
	return l.try(ctx, r)
}

func (l *Loop) download(ctx context.Context, name string, d protocol.Distribution) error {
	f, err := l.cfg.Dir.Root().OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(l.cfg.Cloud.Download(ctx, d, f), f.Close())
}

// try switches to the version on trial and keeps it when it passes the health
// gate. Otherwise it goes back to the old one. The first version of a device is
// kept in any case: there is nothing to go back to.
func (l *Loop) try(ctx context.Context, r Record) error {
	v := *r.Trial
	change := l.cfg.Site.SwitchStep(v, r.Current)
	if err := l.apply(ctx, localstate.Switch, change); err != nil {
		return err
	}
	err := l.use(ctx, v, l.changed)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil, r.Current == nil && errors.Is(err, process.ErrUnproven), r.Current != nil && *r.Current == v:
		l.changed = false
		return l.commit(ctx, v)
	default:
		return l.revert(ctx, r, change, err)
	}
}

func (l *Loop) commit(ctx context.Context, v nucleus.Version) error {
	if err := l.store(localstate.Commit, Record{Current: &v}); err != nil {
		return err
	}
	l.log.InfoContext(ctx, "nucleus installed", "name", v.Name, "version", v.Version)
	return l.cfg.Dir.Do(localstate.Prune, func() error { return l.prune(v, all) })
}

func all(string) bool { return true }

// prune removes every version but keep, and the archives that done names.
func (l *Loop) prune(keep nucleus.Version, done func(archive string) bool) error {
	if err := l.cfg.Site.Prune(keep); err != nil {
		return err
	}
	entries, err := fs.ReadDir(l.cfg.Dir.Root().FS(), downloads)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !done(e.Name()) {
			continue
		}
		if err := l.cfg.Dir.Root().Remove(path.Join(downloads, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// revert goes back to the old version and remembers the failed one, in that
// order: killed in between, the trial is repeated and ends the same.
func (l *Loop) revert(ctx context.Context, r Record, change nucleus.Step, cause error) error {
	failed, old := *r.Trial, r.Current
	l.log.ErrorContext(ctx, "new nucleus failed, going back", "version", failed.Version, logx.Err, cause)
	if old == nil { // nothing to go back to: try again later
		return cause
	}
	if err := l.cfg.Dir.Do(localstate.Revert, func() error { return change.Undo(ctx) }); err != nil {
		return err
	}
	if err := l.start(ctx, *old, false); err != nil {
		return errors.Join(cause, err)
	}
	if err := l.store(localstate.Reject, Record{Current: old, Rejected: failed.Digest}); err != nil {
		return err
	}
	l.cfg.Supervisor.Installing(ctx, process.Installation{
		Version: failed, Err: fmt.Sprintf("%s failed and %s runs again: %v", failed.Version, old.Version, cause),
	})
	return l.cfg.Dir.Do(localstate.Prune, func() error { return l.prune(*old, all) })
}

// apply carries out one step of an installation as the point p.
func (l *Loop) apply(ctx context.Context, p localstate.Point, s nucleus.Step) error {
	return nucleus.Plan{s}.Run(ctx, func(_ string, do func() error) error { return l.cfg.Dir.Do(p, do) })
}

func installation(d protocol.Distribution, err error) process.Installation {
	return process.Installation{Version: nucleus.Version{Name: d.Name, Version: d.Version, Digest: d.Digest}, Err: err.Error()}
}
