package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/ggfleet/ggfleet/controlplane/internal/access"
	"github.com/ggfleet/ggfleet/controlplane/internal/assignment"
	"github.com/ggfleet/ggfleet/controlplane/internal/distribution"
	"github.com/ggfleet/ggfleet/controlplane/internal/enrollment"
	"github.com/ggfleet/ggfleet/controlplane/internal/etcdstore"
	"github.com/ggfleet/ggfleet/controlplane/internal/event"
	"github.com/ggfleet/ggfleet/controlplane/internal/fleet"
	"github.com/ggfleet/ggfleet/controlplane/internal/help"
	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/controlplane/internal/once"
	"github.com/ggfleet/ggfleet/controlplane/internal/provisioning"
	"github.com/ggfleet/ggfleet/controlplane/internal/release"
	"github.com/ggfleet/ggfleet/controlplane/internal/s3store"
	"github.com/ggfleet/ggfleet/controlplane/internal/seal"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/artifact"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/component"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/greengrass"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/iot"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/jobs"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/controlplane/internal/task"
	"github.com/ggfleet/ggfleet/controlplane/internal/telemetry"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/run"
)

// App is a control plane that is ready to serve. Make it with New; Run or Close
// ends it.
type App struct {
	cfg   Config
	log   *slog.Logger
	close []func() // in the order opened; Close goes backwards

	etcd    *etcdstore.Embedded // nil: external
	s3      *s3store.Embedded   // nil: external
	hub     state.Store
	objects object.Store
	sealer  seal.Sealer

	listeners  listeners
	keys       *access.Keys
	sessions   *access.Sessions
	tokens     *access.Tokens
	registry   *iot.Registry
	jobs       *jobs.Service
	components *component.Service
	greengrass *greengrass.Service
	devices    *selfhosted.Devices
	agents     *telemetry.View
	notices    *assignment.Notices
	gateway    *gateway.Gateway
	door       *gateway.Door // nil: none
	templates  *provisioning.Templates
	things     *provisioning.Service
	fleet      *fleet.Service
	tasks      *task.Engine
	dist       *distribution.Store
	enrollment *enrollment.Service
	eventLog   *event.Service
	once       *once.Store
	downloads  *artifact.Handler
	signer     *artifact.Signer
	aws        *awsMetrics
	servers    []server
	started    time.Time
	patchParts
	help     *help.Service
	releases *release.Service
	claimParts
}

