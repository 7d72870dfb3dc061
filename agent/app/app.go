package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/deviceapi"
	"github.com/ggfleet/ggfleet/agent/internal/enroll"
	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/agent/internal/mqttlink"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/agent/internal/patch"
	"github.com/ggfleet/ggfleet/agent/internal/reconcile"
	"github.com/ggfleet/ggfleet/agent/internal/svc"
	"github.com/ggfleet/ggfleet/agent/internal/telemetry"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/buildinfo"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// DefaultRoot is where the agent lives unless told otherwise.
const DefaultRoot = localstate.DefaultRoot

// lastWords is how long a stopping agent tries to send what it still has to say.
const lastWords = 2 * time.Second

// Config is what the agent needs. Zero times and sizes get the defaults of the
// parts that they belong to.
type Config struct {
	Root string // default DefaultRoot
	Log  *slog.Logger

	Poll       time.Duration // between looks at the assignment
	Health     time.Duration // between health reports
	Components time.Duration // between looks at what the nucleus runs
	Patches    time.Duration // between looks at what patches wait, beside notices
	SpoolBytes int64         // of reports that wait to be sent
	UpFor      time.Duration // after which a nucleus without ready file is proven
	Gate       time.Duration // in which a new nucleus must be proven
	Stop       time.Duration // between asking the nucleus to stop and killing it
	MinWait    time.Duration // before whatever failed is tried again the first time

	Around localstate.Around // nil outside tests
}

func (c Config) withDefaults() Config {
	if c.Root == "" {
		c.Root = DefaultRoot
	}
	if c.Log == nil {
		c.Log = logx.Discard()
	}
	return c
}

// Enrolled is who the agent is after Enroll.
type Enrolled struct {
	AgentThing string
	Core       string
	URL        string
	Fresh      bool // false: it was so before
}

// Enroll enrols the agent with the string of an activation (package enroll).
func Enroll(ctx context.Context, cfg Config, text string) (Enrolled, error) {
	cfg = cfg.withDefaults()
	dir, err := localstate.Open(cfg.Root, cfg.Around)
	if errors.Is(err, fault.Exists) {
		if id, ok := sameEnrollment(cfg.Root, text); ok { // by the agent that runs there
			return Enrolled{AgentThing: id.AgentThing, Core: id.Core, URL: id.URL}, nil
		}
	}
	if err != nil {
		return Enrolled{}, err
	}
	defer dir.Close() //nolint:errcheck // only the lock is left
	id, fresh, err := enroll.Run(ctx, enroll.Config{Dir: dir, Log: cfg.Log}, text)
	if err != nil {
		return Enrolled{}, err
	}
	return Enrolled{AgentThing: id.AgentThing, Core: id.Core, URL: id.URL, Fresh: fresh}, nil
}

// sameEnrollment returns the identity in root when the string text gave it.
func sameEnrollment(root, text string) (id identity.Identity, ok bool) {
	e, err := protocol.ParseEnrollment(text)
	if err != nil || readJSON(filepath.Join(root, "agent", "identity.json"), &id) != nil {
		return id, false
	}
	return id, id.ActivationID == e.ActivationID && id.CAFingerprint == e.CAFingerprint
}

// Run is the enrolled agent at work, until ctx is done. It then stops the
// nucleus.
func Run(ctx context.Context, cfg Config) (err error) {
	cfg = cfg.withDefaults()
	dir, err := localstate.Open(cfg.Root, cfg.Around)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	id, key, err := identity.Load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.NotFound, "the agent in %s is not enrolled; run 'ggfleet-agent enroll STRING --root %s' first", dir.Site(), dir.Site())
	}
	if err != nil {
		return fmt.Errorf("the agent's identity: %w; enrol again with the same string to repair it", err)
	}
	tlsConfig, err := id.TLS(key)
	if err != nil {
		return err
	}
	cloud, err := deviceapi.New(deviceapi.Config{URL: id.URL, TLS: tlsConfig})
	if err != nil {
		return err
	}
	defer cloud.Close()
	site, err := nucleus.OpenSite(dir.Site(), nucleus.Limits{})
	if err != nil {
		return err
	}
	defer site.Close() //nolint:errcheck // nothing is written through it then
	spool, err := telemetry.OpenSpool(dir.Root(), "spool", cfg.SpoolBytes)
	if err != nil {
		return err
	}
	defer spool.Close() //nolint:errcheck // every report is synced when it is appended

	patches, err := patch.New(patch.Config{Dir: dir, Cloud: cloud, CAPEM: id.CAPEM, Every: cfg.Patches, MinWait: cfg.MinWait, Log: cfg.Log})
	if err != nil {
		return err
	}

	// The link needs the reporter's will, the reporter the link's Publish.
	var link *mqttlink.Link
	reporter, err := telemetry.New(telemetry.Config{
		Core: id.Core, AgentVersion: buildinfo.Version, Spool: spool, DiskPath: dir.Site(),
		Publish: func(ctx context.Context, topic string, payload []byte) error {
			return link.Publish(ctx, topic, payload)
		},
		Health: cfg.Health, Components: cfg.Components, Log: cfg.Log,
	})
	if err != nil {
		return err
	}
	link, err = mqttlink.New(mqttlink.Config{
		Address: id.MQTTAddress, TLS: tlsConfig.Clone(), ClientID: id.AgentThing,
		Will: reporter.Will, OnUp: reporter.ConnectionUp,
		Topic: protocol.PatchTopic(id.Core), OnNotice: patches.Wake, MinWait: cfg.MinWait, Log: cfg.Log,
	})
	if err != nil {
		return err
	}
	supervisor, err := process.New(process.Config{
		Dir: dir, OnStatus: reporter.Nucleus, UpFor: cfg.UpFor, Gate: cfg.Gate, Stop: cfg.Stop, MinWait: cfg.MinWait, Log: cfg.Log,
	})
	if err != nil {
		return err
	}
	loop, err := reconcile.New(reconcile.Config{
		Core: id.Core, Dir: dir, Site: site, Cloud: cloud, Supervisor: supervisor, Every: cfg.Poll, MinWait: cfg.MinWait, Log: cfg.Log,
	})
	if err != nil {
		return err
	}
	cfg.Log.InfoContext(ctx, "agent runs", logx.Core, id.Core, logx.Thing, id.AgentThing, "root", dir.Site(), "version", buildinfo.Version)
	if err := svc.Notify("READY=1"); err != nil {
		cfg.Log.WarnContext(ctx, "service manager cannot be told", logx.Err, err)
	}
	// What reports outlives what is reported on: the nucleus stops first, its last
	// state is sent, then the session ends.
	work := func(reporting context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(reporting, cancel)()
		err := run.All(ctx, run.Loop{Name: "nucleus", Run: supervisor.Run}, run.Loop{Name: "reconcile", Run: loop.Run},
			run.Loop{Name: "patches", Run: patches.Run})
		flush, done := context.WithTimeout(reporting, lastWords)
		defer done()
		reporter.Flush(flush)
		return err
	}
	return run.All(context.WithoutCancel(ctx),
		run.Loop{Name: "work", Run: work},
		run.Loop{Name: "telemetry", Run: reporter.Run},
		run.Loop{Name: "mqtt", Run: link.Run},
		run.Loop{Name: "watchdog", Run: svc.Watchdog},
	)
}
