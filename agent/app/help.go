package app

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/deviceapi"
	"github.com/ggfleet/ggfleet/agent/internal/help"
	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/notice"
	"github.com/ggfleet/ggfleet/agent/internal/reconcile"
	"github.com/ggfleet/ggfleet/agent/internal/svc"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/buildinfo"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

// keepLog makes the agent keep its own log when nobody else does: in the folder
// logs of the root, as agent.log.
func (a *agent) keepLog() {
	if help.InJournal() {
		return
	}
	w := help.KeepLog(logFolder(a.dir.Site()))
	a.closers = append(a.closers, w.Close)
	a.cfg.Log = slog.New(slog.NewMultiHandler(a.cfg.Log.Handler(), logx.New(w, slog.LevelInfo, "text").Handler()))
}

func logFolder(root string) string { return filepath.Join(root, "logs") }

// openHelp makes what does on this device what operators ask from afar.
func (a *agent) openHelp() error {
	cfg := helpHost(a.dir.Site())
	if help.InJournal() {
		cfg.AgentLog = journalOf(a.dir.Site())
	} else {
		cfg.AgentLog = help.KeptLog(logFolder(a.dir.Site()))
	}
	cfg.Clock = a.live.Clock().Offset
	if a.supervisor != nil {
		cfg.Restart = a.supervisor.Restart
	}
	host, err := help.NewHost(cfg)
	if err != nil {
		return err
	}
	var runner *help.Runner
	entry := a.board.Entry(func() { runner.Wake() })
	none := func(l protocol.HelpList) bool { return len(l.Requests) == 0 }
	runner, err = help.New(help.Config{
		Dir: a.dir, Cloud: quietHelp{a.cloud, notice.Remember(entry, none)}, Device: host, Every: a.cfg.Patches, MinWait: a.cfg.MinWait, Log: a.cfg.Log,
	})
	if err != nil {
		return err
	}
	a.notices[protocol.HelpTopic(a.id.Subject())] = entry.Notice
	a.work = append(a.work, run.Loop{Name: "help", Run: runner.Run})
	return nil
}

// quietHelp does not ask what it knows: that nothing waits, until a notice comes.
type quietHelp struct {
	*deviceapi.Client
	list *notice.Memory[protocol.HelpList]
}

// Help implements help.Cloud.
func (q quietHelp) Help(ctx context.Context) (protocol.HelpList, error) {
	return q.list.Ask("", func() (protocol.HelpList, error) { return q.Client.Help(ctx) })
}

func journalOf(root string) help.Log { return help.JournalLog("--unit=" + svc.Name(root) + ".service") }

// helpHost is this device as far as files tell; it works beside a running agent
// and without one.
func helpHost(root string) help.HostConfig {
	cfg := help.HostConfig{
		Root: root, Version: buildinfo.Version, Units: []string{svc.Name(root) + ".service"},
		Nucleus:   func() help.Nucleus { return nucleusOn(root) },
		Status:    func(w io.Writer) error { return Status(w, root) },
		Endpoints: func() []help.Endpoint { return endpoints(root) },
		Doctor: func(ctx context.Context, w io.Writer) error {
			_, err := Doctor(ctx, w, root, false)
			return err
		},
	}
	cfg.AgentLog = help.KeptLog(logFolder(root))
	if s, err := svc.New(root); err == nil && s.State().Running {
		if _, err := os.Stat("/run/systemd/system"); err == nil {
			cfg.AgentLog = journalOf(root)
		}
	}
	return cfg
}

