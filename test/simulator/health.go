package simulator

import (
	"context"
	"time"

	"github.com/ggfleet/ggfleet/shared/logx"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

const (
	tokenExchange = "aws.greengrass.TokenExchangeService"
	nucleus       = "aws.greengrass.Nucleus"
	nucleusLite   = "aws.greengrass.NucleusLite"
	cli           = "aws.greengrass.Cli"

	// Lite never sends a status beyond these (trap 36).
	liteMaxStatus     = 5000
	liteMaxComponents = 50
)

// classicServices are the runtime's own services that classic lists.
func classicServices() []string {
	return []string{nucleus, "DeploymentService", "FleetStatusService", "TelemetryAgent", "UpdateSystemPolicyService", "main"}
}

// report is what a fleet status says beside the installed components.
type report struct {
	trigger    string
	complete   bool
	deployment *protocol.DeploymentInformation
	changed    []string // classic: components that a PARTIAL lists
	removed    []*component
}

// sendStatus publishes a fleet status over s. Lite sends it with QoS 0, classic
// with QoS 1.
func (c *Core) sendStatus(ctx context.Context, s *session, r report) error {
	payload, n := c.buildStatus(r)
	if c.lite() && (len(payload) > liteMaxStatus || n > liteMaxComponents) {
		c.event(Event{Kind: EventIgnored, Detail: "fleet status is too large for lite and is not sent (trap 36)"})
		return nil
	}
	qos := byte(0)
	if !c.lite() {
		qos = 1
	}
	if err := s.publish(ctx, protocol.FleetStatusTopic(c.cfg.Thing), payload, qos); err != nil {
		c.cfg.Log.WarnContext(ctx, "fleet status not sent", logx.Thing, c.cfg.Thing, logx.Err, err)
		return err
	}
	c.event(Event{Kind: EventStatus, Detail: r.trigger})
	return nil
}

func (c *Core) buildStatus(r report) (payload []byte, components int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dev.Sequence++
	c.saveLogged()
	m := protocol.FleetStatus{
		GGCVersion: c.cfg.Version, Platform: "linux", Architecture: architecture(), Thing: c.cfg.Thing,
		SequenceNumber: c.dev.Sequence, Timestamp: time.Now().UnixMilli(),
		MessageType: protocol.StatusPartial, Trigger: r.trigger, OverallDeviceStatus: protocol.Healthy,
		Components: []protocol.ComponentStatus{}, Deployment: r.deployment,
	}
	if r.complete {
		m.MessageType = protocol.StatusComplete
	}
	for _, comp := range c.dev.Components {
		if comp.State == "BROKEN" {
			m.OverallDeviceStatus = protocol.Unhealthy
		}
	}
	if c.lite() {
		c.liteComponents(&m, r)
	} else {
		c.classicComponents(&m, r)
	}
	return compact(m), len(m.Components)
}

// liteComponents lists everything every time, all as roots; details are never
// told, and without a deployment there is an empty object.
func (c *Core) liteComponents(m *protocol.FleetStatus, r report) {
	m.Runtime = protocol.RuntimeLite
	if m.Deployment == nil {
		m.Deployment = &protocol.DeploymentInformation{}
	}
	tes := []string{}
	for _, comp := range c.dev.Components {
		if _, ok := comp.Recipe.Dependencies[tokenExchange]; ok && len(comp.ARNs) > 0 {
			tes = comp.ARNs
		}
	}
	m.Components = append(m.Components, protocol.ComponentStatus{ComponentName: tokenExchange, Version: c.cfg.Version, FleetConfigARNs: tes, IsRoot: true, Status: "RUNNING"})
	for _, comp := range c.dev.Components {
		m.Components = append(m.Components, protocol.ComponentStatus{ComponentName: comp.Recipe.Name, Version: comp.Recipe.Version, FleetConfigARNs: arns(comp), IsRoot: true, Status: comp.State})
	}
	for _, comp := range r.removed {
		m.Components = append(m.Components, protocol.ComponentStatus{ComponentName: comp.Recipe.Name, FleetConfigARNs: []string{}, IsRoot: true, Status: "UNINSTALLED"})
	}
}

// classicComponents lists all in a COMPLETE message, with the runtime's own
// services, and in a PARTIAL one what changed.
func (c *Core) classicComponents(m *protocol.FleetStatus, r report) {
	if r.complete {
		for _, name := range classicServices() {
			m.Components = append(m.Components, protocol.ComponentStatus{ComponentName: name, Version: c.cfg.Version, FleetConfigARNs: []string{}, Status: "RUNNING"})
		}
	}
	changed := map[string]bool{}
	for _, name := range r.changed {
		changed[name] = true
	}
	for _, comp := range c.dev.Components {
		if r.complete || changed[comp.Recipe.Name] {
			m.Components = append(m.Components, protocol.ComponentStatus{ComponentName: comp.Recipe.Name, Version: comp.Recipe.Version, FleetConfigARNs: arns(comp), Details: comp.Details, IsRoot: comp.Root, Status: comp.State})
		}
	}
	for _, comp := range r.removed {
		m.Components = append(m.Components, protocol.ComponentStatus{ComponentName: comp.Recipe.Name, Version: comp.Recipe.Version, FleetConfigARNs: []string{}, IsRoot: comp.Root, Status: "UNINSTALLED"})
	}
}

func arns(c *component) []string {
	if c.ARNs == nil {
		return []string{}
	}
	return c.ARNs
}
