package app

import (
	"context"
	"errors"

	"github.com/ggfleet/ggfleet/agent/internal/deviceapi"
	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/agent/internal/mqttlink"
	"github.com/ggfleet/ggfleet/agent/internal/notice"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/agent/internal/patch"
	"github.com/ggfleet/ggfleet/agent/internal/reconcile"
	"github.com/ggfleet/ggfleet/agent/internal/renew"
	"github.com/ggfleet/ggfleet/agent/internal/selfupdate"
	"github.com/ggfleet/ggfleet/agent/internal/svc"
	"github.com/ggfleet/ggfleet/agent/internal/telemetry"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/buildinfo"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// agent is an enrolled agent being put together. Parts are opened in the order
// of Run; each adds what it does to work.
type agent struct {
	cfg  Config
	dir  *localstate.Dir
	live *identity.Live
	id   identity.Identity // as it was at the start; a renewal changes its certificate only

	link       *mqttlink.Link
	cloud      *deviceapi.Client
	reporter   *telemetry.Reporter
	watchdog   *svc.Watchdog
	supervisor *process.Supervisor
	loop       *reconcile.Loop
	running    selfupdate.Running
	update     *selfupdate.Updater
	end        func()            // gives the agent's place to the program that comes next
	holder     renew.Device      // keeps the device's certificate
	board      *notice.Board     // what notices told
	notices    map[string]func() // topics to listen on, and whom to tell
	work       []run.Loop        // ends before reporting and the session do
	closers    []func() error
}

// ErrHandOver as the cause of the end of Run's context makes Run leave the
// nucleus running for the program that comes next, and return it.
var ErrHandOver = process.ErrHandOver

// Run is the enrolled agent at work, until ctx is done. It then stops the
// nucleus.
func Run(ctx context.Context, cfg Config) (err error) {
	a := &agent{cfg: cfg.withDefaults(), notices: map[string]func(){}}
	ctx, done := a.handOver(ctx) // does not come back when a release takes over
	defer done()
	a.watchdog = svc.NewWatchdog(svc.WatchdogConfig{Log: a.cfg.Log})
	if a.dir, err = localstate.Open(a.cfg.Root, a.cfg.Around); err != nil {
		return err
	}
	a.closers = append(a.closers, a.dir.Close)
	defer func() { err = errors.Join(err, a.close()) }()
	a.keepLog()
	if err := a.identify(ctx); err != nil {
		if errors.Is(err, context.Canceled) && errors.Is(context.Cause(ctx), context.Canceled) {
			return nil // told to stop while it waited
		}
		return errors.Join(err, context.Cause(ctx))
	}
	if a.cloud, err = a.dial(a.live.TLS); err != nil {
		return err
	}
	a.closers = append(a.closers, func() error { a.cloud.Close(); return nil })

	// The link needs the reporter's will, the reporter the link's Publish.
	err = a.openReports(func(ctx context.Context, topic string, payload []byte) error {
		return a.link.Publish(ctx, topic, payload)
	})
	if err != nil {
		return err
	}
	parts := []func() error{a.openUpdate, a.openNucleus, a.openPatches, a.openHelp}
	if a.id.Subject().Role == protocol.RoleClient {
		parts = []func() error{a.openUpdate, a.openClient, a.openHelp}
	}
	for _, open := range parts {
		if err := open(); err != nil {
			return err
		}
	}
	a.link, err = mqttlink.New(mqttlink.Config{
		Address: a.id.MQTTAddress, TLS: a.live.TLS(hostOf(a.id.MQTTAddress)), ClientID: a.id.AgentThing, OnTakenOver: a.takenOver,
		Will: a.reporter.Will, OnUp: func() { a.reporter.ConnectionUp(); a.update.SessionUp() }, Notices: a.notices, MinWait: a.cfg.MinWait, Log: a.cfg.Log,
	})
	if err != nil {
		return err
	}
	if err := a.openRenewal(); err != nil {
		return err
	}
	a.cfg.Log.InfoContext(ctx, "agent runs", "device", a.id.Subject().Name, logx.Thing, a.id.AgentThing, "root", a.dir.Site(), "version", buildinfo.Version)
	if err := svc.Notify("READY=1"); err != nil {
		a.cfg.Log.WarnContext(ctx, "service manager cannot be told", logx.Err, err)
	}
	err = run.All(context.WithoutCancel(ctx),
		run.Loop{Name: "work", Run: func(reporting context.Context) error { return a.workUntil(ctx, reporting) }},
		a.watchdog.Watch(run.Loop{Name: "telemetry", Run: a.reporter.Run}, reportStall),
		run.Loop{Name: "mqtt", Run: a.link.Run},
		run.Loop{Name: "watchdog", Run: a.watchdog.Run},
	)
	if errors.Is(context.Cause(ctx), ErrHandOver) {
		err = errors.Join(err, ErrHandOver)
	}
	return err
}

// workUntil works until ctx is done. What reports outlives what is reported on:
// the nucleus stops first, its last state is sent, then the session ends.
func (a *agent) workUntil(ctx, reporting context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(reporting, cancel)()
	err := run.All(ctx, a.work...)
	flush, done := context.WithTimeout(reporting, lastWords)
	defer done()
	a.reporter.Flush(flush)
	return err
}

// openNucleus makes what installs the nucleus and keeps it running.
func (a *agent) openNucleus() error {
	settings, broken := a.nucleusSettings()
	site, err := nucleus.OpenSite(a.dir.Site(), nucleus.Limits{})
	if err != nil {
		return err
	}
	a.closers = append(a.closers, site.Close)
	trouble := a.keepTrouble()
	became := func(n telemetry.Nucleus) {
		a.reporter.Nucleus(n)
		a.update.Nucleus(n.State)
		trouble.became(n)
	}
	a.supervisor, err = process.New(process.Config{
		Dir: a.dir, System: a.cfg.System, OnStatus: became, UpFor: a.cfg.UpFor, Gate: a.cfg.Gate, Stop: a.cfg.Stop, MinWait: a.cfg.MinWait, Log: a.cfg.Log,
	})
	if err != nil {
		return err
	}
	cloud, notice := a.rememberAssignment(func() { a.loop.Wake() })
	a.notices[a.id.Subject().AssignmentTopic()] = notice
	a.loop, err = reconcile.New(reconcile.Config{
		System: a.cfg.System, Settings: settings, Broken: broken, Settle: a.cfg.Settle,
		Core: a.id.Core, Dir: a.dir, Site: site, Cloud: assignments{cloud, a.update}, Supervisor: a.supervisor, Every: a.cfg.Poll, MinWait: a.cfg.MinWait, Log: a.cfg.Log,
	})
	if err != nil {
		return err
	}
	a.holder = a.loop
	a.closers = append(a.closers, a.loop.Close)
	a.work = append(a.work, run.Loop{Name: "nucleus", Run: a.supervisor.Run}, a.watchdog.Watch(run.Loop{Name: "reconcile", Run: a.loop.Run}, max(passStall, 3*a.cfg.Poll)))
	return nil
}

// openPatches makes what runs playbooks.
func (a *agent) openPatches() error {
	var patches *patch.Runner
	cloud, notice := a.rememberPatches(func() { patches.Wake() })
	patches, err := patch.New(patch.Config{
		Dir: a.dir, Cloud: cloud, CAPEM: a.id.CAPEM, Every: a.cfg.Patches, MinWait: a.cfg.MinWait, Log: a.cfg.Log,
	})
	if err != nil {
		return err
	}
	a.notices[protocol.PatchTopic(a.id.Core)] = notice
	a.work = append(a.work, run.Loop{Name: "patches", Run: patches.Run})
	return nil
}

// close releases what was opened, last first.
func (a *agent) close() (err error) {
	for i := len(a.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, a.closers[i]())
	}
	return err
}