// nucleusOn finds the nucleus of the agent in root.
func nucleusOn(root string) help.Nucleus {
	agentDir := filepath.Join(root, "agent")
	r, err := reconcile.ReadRecord(agentDir)
	if err != nil {
		return help.Nucleus{}
	}
	var layout nucleus.Layout
	n := help.Nucleus{Root: root}
	settings, err := reconcile.ReadSettings(agentDir)
	if err == nil {
		n.Root = settings.Root
	}
	now := r.Current
	if r.Trial != nil {
		now = r.Trial
	}
	switch {
	case now != nil:
		layout, n.Text = now.Layout, fmt.Sprintf("name\t%s\nversion\t%s\non trial\t%t", now.Name, now.Version, r.Trial != nil)
	case r.Adopted != nil:
		layout, n.Text = r.Adopted.Layout, fmt.Sprintf("adopted\ttrue\nversion\t%s", r.Adopted.Version)
	default:
		return help.Nucleus{}
	}
	if r.Adopted != nil && r.Adopted.Root != "" {
		n.Root = r.Adopted.Root
	}
	switch layout {
	case nucleus.LayoutClassic:
		n.Runtime = help.Classic
	case nucleus.LayoutLitePackage, nucleus.LayoutLiteFiles:
		n.Runtime = help.Lite
	case nucleus.LayoutProgram, "":
		n.Runtime, n.Root = "simulated", root
	}
	return n
}

// endpoints are what the agent in root connects to.
func endpoints(root string) []help.Endpoint {
	var id identity.Identity
	if err := readJSON(filepath.Join(root, "agent", "identity.json"), &id); err != nil || id.URL == "" {
		return nil
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(id.CAPEM))
	out := []help.Endpoint{{Name: "MQTT", Address: id.MQTTAddress, TLS: true, Roots: roots}}
	if u, err := url.Parse(id.URL); err == nil {
		address := u.Host
		if u.Port() == "" {
			address = net.JoinHostPort(u.Hostname(), "443")
		}
		out = append(out, help.Endpoint{Name: "HTTPS", Address: address, TLS: true, Roots: roots})
	}
	return out
}

// LogRequest says which log of the device to show.
type LogRequest struct {
	Nucleus   bool
	Component string // neither: the agent's own
	Lines     int
	Since     time.Duration // how long ago at most; 0: however old
	Follow    bool          // until ctx is done
}

// Logs writes the log of the agent in root, of its nucleus or of a component,
// without secrets. It works while the agent runs.
func Logs(ctx context.Context, w io.Writer, root string, r LogRequest) error {
	host, err := help.NewHost(helpHost(root))
	if err != nil {
		return err
	}
	ask := protocol.HelpAsk{Kind: protocol.HelpLogsTail, Of: protocol.HelpOfAgent, Component: r.Component, Lines: r.Lines}
	switch {
	case r.Component != "":
		ask.Of = protocol.HelpOfComponent
	case r.Nucleus:
		ask.Of = protocol.HelpOfNucleus
	}
	if err := ask.Check(); err != nil {
		return err
	}
	l, err := host.Log(ask.Of, ask.Component)
	if err != nil {
		return err
	}
	since := time.Time{}
	if r.Since > 0 {
		since = time.Now().Add(-r.Since)
	}
	m, err := l.Tail(ctx, w, r.Lines, since)
	for err == nil && r.Follow {
		m, err = l.Range(ctx, w, m.Next, protocol.MaxHelpLog, protocol.MaxHelpWait*time.Second)
		if err == nil && m.Lost {
			_, err = io.WriteString(w, "[some lines were lost: the log was rotated faster than it was read]\n")
		}
	}
	if r.Follow && ctx.Err() != nil {
		return nil
	}
	return err
}

// SupportBundle writes a support bundle of the agent in root into a new file,
// without secrets. name "" makes one up; - is w. It returns the name.
func SupportBundle(ctx context.Context, w io.Writer, root, name string) (string, error) {
	host, err := help.NewHost(helpHost(root))
	if err != nil {
		return "", err
	}
	if name == "-" {
		return name, host.Bundle(ctx, w)
	}
	if name == "" {
		name = "ggfleet-support-" + time.Now().UTC().Format("20060102T150405Z") + ".zip"
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	if err := errors.Join(host.Bundle(ctx, f), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(name))
	}
	return name, nil
}
