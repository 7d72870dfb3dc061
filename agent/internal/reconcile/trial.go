package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

// maxSettlingEnds is how often a version may end by itself while it settles.
const maxSettlingEnds = 5

// try switches to the version on trial and keeps it when it passes the health
// gate. Otherwise it goes back to the old one. The first version of a device is
// kept in any case: there is nothing to go back to.
func (l *Loop) try(ctx context.Context, r Record) error {
	p, err := l.prepare(ctx, r, *r.Trial, nil)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fault.Invalid) { // its files are gone or damaged: it is fetched again
		r.Trial = nil
		return errors.Join(fmt.Errorf("the version on trial: %w", err), l.store(localstate.Reject, r))
	}
	if err != nil {
		return err
	}
	if done, err := p.change.Done(ctx); err == nil && !done {
		if err := whole(ctx, p); err != nil { // nothing is said against the version: it is fetched again
			r.Trial = nil
			return errors.Join(fmt.Errorf("the version on trial: %w", err), discard(ctx, p), l.store(localstate.Reject, r))
		}
	}
	if err := l.apply(ctx, localstate.Switch, p.change); err != nil {
		return errors.Join(err, l.goBack(ctx, r, p, err))
	}
	spec, err := l.spec(p, l.unitOf(ctx, r))
	if err == nil {
		err = l.cfg.Supervisor.Use(ctx, spec, l.changed)
	}
	first := r.Current == nil && r.Adopted == nil
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil, first && errors.Is(err, process.ErrUnproven), r.Current != nil && r.Current.id() == p.id():
		l.changed = false
		return l.commit(ctx, r, p, err == nil && !first)
	default:
		return l.goBack(ctx, r, p, err)
	}
}

// unitOf is the systemd unit that runs what r says is installed; "" for none.
func (l *Loop) unitOf(ctx context.Context, r Record) string {
	if r.Current == nil {
		if r.Adopted != nil {
			return r.Adopted.Unit
		}
		return ""
	}
	p, err := l.prepare(ctx, r, *r.Current, nil)
	if err != nil {
		return ""
	}
	spec, err := l.spec(p)
	if err != nil {
		return ""
	}
	return spec.Launch.Unit
}

// commit makes the version on trial the current one. The one before stays on the
// disk until the next installation.
func (l *Loop) commit(ctx context.Context, r Record, p prepared, settling bool) error {
	next := Record{Current: &p.Installed, Previous: r.Current, Adopted: r.Adopted, Settling: settling}
	if r.Current != nil && r.Current.id() == p.id() {
		next.Previous = r.Previous
	}
	if err := l.store(localstate.Commit, next); err != nil {
		return err
	}
	l.log.InfoContext(ctx, "nucleus installed", "name", p.Name, "version", p.Version)
	return l.cfg.Dir.Do(localstate.Prune, func() error { return l.pruneArchives(all) })
}

func all(string) bool { return true }

// goBack goes back from the version on trial to what r says is installed.
func (l *Loop) goBack(ctx context.Context, r Record, failed prepared, cause error) error {
	if r.Current == nil && r.Adopted == nil { // nothing to go back to: try again later
		return cause
	}
	return l.revert(ctx, r.Current, r.Adopted, failed, cause)
}

// revert goes back from failed to old, or to the adopted nucleus when old is nil,
// and remembers the failed version, in that order: killed in between, the trial is
// repeated and ends the same.
func (l *Loop) revert(ctx context.Context, old *Installed, adopted *adoptedNucleus, failed prepared, cause error) error {
	l.log.ErrorContext(ctx, "new nucleus failed, going back", "version", failed.Version, logx.Err, cause)
	if err := l.cfg.Dir.Do(localstate.Revert, func() error { return failed.change.Undo(ctx) }); err != nil {
		return errors.Join(cause, err)
	}
	next := Record{Current: old, Adopted: adopted, Rejected: failed.Digest, Rejection: &Rejection{failed.Version, cause.Error()}}
	version, damage, err := l.startOld(ctx, next, failed)
	if err != nil {
		return errors.Join(cause, err)
	}
	if damage != nil { // until a moment ago it ran all the same
		l.log.ErrorContext(ctx, "gone back to a nucleus whose files are damaged", "version", version, logx.Err, damage)
		cause = fmt.Errorf("%w; and of the old one: %w", cause, damage)
	}
	if err := l.store(localstate.Reject, next); err != nil {
		return err
	}
	l.cfg.Supervisor.Installing(ctx, process.Installation{
		Version: failed.id(), Err: fmt.Sprintf("%s failed and %s runs again: %v", failed.Version, version, cause),
	})
	return l.cfg.Dir.Do(localstate.Prune, func() error {
		if err := l.pruneArchives(all); err != nil {
			return err
		}
		if old != nil {
			return l.pruneSites(old.id())
		}
		return l.pruneSites()
	})
}

