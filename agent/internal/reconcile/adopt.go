package reconcile

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
)

type (
	version        = nucleus.Version
	adoptedNucleus = nucleus.Found
)

// resume starts what is installed, without the control plane. When the agent knows
// of nothing it takes over what it finds on the device.
func (l *Loop) resume(ctx context.Context) error {
	r, err := l.record()
	if err != nil {
		return err
	}
	if r.Current == nil && r.Trial == nil && r.Adopted == nil && r.Preparing == nil {
		if r, err = l.adopt(ctx); err != nil {
			return err
		}
	}
	if r.Adopted != nil {
		l.runtime = runtimeOf(r.Adopted.Layout)
	} else {
		l.runtime = l.asksFor()
	}
	if r.Trial != nil {
		err := l.try(ctx, r)
		now, readErr := l.record()
		if err == nil || ctx.Err() != nil || readErr != nil || now.Trial != nil {
			return err
		}
		l.log.ErrorContext(ctx, "trial of a nucleus is given up", logx.Err, err)
		r = now // what was there before it runs, also without a control plane
	}
	switch {
	case r.Current == nil && r.Adopted == nil:
		return nil
	case r.Current == nil:
		return l.startAdopted(ctx, *r.Adopted, false)
	}
	if err := l.ensure(ctx, r); err != nil {
		return err
	}
	// A kill may have come between settling and clearing up. What was fetched of
	// another archive stays: the download goes on from there.
	settled := func(name string) bool { return name == r.Current.Digest || name == r.Rejected }
	return l.cfg.Dir.Do(localstate.Prune, func() error {
		if err := l.pruneArchives(settled); err != nil {
			return err
		}
		if r.Rejected != "" && r.Previous == nil {
			return l.pruneSites(r.Current.id())
		}
		return nil
	})
}

// adopt looks for a nucleus that the agent does not know of: its own, when its
// record was lost, or one that was there before the agent.
func (l *Loop) adopt(ctx context.Context) (Record, error) {
	if v, ok := l.ownLost(); ok {
		r := Record{Current: &v}
		l.log.WarnContext(ctx, "a nucleus of the agent without a record is taken up", "version", v.Version)
		return r, l.store(localstate.Adopt, r)
	}
	found, err := nucleus.Find(ctx, l.sys)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fault.Unsupported) {
		return Record{}, nil
	}
	if err != nil {
		return Record{}, err
	}
	if thing, ours := l.ours(found); !ours {
		l.log.WarnContext(ctx, "there is a nucleus of another core on this device; the agent leaves it alone", "root", found.Root, logx.Thing, thing, logx.Core, l.cfg.Core)
		return Record{}, nil
	}
	r := Record{Adopted: &found}
	l.log.InfoContext(ctx, "a nucleus that is there is taken over as it is", "runtime", runtimeOf(found.Layout), "version", found.Version, "root", found.Root, "unit", found.Unit)
	return r, l.store(localstate.Adopt, r)
}

// ours reports whether a nucleus that was found belongs to the core of this agent,
// and which thing it is. Several agents may work on one machine: only its name
// tells whose it is. One that keeps its name elsewhere belongs to the agent of the
// machine, the one in the default folder.
func (l *Loop) ours(f nucleus.Found) (thing string, ok bool) {
	if doc, err := l.sys.ReadFile(f.Config); err == nil {
		if s, err := config.ReadSystem(doc); err == nil {
			thing = s.ThingName
		}
	}
	if thing == "" {
		return "", l.cfg.Core == "" || l.cfg.Site.Path() == localstate.DefaultRoot
	}
	return thing, l.cfg.Core == "" || thing == l.cfg.Core
}

// ownLost finds the version that the link in the agent's own folder leads to. Of
// its digest only what stands in the folder's name is known, so the offer of the
// same version installs it again.
func (l *Loop) ownLost() (Installed, bool) {
	to, err := os.Readlink(filepath.Join(l.cfg.Site.Path(), "current"))
	if err != nil {
		return Installed{}, false
	}
	name := filepath.Base(to)
	i := strings.LastIndexByte(name, '-')
	if i < 0 || len(name)-i-1 != 8 {
		return Installed{}, false
	}
	label, digest := name[:i], name[i+1:]+strings.Repeat("0", 56)
	for j := range label { // where the name ends and the version begins, only the manifest tells
		if label[j] != '-' {
			continue
		}
		v := nucleus.Version{Name: label[:j], Version: label[j+1:], Digest: digest}
		if m, err := l.cfg.Site.Manifest(v); err == nil && m.Name == v.Name && m.Version == v.Version {
			return installed(v, m.Layout), true
		}
	}
	return Installed{}, false
}

// startAdopted has the nucleus that was there before the agent run, as it is.
func (l *Loop) startAdopted(ctx context.Context, f nucleus.Found, restart bool, instead ...string) error {
	v := nucleus.Version{Name: nucleus.ClassicName, Version: f.Version}
	watch := []string{f.Unit}
	if f.Layout != nucleus.LayoutClassic {
		v.Name = nucleus.LiteName
		services, _ := nucleus.LiteUnits()
		watch = append(watch, services...)
	}
	if f.Unit == "" {
		l.cfg.Supervisor.Installing(ctx, process.Installation{
			Version: v, Err: "there is a nucleus in " + f.Root + " that no service runs; the agent leaves it alone. Set up its service, or remove it",
		})
		return nil
	}
	return l.use(ctx, process.Spec{
		Version: v, Launch: nucleus.Launch{Unit: f.Unit, Watch: watch}, Root: l.sys.Path(f.Root), Instead: others(instead, f.Unit),
	}, restart || l.changed)
}
