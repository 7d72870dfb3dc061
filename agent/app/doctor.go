package app

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ggfleet/ggfleet/agent/internal/client"
	"github.com/ggfleet/ggfleet/agent/internal/consent"
	"github.com/ggfleet/ggfleet/agent/internal/doctor"
	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/agent/internal/nucleusfacts"
	"github.com/ggfleet/ggfleet/agent/internal/reconcile"
	"github.com/ggfleet/ggfleet/agent/internal/selfupdate"
	"github.com/ggfleet/ggfleet/agent/internal/svc"
	"github.com/ggfleet/ggfleet/agent/internal/telemetry"
	"github.com/ggfleet/ggfleet/installer/config"
	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/buildinfo"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Doctor looks at the device of the agent in root (package doctor), writes what
// it found, and reports whether nothing failed. It changes nothing and works
// beside a running agent.
func Doctor(ctx context.Context, w io.Writer, root string, asJSON bool) (well bool, err error) {
	results, err := Examine(ctx, root)
	if err != nil {
		return false, err
	}
	well = doctor.Worst(results) != doctor.Failed
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return well, e.Encode(results)
	}
	for _, r := range results {
		fmt.Fprintf(w, "%-8s %s %s: %s\n", r.Status, r.Code, r.Name, r.Detail)
		if r.Fix != "" {
			fmt.Fprintf(w, "              %s\n              → %s\n", r.Meaning, r.Fix)
		}
	}
	_, err = fmt.Fprintln(w, summary(results))
	return well, err
}

// summary is the last line: what is wrong, for whom the list is long.
func summary(results []doctor.Result) string {
	var failed, warned []string
	for _, r := range results {
		switch r.Status {
		case doctor.Failed:
			failed = append(failed, r.Code)
		case doctor.Warning:
			warned = append(warned, r.Code)
		case doctor.OK, doctor.Skipped:
		}
	}
	list := func(n []string) string {
		if len(n) == 0 {
			return "none"
		}
		return strings.Join(n, " ")
	}
	return fmt.Sprintf("%d checks; failed: %s; warnings: %s", len(results), list(failed), list(warned))
}

// ExplainCheck writes what the code of a check means.
func ExplainCheck(w io.Writer, code string) error {
	for _, c := range doctor.Checks() {
		if strings.EqualFold(c.Code, code) {
			_, err := fmt.Fprintf(w, "%s %s\n%s\n→ %s\n", c.Code, c.Name, c.Meaning, c.Fix)
			return err
		}
	}
	return fault.New(fault.NotFound, "there is no check %q; 'ggfleet-agent doctor' lists them all", code)
}

// Examine runs all checks of the doctor on the device of the agent in root.
func Examine(ctx context.Context, root string) ([]doctor.Result, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	d := doctor.Device{Root: root, Core: true}
	patient := patient{&d}
	patient.service()
	dir, err := localstate.Look(root)
	if err == nil {
		defer dir.Close() //nolint:errcheck // read only
		patient.identity(dir)
		patient.agent(dir)
		if d.Core {
			patient.nucleus(dir)
		}
	} else if errors.Is(err, fs.ErrPermission) {
		return nil, asOwner(err)
	} else if !errors.Is(err, fs.ErrNotExist) {
		d.Enrolled, d.Damaged = true, err // it cannot be read
	}
	host := doctor.Machine(buildinfo.Time())
	if d.Service.Manager == "systemd" && d.Service.Installed {
		host.Getenv = serviceEnv(svc.Settings)
	}
	return doctor.Run(ctx, host, d), nil
}

// serviceEnv is the environment of the agent's service as far as its settings file
// says it; the rest is that of this process. Whoever asks the doctor from a terminal
// has another proxy there than the service, or none.
func serviceEnv(file string) func(name string) string {
	said := map[string]string{}
	if b, err := readSmall(file); err == nil { // none: it has no settings
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
				said[name] = strings.Trim(value, `"'`)
			}
		}
	}
	return func(name string) string { return cmp.Or(said[name], os.Getenv(name)) }
}

// patient collects what the agent knows of itself.
type patient struct{ *doctor.Device }