// startOld starts what r says is installed in the place of failed. damage is what is
// wrong with its files.
func (l *Loop) startOld(ctx context.Context, r Record, failed prepared) (version string, damage, err error) {
	instead := ""
	if spec, err := l.spec(failed); err == nil {
		instead = spec.Launch.Unit
	}
	if r.Current == nil {
		return r.Adopted.Version, nil, l.startAdopted(ctx, *r.Adopted, false, instead)
	}
	p, err := l.prepare(ctx, r, *r.Current, nil)
	if err != nil {
		return "", nil, err
	}
	if err := l.apply(ctx, localstate.Switch, p.change); err != nil {
		return "", nil, err
	}
	damage = whole(ctx, p)
	return p.Version, damage, l.start(ctx, p, false, instead)
}

// settle watches a version that has passed the health gate until it has been up
// for long, and goes back when it crash-loops before that. The supervisor's clock
// counts, so a device whose clock jumps by years settles all the same.
func (l *Loop) settle(ctx context.Context, r Record) error {
	if !r.Settling || r.Trial != nil || r.Current == nil {
		return nil
	}
	h := l.cfg.Supervisor.Health()
	switch {
	case h.Proven && h.Up >= l.cfg.Settle:
		r.Settling = false
		return l.store(localstate.Settle, r)
	case h.Ends < maxSettlingEnds || h.Proven:
		return nil
	}
	old, adopted := r.before()
	if old == nil && !adopted {
		return nil
	}
	p, err := l.prepare(ctx, r, *r.Current, nil)
	if err != nil {
		return err
	}
	return l.revert(ctx, old, r.Adopted, p, fmt.Errorf("it ended %d times soon after it was installed, last: %s", h.Ends, h.Why))
}

// Rollback goes back to the version before the current one, which then is not
// installed again while it is the one offered.
func (l *Loop) Rollback(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, err := l.record()
	if err != nil {
		return err
	}
	if r.Trial != nil {
		return fault.New(fault.Conflict, "version %s is on trial; wait until that has ended", r.Trial.Version)
	}
	old, adopted := r.before()
	if r.Current == nil || old == nil && !adopted {
		return fault.New(fault.NotFound, "there is no version to go back to: one is kept from each update to the next")
	}
	if old != nil {
		p, err := l.prepare(ctx, r, *old, nil)
		if err == nil {
			err = whole(ctx, p)
		}
		if err != nil {
			return fmt.Errorf("%s is not gone back to, what runs goes on: %w", old.Version, err)
		}
	}
	p, err := l.prepare(ctx, r, *r.Current, nil)
	if err != nil {
		return err
	}
	return l.revert(ctx, old, r.Adopted, p, errors.New("gone back by hand"))
}

// intact is an error when what would start is not p: the nucleus has gone back to
// an older version by itself.
func intact(ctx context.Context, p prepared) error {
	ok, err := p.change.Done(ctx)
	if err == nil && !ok {
		err = fault.New(fault.Conflict, "the nucleus went back to another version than %s by itself", p.Version)
	}
	return err
}

// pruneSites removes every version but those in keep. From then on nothing that
// was done can be undone.
func (l *Loop) pruneSites(keep ...version) error {
	for _, s := range l.sites() {
		if err := s.Prune(keep...); err != nil {
			return err
		}
	}
	return nil
}

// pruneArchives removes the archives that done names.
func (l *Loop) pruneArchives(done func(archive string) bool) error {
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
