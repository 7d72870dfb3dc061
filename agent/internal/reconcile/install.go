package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// runNucleus makes the offered version the one that runs.
func (l *Loop) runNucleus(ctx context.Context, offered *protocol.Distribution) error {
	r, err := l.record()
	if err != nil {
		return err
	}
	if r.Trial != nil {
		return l.try(ctx, r)
	}
	if offered == nil || offered.Digest == r.Rejected || r.has(*offered) {
		return l.keep(ctx, r, offered)
	}
	if err := l.install(ctx, r, *offered); err != nil {
		if ctx.Err() == nil {
			l.cfg.Supervisor.Installing(ctx, installation(*offered, err))
		}
		return fmt.Errorf("installing nucleus %s %s: %w", offered.Name, offered.Version, err)
	}
	return nil
}

// has reports whether what is offered is what is installed. An adopted nucleus is
// not installed again in the version that it has.
func (r Record) has(d protocol.Distribution) bool {
	if r.Current != nil {
		return r.Current.id() == nucleus.Version{Name: d.Name, Version: d.Version, Digest: d.Digest}
	}
	return r.Adopted != nil && r.Adopted.Version == d.Version && runtimeOf(r.Adopted.Layout) == d.Runtime
}

// keep sees to what is installed: it runs, and its files are whole. offered is
// fetched again when they are not.
func (l *Loop) keep(ctx context.Context, r Record, offered *protocol.Distribution) error {
	if r.Current == nil {
		if r.Adopted != nil {
			return l.startAdopted(ctx, *r.Adopted, false)
		}
		return nil
	}
	err := l.ensure(ctx, r)
	if d, ok := errors.AsType[damage](err); ok {
		return l.mend(ctx, r, offered, d)
	}
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case errors.Is(err, fs.ErrNotExist) && offered != nil && offered.Digest == r.Current.Digest:
		return l.install(ctx, r, *offered)
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.NotFound, "the files of nucleus %s %s are gone from this device and the control plane offers none; offer that version again", r.Current.Name, r.Current.Version)
	}
	return err
}

// ensure makes the current version ready, when something has changed since it was,
// and starts it unless it runs.
func (l *Loop) ensure(ctx context.Context, r Record) error {
	p, err := l.prepare(ctx, r, *r.Current, nil)
	if errors.Is(err, fault.Invalid) && p.site != nil {
		return l.clear(p, err)
	}
	if err != nil {
		return err
	}
	if missing := l.incomplete(p); missing != nil {
		return l.clear(p, missing)
	}
	if l.changed || !l.ready {
		if err := l.carryOut(ctx, p.plan); err != nil {
			// What is there runs all the same: it did before.
			l.log.WarnContext(ctx, "installed nucleus cannot be made ready again", logx.Err, err)
		}
		l.ready = true
	}
	if p.Layout == nucleus.LayoutProgram || p.Layout == "" {
		if err := l.apply(ctx, localstate.Switch, p.change); err != nil {
			return err
		}
	}
	l.unproven = false
	if err := l.start(ctx, p, l.changed); err != nil || !l.unproven {
		return err
	}
	return l.lookAt(ctx, p)
}

// incomplete is an error when the program of a version that the agent runs itself is
// not there, or is empty: it could not be started again.
func (l *Loop) incomplete(p prepared) error {
	if p.Layout != nucleus.LayoutProgram && p.Layout != "" {
		return nil
	}
	spec, err := l.spec(p)
	if err != nil {
		return err
	}
	info, err := os.Stat(spec.Launch.Program)
	if err == nil && info.Size() > 0 {
		return nil
	}
	return fault.New(fault.Invalid, "the program %s is not there or empty", spec.Launch.Program)
}

// clear removes a version whose files are damaged, so that it is fetched anew.
func (l *Loop) clear(p prepared, cause error) error {
	if p.Layout != nucleus.LayoutProgram && p.Layout != "" {
		return cause
	}
	dir := path.Join(p.site.Path(), p.id().Dir())
	if err := os.RemoveAll(dir); err != nil {
		return errors.Join(cause, err)
	}
	return fmt.Errorf("its files were damaged and are removed: %w", cause)
}

// start has a version run and waits for its proof. That it is not proven yet is no
// failure of a version that nothing replaces: it is kept running as well as can
// be.
func (l *Loop) start(ctx context.Context, p prepared, restart bool, instead ...string) error {
	spec, err := l.spec(p, instead...)
	if err != nil {
		return err
	}
	return l.use(ctx, spec, restart)
}

func (l *Loop) use(ctx context.Context, spec process.Spec, restart bool) error {
	err := l.cfg.Supervisor.Use(ctx, spec, restart)
	if err == nil || errors.Is(err, process.ErrUnproven) {
		l.changed = false
	}
	if errors.Is(err, process.ErrUnproven) {
		l.unproven = true
		l.log.WarnContext(ctx, "nucleus is not proven", "version", spec.Version.Version, logx.Err, err)
		return nil
	}
	return err
}

// install fetches and unpacks what is offered beside what runs, then puts it on
// trial.
func (l *Loop) install(ctx context.Context, r Record, d protocol.Distribution) error {
	v := nucleus.Version{Name: d.Name, Version: d.Version, Digest: d.Digest}
	if err := v.Check(); err != nil {
		return err
	}
	if err := l.stillFull(v.Digest, d.Size); err != nil {
		return err
	}
	l.cfg.Supervisor.Installing(ctx, process.Installation{Version: v})
	archive := path.Join(downloads, v.Digest)
	err := l.fetched(ctx, v, d, archive)
	if err == nil {
		err = l.installArchive(ctx, r, v, l.cfg.Dir.Path(archive), d.Format)
	}
	if durable.Full(err) {
		err = errors.Join(err, l.makeRoom(archive))
		l.isFull(v.Digest, err)
	}
	return err
}

