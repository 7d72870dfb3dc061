package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ggfleet/ggfleet/agent/internal/enroll"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/agent/internal/reconcile"
	"github.com/ggfleet/ggfleet/agent/internal/svc"
	"github.com/ggfleet/ggfleet/agent/internal/telemetry"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// mendHint says how an identity that cannot be used is mended.
func mendHint(root string) string {
	return fmt.Sprintf("stop the agent, enrol again with 'ggfleet-agent enroll STRING --root %s', and start it; STRING is that of before or, if that is used up, of a new activation", root)
}

// alone is an agent that does not know who it is, for the reason cause. One that
// knows how to enrol asks until it is let in, for weeks if it takes them. A nucleus
// that is installed runs meanwhile: it needs no agent that is let in. alone returns
// nil when there is an identity, and an error when there is nothing to do.
func (a *agent) alone(ctx context.Context, cause error) error {
	intent, err := unfinished(a.dir)
	knows := err == nil
	switch {
	case knows:
	case !errors.Is(err, fs.ErrNotExist):
		cause = err
	case errors.Is(cause, fs.ErrNotExist):
		cause = fault.New(fault.NotFound, "the agent in %s is not enrolled; run 'ggfleet-agent enroll STRING --root %s' first", a.dir.Site(), a.dir.Site())
	default:
		cause = fmt.Errorf("the agent's identity: %w; %s", cause, mendHint(a.dir.Site()))
	}
	loops, end, err := a.nucleusAlone()
	if err != nil {
		a.cfg.Log.ErrorContext(ctx, "installed nucleus cannot be run", logx.Err, err)
	}
	defer end()
	if !knows && len(loops) == 0 {
		return cause
	}
	status := "waiting to be enrolled"
	if !knows {
		status = "only the nucleus is kept running: the agent does not know who it is"
		a.cfg.Log.ErrorContext(ctx, "agent does not know who it is and only keeps the nucleus running", logx.Err, cause)
	}
	if err := svc.Notify("READY=1\nSTATUS=" + status); err != nil {
		a.cfg.Log.WarnContext(ctx, "service manager cannot be told", logx.Err, err)
	}
	within, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	enrolled := false
	if knows {
		loops = append(loops, run.Loop{Name: "enroll", Run: func(ctx context.Context) error {
			_, _, err := enroll.Run(ctx, enroll.Config{Dir: a.dir, Log: a.cfg.Log, Patient: true}, intent)
			if enrolled = err == nil; enrolled {
				leave(ErrHandOver) // the nucleus goes on
			}
			return err
		}})
	}
	err = run.All(within, append(loops, run.Loop{Name: "watchdog", Run: a.watchdog.Run})...)
	switch {
	case enrolled:
		a.enrolledBy(ctx)
		return nil
	case err != nil:
		return err
	}
	return context.Cause(ctx)
}

// nucleusAlone returns what keeps the installed nucleus running without a control
// plane; nothing when there is none. end releases what it holds.
func (a *agent) nucleusAlone() (loops []run.Loop, end func(), err error) {
	end = func() {}
	if !reconcile.HasNucleus(a.dir.Site()) {
		return nil, end, nil
	}
	settings, broken := a.nucleusSettings()
	site, err := nucleus.OpenSite(a.dir.Site(), nucleus.Limits{})
	if err != nil {
		return nil, end, err
	}
	end = func() { _ = site.Close() }
	supervisor, err := process.New(process.Config{
		Dir: a.dir, System: a.cfg.System, OnStatus: func(telemetry.Nucleus) {}, UpFor: a.cfg.UpFor, Gate: a.cfg.Gate, Stop: a.cfg.Stop, MinWait: a.cfg.MinWait, Log: a.cfg.Log,
	})
	if err != nil {
		return nil, end, err
	}
	loop, err := reconcile.New(reconcile.Config{
		Core: reconcile.NobodysCore, Dir: a.dir, Site: site, Supervisor: supervisor, System: a.cfg.System, Settings: settings, Broken: broken, Log: a.cfg.Log,
	})
	if err != nil {
		return nil, end, err
	}
	end = func() { _ = errors.Join(loop.Close(), site.Close()) }
	return []run.Loop{{Name: "nucleus", Run: supervisor.Run}, {Name: "start of the nucleus", Run: func(ctx context.Context) error {
		loop.Start(ctx)
		<-ctx.Done()
		return nil
	}}}, end, nil
}

// nucleusSettings returns how the nucleus is installed here, or why that cannot be
// known: neither the settings nor their copy can be read.
func (a *agent) nucleusSettings() (reconcile.Settings, error) {
	s, damage, err := reconcile.OpenSettings(a.dir)
	if damage != nil {
		a.cfg.Log.Error("settings of the nucleus were damaged and are taken from their copy", logx.Err, damage)
	}
	if err != nil {
		return reconcile.Settings{}, err
	}
	return s, nil
}
