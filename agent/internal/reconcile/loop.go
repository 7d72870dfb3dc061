package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// Config is what a Loop needs.
type Config struct {
	Core       string // the core of this agent; an assignment for another is refused; required
	Dir        *localstate.Dir
	Site       *nucleus.Site
	Cloud      Cloud
	Supervisor Supervisor

	Every   time.Duration // between passes, spread by a fifth; default 1 min
	MinWait time.Duration // after the first failed pass, doubling up to Every; default 1 s
	Log     *slog.Logger
}

// Loop is the agent's main work.
type Loop struct {
	cfg Config
	log *slog.Logger

	wake chan struct{} // the assignment may be another

	seen    *protocol.CoreAssignment // what the last complete pass made true
	changed bool                     // files that the running nucleus has read are different now
}

// New checks cfg.
func New(cfg Config) (*Loop, error) {
	if cfg.Core == "" || cfg.Dir == nil || cfg.Site == nil || cfg.Cloud == nil || cfg.Supervisor == nil {
		return nil, fault.New(fault.Invalid, "the reconcile loop needs a core, folders, a control plane and a supervisor")
	}
	if cfg.Every <= 0 {
		cfg.Every = time.Minute
	}
	if cfg.MinWait <= 0 {
		cfg.MinWait = time.Second
	}
	if cfg.Log == nil {
		cfg.Log = logx.Discard()
	}
	return &Loop{cfg: cfg, log: cfg.Log, wake: make(chan struct{}, 1)}, nil
}

// Wake tells that the assignment may be another. It never blocks.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default: // it is about to look
	}
}

// Run starts what is installed, then keeps the device as assigned until ctx is
// done. A pass that fails is logged and tried again.
func (l *Loop) Run(ctx context.Context) error {
	if err := l.tidy(); err != nil {
		return err
	}
	if err := l.resume(ctx); err != nil && ctx.Err() == nil {
		l.log.ErrorContext(ctx, "installed nucleus does not run", logx.Err, err)
	}
	backoff := run.Backoff{Min: l.cfg.MinWait, Max: l.cfg.Every}
	for ctx.Err() == nil {
		run.Progress(ctx)
		wait := l.cfg.Every*9/10 + rand.N(l.cfg.Every/5+1)
		if err := l.pass(ctx); err != nil {
			wait = backoff.Next()
			if ctx.Err() == nil {
				l.log.WarnContext(ctx, "pass failed, will try again", "after", wait, logx.Err, err)
			}
		} else {
			backoff.Reset()
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-l.wake:
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

// tidy removes what interrupted writes left.
func (l *Loop) tidy() error {
	for _, dir := range []string{".", "config"} {
		if err := l.cfg.Site.Sweep(dir); err != nil {
			return fmt.Errorf("clearing up: %w", err)
		}
	}
	if err := l.cfg.Dir.Root().MkdirAll(downloads, 0o700); err != nil {
		return err
	}
	return durable.Sweep(l.cfg.Dir.Root(), downloads)
}

// pass makes one assignment true.
func (l *Loop) pass(ctx context.Context) error {
	a, err := l.cfg.Cloud.Core(ctx, protocol.AssignmentQuery{Platform: runtime.GOOS + "/" + runtime.GOARCH})
	if err != nil {
		return fmt.Errorf("asking for the assignment: %w", err)
	}
	if a.Core != l.cfg.Core {
		return fault.New(fault.Invalid, "the control plane assigns core %q to the agent of %q", a.Core, l.cfg.Core)
	}
	configured, err := l.provision(ctx, a)
	if err != nil {
		return fmt.Errorf("provisioning: %w", err)
	}
	if configured {
		if err := l.runNucleus(ctx, a.Nucleus); err != nil {
			return err
		}
	} else if a.Nucleus != nil {
		l.cfg.Supervisor.Installing(ctx, installation(*a.Nucleus, fault.New(fault.NotFound, "core %s has no installer configuration; create the core with one", a.Core)))
	}
	l.seen = &a
	return nil
}
