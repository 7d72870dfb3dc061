package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
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
	System     nucleus.System // the host; default nucleus.NewHost()
	Settings   Settings
	Broken     error // why Settings are not known; a nucleus that depends on them is left as it is then

	// Room tells how much the file system that holds dir takes; default: what the
	// system says.
	Room func(dir string) Room

	Every   time.Duration // between passes, spread by a fifth; default 1 min
	Settle  time.Duration // a new version has to be up for so long before a crash loop no longer makes the agent go back; default 1 h
	MinWait time.Duration // after the first failed pass, doubling up to Every; default 1 s
	Log     *slog.Logger
}

// Loop is the agent's main work.
type Loop struct {
	cfg Config
	log *slog.Logger
	sys nucleus.System

	wake run.Bell // the assignment may be another

	mu sync.Mutex // one pass, or one change from outside, at a time; guards all below

	seen     *protocol.CoreAssignment // what the last complete pass made true
	changed  bool                     // files that the running nucleus has read are different now
	dry      bool                     // plans are only shown
	given    []byte                   // the configuration of a plan that is only shown
	unproven bool                     // what was started last did not prove itself
	ready    bool                     // the installed version's plan was looked at since the start
	runtime  string                   // which nucleus the configuration asks for
	others   map[string]*nucleus.Site // of classic and lite, by their path; opened when needed first
	looked   time.Time                // when the files of a nucleus that does not work were read
	made     []string                 // folders that were made for them
	full     struct {                 // an installation that a full or read-only disk has stopped
		digest string
		until  time.Time
		why    error
		room   map[string]Room // that there was, by folder
	}
}

// New checks cfg.
func New(cfg Config) (*Loop, error) {
	if cfg.Dir == nil || cfg.Site == nil || cfg.Supervisor == nil {
		return nil, fault.New(fault.Invalid, "the reconcile loop needs folders and a supervisor")
	}
	if err := cfg.Settings.Check(); err != nil {
		return nil, err
	}
	if cfg.System == nil {
		cfg.System = nucleus.NewHost()
	}
	if cfg.Room == nil {
		cfg.Room = roomOf
	}
	if cfg.Settle <= 0 {
		cfg.Settle = time.Hour
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
	return &Loop{cfg: cfg, log: cfg.Log, others: map[string]*nucleus.Site{}, sys: cfg.System, wake: run.NewBell()}, nil
}

// Wake tells that the assignment may be another. It never blocks.
func (l *Loop) Wake() { l.wake.Ring() }

// Close releases what the loop has opened.
func (l *Loop) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closeSites()
}

// Run starts what is installed, then keeps the device as assigned until ctx is
// done. A pass that fails is logged and tried again. It needs a core and a control
// plane in its Config.
func (l *Loop) Run(ctx context.Context) error {
	if l.cfg.Core == "" || l.cfg.Cloud == nil {
		return fault.New(fault.Invalid, "the reconcile loop needs a core and a control plane")
	}
	l.Start(ctx)
	backoff := run.Backoff{Min: l.cfg.MinWait, Max: l.cfg.Every}
	for ctx.Err() == nil {
		run.Progress(ctx)
		wait := run.Spread(l.cfg.Every)
		if err := l.pass(ctx); err != nil {
			wait = backoff.Next()
			if ctx.Err() == nil {
				l.log.WarnContext(ctx, "pass failed, will try again", "after", wait, logx.Err, err)
			}
		} else {
			backoff.Reset()
		}
		l.wake.Wait(ctx, wait)
	}
	return nil
}

// Start starts what is installed, or adopts what it finds. It returns when that is
// proven or cannot be; a failure is logged: there is nothing else to do about it
// than to look for another version.
func (l *Loop) Start(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"removing leftovers", l.tidy}, // a disk that cannot be written is no reason not to run what is there
		{"taking back an interrupted change of the certificate", l.swapBack},
		{"starting the installed nucleus", func() error { return l.resume(ctx) }},
	} {
		if err := step.do(); err != nil && ctx.Err() == nil {
			l.log.ErrorContext(ctx, "start of the nucleus is not as it should be", "step", step.what, logx.Err, err)
		}
	}
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
	l.mu.Lock()
	defer l.mu.Unlock()
	r, err := l.record()
	if err != nil {
		return err
	}
	if l.cfg.Broken != nil {
		l.cfg.Supervisor.Installing(ctx, process.Installation{Err: l.cfg.Broken.Error()})
	}
	if err := l.settle(ctx, r); err != nil {
		return fmt.Errorf("watching the new nucleus: %w", err)
	}
	a, err := l.assignment(ctx)
	if err != nil {
		return err
	}
	if r.Adopted != nil { // has its own identity and configuration
		if err := l.runNucleus(ctx, a.Nucleus); err != nil {
			return err
		}
		l.seen = &a
		return nil
	}
	configured, err := l.provision(ctx, a)
	if err != nil {
		return fmt.Errorf("provisioning: %w", err)
	}
	if asked := l.asksFor(); configured && asked != l.runtime {
		l.runtime = asked
		if a, err = l.assignment(ctx); err != nil {
			return err
		}
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

// assignment asks the control plane what this device is to be.
func (l *Loop) assignment(ctx context.Context) (protocol.CoreAssignment, error) {
	a, err := l.cfg.Cloud.Core(ctx, protocol.AssignmentQuery{Platform: runtime.GOOS + "/" + runtime.GOARCH, Runtime: l.runtime})
	if err != nil {
		return a, fmt.Errorf("asking for the assignment: %w", err)
	}
	if a.Core != l.cfg.Core {
		return a, fault.New(fault.Invalid, "the control plane assigns core %q to the agent of %q", a.Core, l.cfg.Core)
	}
	return a, nil
}
