package app

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/deviceapi"
	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/notice"
	"github.com/ggfleet/ggfleet/agent/internal/telemetry"
	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// openReports makes the reporter, the spool that it writes to, and the board on
// which notices of the control plane arrive.
func (a *agent) openReports(publish telemetry.Publish) error {
	spool, err := telemetry.OpenSpool(a.dir.Root(), "spool", a.cfg.SpoolBytes)
	if err != nil {
		return err
	}
	a.closers = append(a.closers, spool.Close)
	a.board = notice.New(func() bool { return a.link.Connected() }, a.cfg.Rest)
	a.work = append(a.work, run.Loop{Name: "notices", Run: a.board.Run})
	a.reporter, err = telemetry.New(telemetry.Config{
		Subject: a.id.Subject(), AgentVersion: a.cfg.Version, Spool: spool, DiskPath: a.dir.Site(), Publish: publish,
		ClockOffset: a.live.Clock().Offset, Certificates: a.certificates(), TakenOver: a.conflictAt,
		Health: a.cfg.Health, Components: a.cfg.Components, Log: a.cfg.Log,
	})
	return err
}

// certificates returns what tells when the agent's certificate and the core's
// end. The core's file is looked at every ten minutes.
func (a *agent) certificates() func() (agent, device time.Time) {
	var device, looked time.Time
	return func() (time.Time, time.Time) {
		if time.Since(looked) > 10*time.Minute || device.IsZero() {
			device, looked = ends(a.dir.Site()), time.Now()
		}
		return a.live.Certificate().NotAfter, device
	}
}

// ends returns when the certificate of the device that lives in site ends; zero:
// there is none to be read.
func ends(site string) time.Time {
	path := filepath.Join(site, "cert.pem")
	if doc, err := os.ReadFile(filepath.Join(site, nucleus.ConfigFile)); err == nil {
		if sys, err := config.ReadSystem(doc); err == nil && sys.CertificateFilePath != "" {
			path = sys.CertificateFilePath
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}
	}
	cert, err := identity.ParseCertificate(string(b))
	if err != nil {
		return time.Time{}
	}
	return cert.NotAfter
}

// quiet is the control plane as an agent asks it that does not ask for what it
// knows.
type quiet struct {
	*deviceapi.Client
	assignment *notice.Memory[protocol.CoreAssignment]
	patches    *notice.Memory[protocol.PatchList]
}

// rememberAssignment returns the control plane for the reconcile loop, and the
// notice that the assignment is another.
func (a *agent) rememberAssignment(wake func()) (quiet, func()) {
	e := a.board.Entry(wake)
	settled := func(c protocol.CoreAssignment) bool { return c.HasCertificate }
	return quiet{Client: a.cloud, assignment: notice.Remember(e, settled)}, e.Notice
}

// rememberPatches returns the control plane for patches, and the notice that one
// waits.
func (a *agent) rememberPatches(wake func()) (quiet, func()) {
	e := a.board.Entry(wake)
	none := func(l protocol.PatchList) bool { return len(l.Patches) == 0 }
	return quiet{Client: a.cloud, patches: notice.Remember(e, none)}, e.Notice
}

// Core implements reconcile.Cloud.
func (q quiet) Core(ctx context.Context, about protocol.AssignmentQuery) (protocol.CoreAssignment, error) {
	return q.assignment.Ask(about.Path(), func() (protocol.CoreAssignment, error) { return q.Client.Core(ctx, about) })
}

// Patches implements patch.Cloud.
func (q quiet) Patches(ctx context.Context) (protocol.PatchList, error) {
	return q.patches.Ask("", func() (protocol.PatchList, error) { return q.Client.Patches(ctx) })
}
