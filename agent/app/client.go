package app

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"

	"github.com/ggfleet/ggfleet/agent/internal/client"
	"github.com/ggfleet/ggfleet/agent/internal/deviceapi"
	"github.com/ggfleet/ggfleet/agent/internal/localstate"
	"github.com/ggfleet/ggfleet/agent/internal/notice"
	"github.com/ggfleet/ggfleet/installer/durable"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
	"github.com/ggfleet/ggfleet/shared/run"
)

const clientSettings = "client-settings.json"

// ClientSettings say what is particular to this client device. They come from
// whoever set it up, not from the control plane.
type ClientSettings struct {
	Group string `json:"group,omitempty"` // of the operating system, that may read the device's key
}

// openClient makes what looks after a client device.
func (a *agent) openClient() error {
	settings, known := a.clientSettings()
	var loop *client.Loop
	entry := a.board.Entry(func() { loop.Wake() })
	cores := a.board.Entry(func() {}) // asked for in the same pass
	settled := func(d protocol.DeviceAssignment) bool { return d.HasCertificate }
	always := func(protocol.Discovery) bool { return true }
	loop, err := client.New(client.LoopConfig{
		Device: a.id.Device, Dir: a.dir, Group: settings.Group, Every: a.cfg.Poll, MinWait: a.cfg.MinWait, Log: a.cfg.Log,
		Cloud: clientCloud{a.cloud, a, notice.Remember(entry, settled), notice.Remember(cores, always)},
	})
	if err != nil {
		return err
	}
	a.closers = append(a.closers, loop.Close)
	if known { // else its application could not read another key
		a.holder = loop
	}
	a.notices[a.id.Subject().AssignmentTopic()] = func() { cores.Notice(); entry.Notice() }
	a.work = append(a.work, a.watchdog.Watch(run.Loop{Name: "client device", Run: loop.Run}, max(passStall, 3*a.cfg.Poll)))
	return nil
}

// clientSettings returns what is particular to this client device. known is false
// when neither that nor its copy can be read.
func (a *agent) clientSettings() (s ClientSettings, known bool) {
	damage, err := a.dir.Kept(clientSettings, func() error {
		s = ClientSettings{}
		return a.dir.ReadJSON(clientSettings, &s)
	})
	if damage != nil {
		a.cfg.Log.Error("settings of the client device were damaged and are taken from their copy", logx.Err, damage)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return s, true
	}
	a.cfg.Log.Error("settings of the client device are damaged, its certificate is not renewed until they are written anew with 'ggfleet-agent client set'", logx.Err, err)
	return ClientSettings{}, false
}

// clientCloud is the control plane as package client needs it: an agent that does
// not ask for what it knows, and that asks as the device where the cores are.
type clientCloud struct {
	*deviceapi.Client
	a          *agent
	assigned   *notice.Memory[protocol.DeviceAssignment]
	discovered *notice.Memory[protocol.Discovery]
}

// Device implements client.ControlPlane.
func (c clientCloud) Device(ctx context.Context) (protocol.DeviceAssignment, error) {
	q := protocol.AssignmentQuery{Platform: platform, Agent: c.a.update.About()}
	d, err := c.assigned.Ask(q.DevicePath(), func() (protocol.DeviceAssignment, error) { return c.Client.Device(ctx, q) })
	if err == nil {
		c.a.update.Assigned(d.Agent)
	}
	return d, err
}

// Discover implements client.ControlPlane. A device without a core has none to
// discover.
func (c clientCloud) Discover(ctx context.Context, thing string, as tls.Certificate) (protocol.Discovery, error) {
	return c.discovered.Ask(thing, func() (d protocol.Discovery, err error) {
		own, err := c.a.dial(func(host string) *tls.Config { return c.a.live.With(host, &as) })
		if err != nil {
			return d, err
		}
		defer own.Close()
		if d, err = own.Discover(ctx, thing); errors.Is(err, fault.NotFound) {
			err = nil
		}
		return d, err
	})
}

// SetClient stores what is particular to the client device of the agent in root.
// It takes effect when the agent starts next.
func SetClient(root string, s ClientSettings) error {
	if s.Group != "" {
		if _, err := user.LookupGroup(s.Group); err != nil {
			return fault.Field("group", "there is no group %q on this device; make it first", s.Group)
		}
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	dir := filepath.Join(root, "agent")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	file := filepath.Join(dir, clientSettings)
	return errors.Join(durable.WriteFileAt(file, append(b, '\n'), 0o600), durable.WriteFileAt(file+localstate.CopySuffix, append(b, '\n'), 0o600))
}

// PrintClient writes what the application of the client device in root is told.
func PrintClient(w io.Writer, root string) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	c, err := client.ReadConfig(root)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.NotFound, "there is no %s below %s yet; enrol with --role client, and let the agent get through to the control plane", client.ConfigName, root)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "thing:       %s\ncertificate: %s\nkey:         %s\nfile:        %s\n", c.ThingName, c.CertificateFilePath, c.PrivateKeyPath,
		filepath.Join(root, client.Folder, client.ConfigName))
	for _, core := range c.Cores {
		fmt.Fprintf(w, "core:        %s\n", core.ThingName)
		for _, e := range core.Endpoints {
			fmt.Fprintf(w, "  endpoint:  %s:%d\n", e.Host, e.Port)
		}
	}
	return nil
}