// fetched sees to it that the archive is here, unless the version is unpacked.
func (l *Loop) fetched(ctx context.Context, v nucleus.Version, d protocol.Distribution, archive string) error {
	for _, s := range l.sites() {
		if _, err := s.Manifest(v); err == nil {
			return nil
		}
	}
	if err := l.forgetOld(v); err != nil {
		return err
	}
	run.Progress(ctx)
	return l.cfg.Dir.Do(localstate.Download, func() error { return l.download(ctx, archive, d) })
}

// forgetOld makes room before a new version is fetched: the version before the
// current one is given up.
func (l *Loop) forgetOld(next nucleus.Version) error {
	r, err := l.record()
	if err != nil {
		return err
	}
	if r.Previous != nil {
		r.Previous = nil
		if err := l.store(localstate.Forget, r); err != nil {
			return err
		}
	}
	keep := []nucleus.Version{next}
	if r.Current != nil {
		keep = append(keep, r.Current.id())
	}
	return l.pruneSites(keep...)
}

func (l *Loop) download(ctx context.Context, name string, d protocol.Distribution) error {
	f, err := l.cfg.Dir.Root().OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(l.cfg.Cloud.Download(ctx, d, f), f.Close())
}

// installArchive prepares the version in the archive and tries it.
func (l *Loop) installArchive(ctx context.Context, r Record, v nucleus.Version, archive, format string) error {
	m, err := l.inspect(ctx, v, archive, format)
	if err != nil {
		if errors.Is(err, fault.Invalid) || errors.Is(err, fault.TooLarge) {
			err = errors.Join(err, l.dropArchive(archive)) // not what was offered: fetch it whole next time
		}
		return err
	}
	p, err := l.prepare(ctx, r, installed(v, m.Layout), &m)
	if err != nil {
		return err
	}
	p.options.Archive, p.options.Format = archive, format
	if p.plan, p.change, err = p.site.Plan(v, m, p.options, l.sys); err != nil {
		return err
	}
	if r.Preparing == nil || r.Preparing.id() != v {
		r.Preparing = &p.Installed
		if err := l.store(localstate.Prepare, r); err != nil {
			return err
		}
	}
	if err := l.carryOut(ctx, p.plan); err != nil {
		switch {
		case errors.Is(err, syscall.ENOSPC):
			err = errors.Join(err, p.plan.Undo(ctx))
		case strings.HasPrefix(err.Error(), "unpack:") && (errors.Is(err, fault.Invalid) || errors.Is(err, fault.TooLarge)):
			err = errors.Join(err, l.dropArchive(archive))
		}
		return err
	}
	l.ready = true
	r.Trial, r.Preparing = &p.Installed, nil
	if err := l.store(localstate.Trial, r); err != nil {
		return err
	}
	return l.try(ctx, r)
}

// inspect reads what v holds: what is unpacked already, else the archive.
func (l *Loop) inspect(ctx context.Context, v nucleus.Version, archive, format string) (nucleus.Manifest, error) {
	for _, s := range l.sites() {
		if m, err := s.Manifest(v); err == nil {
			return m, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			l.log.WarnContext(ctx, "unpacked version is damaged", "version", v.Version, logx.Err, err)
			if err := s.Prune(); err != nil { // all but the current one
				return m, err
			}
		}
	}
	f, err := os.Open(archive)
	if err != nil {
		return nucleus.Manifest{}, err
	}
	defer f.Close() //nolint:errcheck // read only
	if err := verify(ctx, f, v.Digest); err != nil {
		return nucleus.Manifest{}, err
	}
	m, err := nucleus.Inspect(f, format)
	if err == nil && (m.Name != v.Name || m.Version != v.Version) {
		err = fault.New(fault.Invalid, "the archive holds %s %s, but %s %s was offered", m.Name, m.Version, v.Name, v.Version)
	}
	return m, err
}

// verify compares the digest of f before anything of it is believed.
func verify(ctx context.Context, f *os.File, digest string) error {
	got, err := nucleus.Digest(ctx, f)
	if err == nil && got != digest {
		err = fault.New(fault.Invalid, "the archive has digest %s, want %s; it is not what was offered", got, digest)
	}
	return err
}

// dropArchive removes an archive that was fetched. One that somebody gave stays.
func (l *Loop) dropArchive(archive string) error {
	name, ok := strings.CutPrefix(archive, l.cfg.Dir.Path(downloads)+string(os.PathSeparator))
	if !ok {
		return nil
	}
	return l.cfg.Dir.Root().Remove(path.Join(downloads, name))
}

// carryOut runs a plan, each step as its point.
func (l *Loop) carryOut(ctx context.Context, p nucleus.Plan) error {
	return p.Run(ctx, func(step string, do func() error) error {
		run.Progress(ctx)
		l.changed = l.changed || step == "configuration"
		return l.cfg.Dir.Do(localstate.PlanStep(step), do)
	})
}

// apply carries out one step of an installation as the point p.
func (l *Loop) apply(ctx context.Context, p localstate.Point, s nucleus.Step) error {
	return nucleus.Plan{s}.Run(ctx, func(_ string, do func() error) error { return l.cfg.Dir.Do(p, do) })
}

func installation(d protocol.Distribution, err error) process.Installation {
	return process.Installation{Version: nucleus.Version{Name: d.Name, Version: d.Version, Digest: d.Digest}, Err: err.Error()}
}
