package app

import (
	"context"

	"github.com/ggfleet/ggfleet/controlplane/internal/help"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// openHelp makes what asks things of devices.
func (a *App) openHelp(context.Context) (err error) {
	a.help, err = help.NewService(help.Config{
		Store: a.hub, Objects: a.objects, Devices: helpDevices{a}, Notices: helpNotices{a.gateway}, Log: a.log,
	})
	return err
}

// helpDevices knows devices by what is registered and which agents enrolled.
type helpDevices struct{ a *App }

// HasAgent implements help.Devices.
func (d helpDevices) HasAgent(ctx context.Context, s protocol.Subject) (bool, error) {
	var err error
	if s.Role == protocol.RoleClient {
		_, err = d.a.fleet.Device(ctx, s.Name)
	} else {
		_, err = d.a.fleet.Core(ctx, s.Name)
	}
	if err != nil {
		return false, err
	}
	_, enrolled, err := d.a.enrollment.PatchDevice(ctx, s.Name)
	return enrolled, err
}

// helpNotices tells the agents that are connected to this process.
type helpNotices struct{ g *gateway.Gateway }

// HelpWaits implements help.Notices.
func (n helpNotices) HelpWaits(s protocol.Subject) {
	n.g.Push(protocol.AgentThing(s.Name), gateway.Message{Topic: protocol.HelpTopic(s), Payload: []byte("{}")})
}
