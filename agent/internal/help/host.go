package help

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ggfleet/ggfleet/installer/nucleus"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Runtimes of a nucleus, as distributions name them; another one is a process of
// the agent.
const (
	Classic = "classic"
	Lite    = "lite"
)

// Nucleus is where the nucleus is and how it does.
type Nucleus struct {
	Runtime string // Classic, Lite, or another; empty: there is none
	Root    string // absolute; its logs and its configuration lie below
	Text    string // for the reader: name, version, state
}

// Endpoint is one address that the device needs.
type Endpoint struct {
	Name    string
	Address string         // host:port
	TLS     bool           // look further than the connection
	Roots   *x509.CertPool // nil: the system's
}

// HostConfig is what a Host needs. Root and Nucleus are required.
type HostConfig struct {
	Root    string // of the agent
	Version string // of the agent
	Nucleus func() Nucleus

	AgentLog  Log                                          // nil: nothing keeps it
	Status    func(w io.Writer) error                      // what 'ggfleet-agent status' says; nil: nothing
	Doctor    func(ctx context.Context, w io.Writer) error // nil: there is none
	Endpoints func() []Endpoint                            // nil: none
	// Clock tells how far this clock is ahead of the control plane's; ok is false
	// when that was not heard.
	Clock func() (ahead time.Duration, ok bool)
	// Restart restarts a nucleus that the agent runs; nil: this process runs none.
	Restart func(ctx context.Context) error

	// Etc is where lite has its configuration; default /etc/greengrass.
	Etc string
	// Units are those of systemd that a bundle tells of, beside lite's.
	Units []string
}

// Host is this device.
type Host struct {
	cfg  HostConfig
	room int // bytes of a bundle before it is packed

	patience time.Duration   // with a diagnosis
	mu       sync.Mutex      // guards hangs
	hangs    map[string]bool // diagnoses that were left and have not ended
}

// NewHost checks cfg.
func NewHost(cfg HostConfig) (*Host, error) {
	if !filepath.IsAbs(cfg.Root) || cfg.Nucleus == nil {
		return nil, fault.New(fault.Invalid, "a host needs the agent's folder and what tells of the nucleus")
	}
	if cfg.Etc == "" {
		cfg.Etc = "/etc/greengrass"
	}
	return &Host{cfg: cfg, room: bundleBytes, patience: diagnoseTime, hangs: map[string]bool{}}, nil
}

// Log implements Device.
func (h *Host) Log(of, component string) (Log, error) {
	if of == protocol.HelpOfAgent {
		if h.cfg.AgentLog == nil {
			return nil, fault.New(fault.NotFound, "nothing keeps the log of this agent")
		}
		return h.cfg.AgentLog, nil
	}
	n := h.cfg.Nucleus()
	switch {
	case n.Runtime == "":
		return nil, fault.New(fault.NotFound, "there is no nucleus on this device")
	case n.Runtime == Lite && of == protocol.HelpOfNucleus:
		return JournalLog("--unit=ggl.core.*"), nil
	case n.Runtime == Lite:
		return JournalLog("--identifier=" + component), nil
	case n.Runtime == Classic && of == protocol.HelpOfNucleus:
		return FileLog(filepath.Join(n.Root, "logs"), "greengrass.log"), nil
	case of == protocol.HelpOfNucleus:
		return FileLog(filepath.Join(n.Root, "logs"), "nucleus.log"), nil
	}
	dir := filepath.Join(n.Root, "logs")
	if names := LogNames(dir, maxEntries); !slices.Contains(names, component) {
		return nil, fault.New(fault.NotFound, "there is no log of %s on this device; there are %s", component, some(names))
	}
	return FileLog(dir, component+".log"), nil
}

func some(names []string) string {
	const most = 20
	if len(names) == 0 {
		return "none"
	}
	more := ""
	if len(names) > most {
		more = fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names[:min(len(names), most)], ", ") + more
}

// Restart implements Device.
func (h *Host) Restart(ctx context.Context, of, component string) error {
	n := h.cfg.Nucleus()
	switch {
	case n.Runtime == "":
		return fault.New(fault.NotFound, "there is no nucleus on this device")
	case of == protocol.HelpOfNucleus && h.cfg.Restart == nil:
		return fault.New(fault.Unsupported, "this agent does not run the nucleus")
	case of == protocol.HelpOfNucleus:
		return h.cfg.Restart(ctx)
	case n.Runtime == Lite:
		return restartUnit(ctx, "ggl."+component+".service")
	case n.Runtime == Classic:
		return restartByCLI(ctx, n.Root, component)
	}
	return fault.New(fault.Unsupported, "components of this nucleus cannot be restarted one by one; restart the nucleus")
}

// restartUnit restarts a unit that is there: systemctl would name an unknown one
// with a status only.
func restartUnit(ctx context.Context, unit string) error {
	out, err := output(ctx, "systemctl", "show", "--no-pager", "--property=LoadState", "--value", unit)
	if err != nil {
		return err
	}
	if state := strings.TrimSpace(out); state != "loaded" {
		return fault.New(fault.NotFound, "there is no unit %s on this device (%s)", unit, state)
	}
	_, err = output(ctx, "systemctl", "restart", unit)
	return err
}

// restartByCLI asks the component aws.greengrass.Cli, when it is deployed.
func restartByCLI(ctx context.Context, root, component string) error {
	cli, err := nucleus.Trusted(filepath.Join(root, "bin", "greengrass-cli"))
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Unsupported, "the classic nucleus restarts one component through %s/bin/greengrass-cli only, which is not there: deploy aws.greengrass.Cli, or restart the nucleus", root)
	}
	if err != nil {
		return err
	}
	_, err = output(ctx, cli, "component", "restart", "--names="+component)
	return err
}