func (p patient) service() {
	s, err := svc.New(p.Root)
	if err != nil {
		return // there is no service manager
	}
	state := s.State()
	p.Service = doctor.ServiceState{Manager: s.Manager(), Installed: state.Installed, Enabled: state.Boot, Running: state.Running}
}

func (p patient) identity(dir *localstate.Dir) {
	id, err := identity.Read(dir)
	if errors.Is(err, fs.ErrNotExist) {
		p.Asks = asks(p.Root)
		p.URL = p.Asks
		return
	}
	p.Enrolled = true
	live, err := identity.Open(dir)
	if err != nil {
		p.Damaged = err
	} else {
		p.TLS = live.TLS
		c := live.Certificate()
		p.Certificate = doctor.Certificate{NotBefore: c.NotBefore, NotAfter: c.NotAfter}
	}
	subject := id.Subject()
	p.Thing, p.Name, p.Core = id.AgentThing, subject.Name, subject.Role != protocol.RoleClient
	p.URL, p.MQTTAddress, p.AssignmentPath = id.URL, id.MQTTAddress, protocol.PathAgentCore
	if !p.Core {
		p.AssignmentPath = protocol.PathAgentDevice
		key := filepath.Join(p.Root, client.Folder, filepath.FromSlash(client.KeyName))
		var settings ClientSettings
		if err := dir.ReadJSON(clientSettings, &settings); err == nil && settings.Group != "" {
			p.Shared = append(p.Shared, key)
		} else {
			p.Secrets = append(p.Secrets, key)
		}
	}
	keys, _ := filepath.Glob(filepath.Join(p.Root, "agent", "key*")) // the pattern is good
	p.Secrets = append(p.Secrets, keys...)
}

func (p patient) agent(dir *localstate.Dir) {
	p.Waiting, p.Dropped = telemetry.Look(dir.Root().FS(), "spool")
	for _, c := range consent.Given(dir.Path(".")) {
		p.Allowed = append(p.Allowed, string(c))
	}
	p.Aside, _ = filepath.Glob(dir.Path("*" + localstate.DamagedSuffix)) // the pattern is good
	if keys, err := selfupdate.Keys(p.Root); err == nil {
		p.Update.Keys = len(keys)
	}
	if r, err := selfupdate.Read(p.Root); err == nil && r.Last.State.Failure() {
		p.Update.Rejected = r.Last.Version + ": " + r.Last.Reason
	}
}

func (p patient) nucleus(dir *localstate.Dir) {
	agentDir := dir.Path(".")
	settings, err := reconcile.ReadSettings(agentDir)
	if err != nil {
		p.Nucleus.LastError = err.Error()
		return
	}
	r, err := reconcile.ReadRecord(agentDir)
	if err != nil {
		p.Nucleus.LastError = err.Error()
		return
	}
	n := &p.Nucleus
	trouble := readTrouble(agentDir)
	n.LastError, n.Restarts, n.Java = trouble.LastError, trouble.recent(time.Now()), settings.Classic.Java
	if r.Rejection != nil {
		n.Rejected = r.Rejection.Version + ": " + r.Rejection.Why
	}
	document := filepath.Join(p.Root, filepath.FromSlash(nucleus.ConfigFile))
	runs := r.Current
	if r.Trial != nil {
		runs = r.Trial
	}
	layout := nucleus.Layout("")
	switch {
	case runs != nil:
		layout, n.Version, n.Root = runs.Layout, runs.Version, p.Root
		if layout == nucleus.LayoutClassic {
			n.Root = settings.Root
		}
	case r.Adopted != nil:
		layout, n.Version, n.Root, document = r.Adopted.Layout, cmp.Or(r.Adopted.Version, "of unknown version"), r.Adopted.Root, r.Adopted.Config
	}
	if r.Current != nil {
		n.Files = func(ctx context.Context) error { return verify(ctx, siteOf(layout, p.Root, n.Root), *r.Current) }
	}
	n.Config, _ = nucleus.NewHost().ReadFile(document)
	p.credential()
	switch layout {
	case nucleus.LayoutProgram:
		p.program(runs)
	case nucleus.LayoutClassic:
		n.Runtime = nucleusfacts.Classic
		n.User, n.Group, _ = strings.Cut(cmp.Or(settings.Classic.DefaultUser, "ggc_user:ggc_group"), ":")
		if settings.Classic.NoSystemService || r.Adopted != nil && runs == nil && r.Adopted.Unit == "" {
			n.Program = filepath.Join(n.Root, "alts/current/distro/bin/loader")
			_, n.Running = process.Running(agentDir)
		} else {
			n.Units = []string{nucleus.ClassicUnit}
		}
	case nucleus.LayoutLitePackage, nucleus.LayoutLiteFiles:
		n.Runtime = nucleusfacts.Lite
		n.User, n.Group, _ = strings.Cut(cmp.Or(settings.Lite.ComponentUser, "gg_component:gg_component"), ":")
		services, _ := nucleus.LiteUnits()
		n.Units = append([]string{nucleus.LiteTarget}, services...)
	}
	n.LogErrors = int(nucleusfacts.RecentErrors(nucleusfacts.Nucleus{Runtime: n.Runtime, Root: n.Root})) //nolint:gosec // lines of the end of a log
}

