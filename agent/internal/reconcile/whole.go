package reconcile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// lookAgain is between two looks at the files of a nucleus that does not work: each
// reads all of them.
const lookAgain = time.Hour

// whole is an error when the files of p are not what was unpacked. What cannot be
// known is none.
func whole(ctx context.Context, p prepared) error {
	err := p.site.Verify(ctx, p.id())
	if errors.Is(err, fault.Unsupported) || ctx.Err() != nil {
		return nil
	}
	return err
}

// discard removes the files of a version that does not run.
func discard(ctx context.Context, p prepared) error {
	for _, s := range p.plan {
		if localstate.PlanStep(s.Name) == localstate.Unpack && s.Undo != nil {
			return s.Undo(ctx)
		}
	}
	return nil
}

// damage is why the files of the nucleus that is to run are not what was unpacked.
type damage struct {
	of prepared
	error
}

func (d damage) Unwrap() error { return d.error }

// lookAt looks whether damaged files are why a nucleus does not work.
func (l *Loop) lookAt(ctx context.Context, p prepared) error {
	if time.Since(l.looked) < lookAgain && !l.looked.IsZero() {
		return nil
	}
	l.looked = time.Now()
	if err := whole(ctx, p); err != nil {
		return damage{p, err}
	}
	return nil
}

// mend fetches and unpacks a damaged version again, when it is the one that is
// offered and the agent runs it. The damaged one goes only when the other is here.
func (l *Loop) mend(ctx context.Context, r Record, offered *protocol.Distribution, d damage) error {
	ours := d.of.Layout == nucleus.LayoutProgram || d.of.Layout == ""
	if offered == nil || offered.Digest != d.of.Digest || !ours {
		l.cfg.Supervisor.Installing(ctx, process.Installation{Version: d.of.id(), Err: d.Error()})
		return d
	}
	l.log.ErrorContext(ctx, "files of the nucleus are damaged, it is fetched again", "version", d.of.Version, logx.Err, d.error)
	archive := path.Join(downloads, offered.Digest)
	if err := l.cfg.Dir.Do(localstate.Download, func() error { return l.download(ctx, archive, *offered) }); err != nil {
		return errors.Join(d, err)
	}
	f, err := os.Open(l.cfg.Dir.Path(archive))
	if err != nil {
		return err
	}
	err = verify(ctx, f, offered.Digest)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("fetching %s again: %w", d.of.Version, errors.Join(err, l.dropArchive(l.cfg.Dir.Path(archive))))
	}
	_ = l.clear(d.of, d) // what could not be removed is in the way of what comes
	l.changed = true
	return l.install(ctx, r, *offered)
}

// dropDamaged removes a version that is unpacked already and damaged, so that a
// technician's archive mends it.
func (l *Loop) dropDamaged(ctx context.Context, r Record, a Archive) error {
	p, err := l.prepare(ctx, r, installed(a.Version, a.Manifest.Layout), &a.Manifest)
	if err != nil {
		return err
	}
	cause := p.site.Verify(ctx, a.Version)
	if !errors.Is(cause, fault.Invalid) {
		return nil
	}
	l.changed = true
	switch {
	case r.Current == nil || r.Current.id() != a.Version:
		return discard(ctx, p)
	case runtimeOf(p.Layout) != "":
		return fmt.Errorf("%w; stop its service, remove %s and install it again", cause, path.Join(p.site.Path(), p.id().Dir()))
	}
	_ = l.clear(p, cause) // what could not be removed is in the way of what comes
	return nil
}