// New opens, checks and binds everything. On an error nothing stays open.
func New(ctx context.Context, cfg Config, log *slog.Logger) (_ *App, err error) {
	if log == nil {
		log = logx.Discard()
	}
	a := &App{cfg: cfg, log: log, started: time.Now(), aws: newAWSMetrics()}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	for _, step := range []func(context.Context) error{
		a.openDataDir, a.listen, a.openState, a.openSecrets, a.openObjects, a.openSessions, a.openCloud, a.openEvents, a.openFleet, a.openAssignments, a.openPatching, a.openHelp, a.openReleases, a.firstStart, a.openEdges, a.openPprof,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Close releases what New opened. It is for an App that is not run.
func (a *App) Close() {
	for i := len(a.close) - 1; i >= 0; i-- {
		a.close[i]()
	}
	a.close = nil
}

func (a *App) onClose(f func()) { a.close = append(a.close, f) }

func (a *App) openDataDir(context.Context) error {
	dir := a.cfg.DataDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data directory %s: %w; choose another with --data-dir", dir, err)
	}
	f, err := os.CreateTemp(dir, ".writable-*")
	if err != nil {
		return fmt.Errorf("data directory %s cannot be written: %w; give this user the right to, or choose another with --data-dir", dir, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// openState opens the store of record. Embedded, it also takes the lock of the
// data directory, before anything else there is touched.
func (a *App) openState(ctx context.Context) error {
	store, err := a.dialState(ctx)
	if err != nil {
		return err
	}
	a.hub, err = withFaults(store)
	return err
}

func (a *App) openSecrets(context.Context) error {
	var err error
	if a.sealer, err = seal.OpenFile(a.cfg.SealKeyFile); err != nil {
		return fmt.Errorf("open seal key: %w", err)
	}
	if a.keys, err = access.NewKeys(access.KeysConfig{Store: a.hub, Sealer: a.sealer}); err != nil {
		return err
	}
	a.tokens, err = access.NewTokens(access.TokensConfig{Store: a.hub})
	return err
}

// adminName is the name of this replica's own admin token: replicas of one
// store have a file each, also when they share a host.
func (a *App) adminName() string {
	if a.etcd != nil {
		return "admin"
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "replica"
	}
	dir := sha256.Sum256([]byte(a.cfg.DataDir))
	return "admin-" + host[:min(len(host), 40)] + "-" + hex.EncodeToString(dir[:4])
}

func (a *App) file(name string) string { return filepath.Join(a.cfg.DataDir, name) }

// Run serves until ctx is done, then stops what it started. It returns nil after
// an orderly stop.
func (a *App) Run(ctx context.Context) error {
	defer a.Close()
	if a.etcd != nil {
		// Alone on this data: claims that are left belong to the process before.
		if err := errors.Join(a.tasks.ReleaseAll(ctx), a.greengrass.ReleaseRollouts(ctx)); err != nil {
			return err
		}
	}
	loops := []run.Loop{
		{Name: "fleet", Run: a.fleet.Run},
		{Name: "components", Run: a.runComponents},
		{Name: "things", Run: a.registry.Run},
		{Name: "core devices", Run: a.greengrass.Run},
		{Name: "tasks", Run: a.tasks.Run},
		{Name: "announcer", Run: a.devices.Run},
		{Name: "claims", Run: a.claims.Run},
		{Name: "enrolments", Run: a.enrollment.Run},
		{Name: "agents", Run: a.agents.Run},
		{Name: "assignments", Run: a.notices.Run},
		{Name: "events", Run: a.runEvents},
		{Name: "patches", Run: a.patching.Run},
		{Name: "help", Run: a.help.Run},
		{Name: "releases of the agent", Run: a.releases.Run},
		{Name: "repeated requests", Run: a.once.Run},
		{Name: "job timeouts", Run: a.expireJobs},
		{Name: "roll-outs", Run: a.greengrass.RunRollouts},
		{Name: "interrupted work", Run: a.resume},
		{Name: "mqtt", Run: a.runMQTT},
	}
	if a.door != nil {
		loops = append(loops, run.Loop{Name: "mqtt and https by ALPN", Run: a.door.Run})
	}
	if a.etcd != nil {
		loops = append(loops, run.Loop{Name: "etcd", Run: a.etcd.Run})
	}
	if a.s3 != nil {
		loops = append(loops, run.Loop{Name: "s3", Run: a.s3.Run})
	}
	for _, s := range a.servers {
		loops = append(loops, run.Loop{Name: s.name, Run: s.run})
	}
	loops = append(loops, run.Loop{Name: "readiness", Run: a.sayReady})
	return run.All(ctx, loops...)
}

// sayReady logs once that everything serves, then waits.
func (a *App) sayReady(ctx context.Context) error {
	for a.ready(ctx) != nil {
		if run.Sleep(ctx, 5*time.Millisecond) != nil {
			return nil
		}
	}
	addresses := []any{
		"took", time.Since(a.started).Round(time.Millisecond).String(),
		"api", a.apiURL(), "aws", a.awsURL(), "mqtt", a.listeners.mqtt.Addr().String(), "device", a.listeners.device.Addr().String(),
		"artifacts", a.listeners.artifact.Addr().String(),
	}
	if a.door != nil {
		addresses = append(addresses, "alpn", a.listeners.alpn.Addr().String())
	}
	a.log.InfoContext(ctx, "ready", addresses...)
	<-ctx.Done()
	return nil
}

// runMQTT serves the gateway's own port, and what comes through the door for it.
func (a *App) runMQTT(ctx context.Context) error {
	listeners := []net.Listener{a.listeners.mqtt}
	if a.door != nil {
		listeners = append(listeners, a.door.MQTT)
	}
	return a.gateway.Run(ctx, listeners...)
}

func (a *App) expireJobs(ctx context.Context) error {
	return run.Every(ctx, 30*time.Second, func(ctx context.Context) error {
		_, err := a.jobs.Expire(ctx)
		return err
	}, func(err error) { a.log.WarnContext(ctx, "job timeouts not checked", logx.Err, err) })
}

// resume finishes what a crash interrupted; later on, what one of another replica did.
func (a *App) resume(ctx context.Context) error {
	err := run.Retry(ctx, run.Backoff{}, 0, func(ctx context.Context) error {
		return errors.Join(a.greengrass.ResumeRemovals(ctx), a.components.FinishDeletes(ctx))
	})
	if err != nil && ctx.Err() == nil {
		a.log.ErrorContext(ctx, "interrupted work was not resumed", logx.Err, err)
	}
	return run.Every(ctx, 10*time.Minute, a.greengrass.ResumeRemovals, func(err error) {
		a.log.WarnContext(ctx, "interrupted removals of groups are not resumed", logx.Err, err)
	})
}

// ready reports what is not there yet.
func (a *App) ready(ctx context.Context) error {
	for name, ready := range map[string]<-chan struct{}{"fleet view": a.fleet.Ready(), "component index": a.components.Ready(), "thing list": a.registry.Loaded()} {
		select {
		case <-ready:
		default:
			return fault.New(fault.Unavailable, "the %s is being read", name)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := a.hub.List(ctx, state.Root, "", 1); err != nil {
		return fmt.Errorf("store of record: %w", err)
	}
	if _, err := a.objects.List(ctx, "templates/", "", 1); err != nil {
		return fmt.Errorf("artifact store: %w", err)
	}
	return nil
}

// server is one HTTP listener.
type server struct {
	name string
	http *http.Server
	l    net.Listener
}

// How long requests under way may go on after the stop: those that watch their
// context, such as streams, and the rest.
const (
	streamGrace = time.Second
	stopTimeout = 3 * time.Second
)

func (s server) run(ctx context.Context) error {
	// Streams have no end of their own: after a while of grace their requests' context ends.
	requests, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	s.http.BaseContext = func(net.Listener) context.Context { return requests }
	s.http.RegisterOnShutdown(func() { time.AfterFunc(streamGrace, end) })
	done := make(chan error, 1)
	go func() { done <- s.http.Serve(s.l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", s.l.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := s.http.Shutdown(stop); err != nil {
		_ = s.http.Close() // whoever still reads is cut off
	}
	return serverEnd(<-done)
}

// serverEnd tells an orderly end from one that is none.
func serverEnd(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