// siteOf is the folder that the versions of a layout lie in.
func siteOf(layout nucleus.Layout, root, nucleusRoot string) string {
	switch layout {
	case nucleus.LayoutClassic:
		return nucleusRoot
	case nucleus.LayoutLitePackage, nucleus.LayoutLiteFiles:
		return reconcile.LiteSite
	case nucleus.LayoutProgram:
	}
	return root
}

// verify compares the files of a version with what was unpacked.
func verify(ctx context.Context, dir string, v reconcile.Installed) error {
	site, err := nucleus.OpenSite(dir, nucleus.Limits{})
	if err != nil {
		return err
	}
	defer site.Close() //nolint:errcheck // a folder
	return site.Verify(ctx, nucleus.Version{Name: v.Name, Version: v.Version, Digest: v.Digest})
}

// program fills in a nucleus that is a program of the agent's.
func (p patient) program(current *reconcile.Installed) {
	n := &p.Nucleus
	n.Runtime = "simulated"
	_, n.Running = process.Running(filepath.Join(p.Root, "agent"))
	site, err := nucleus.OpenSite(p.Root, nucleus.Limits{})
	if err != nil {
		n.LastError = err.Error()
		return
	}
	defer site.Close() //nolint:errcheck // a folder
	v := nucleus.Version{Name: current.Name, Version: current.Version, Digest: current.Digest}
	m, err := site.Manifest(v)
	if err != nil {
		n.LastError = err.Error()
		n.Program = filepath.Join(p.Root, filepath.FromSlash(v.Dir()))
		return
	}
	n.Program, _ = site.Command(v, m)
}

// credential looks at the core's certificate, key and root CA file.
func (p patient) credential() {
	n := &p.Nucleus
	sys, err := config.ReadSystem(n.Config)
	if err != nil || sys.CertificateFilePath == "" {
		return
	}
	p.Secrets = append(p.Secrets, sys.PrivateKeyPath)
	host := nucleus.NewHost() // bounded, and waits for nothing: these may be files of another account
	if ca, err := host.ReadFile(sys.RootCAPath); err == nil {
		own, _ := os.ReadFile(filepath.Join(p.Root, "agent", "identity.json"))
		var id identity.Identity
		if json.Unmarshal(own, &id) == nil {
			_, err := identity.Bundle(string(ca), id.CAFingerprint)
			n.Trusts = err == nil
		}
	}
	cert, err := host.ReadFile(sys.CertificateFilePath)
	key, keyErr := host.ReadFile(sys.PrivateKeyPath)
	if err = errors.Join(err, keyErr); errors.Is(err, fs.ErrNotExist) {
		return
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.X509KeyPair(cert, key)
	}
	n.Certificate.Err = err
	if err == nil && pair.Leaf != nil {
		n.Certificate.NotBefore, n.Certificate.NotAfter = pair.Leaf.NotBefore, pair.Leaf.NotAfter
	}
}
