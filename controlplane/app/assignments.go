package app

import (
	"context"

	"github.com/ggfleet/ggfleet/controlplane/internal/assignment"
	"github.com/ggfleet/ggfleet/controlplane/internal/selfhosted/gateway"
	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// openAssignments makes what tells agents that their assignment may be another.
// The records are those that enrollment.Service.Assignment reads.
func (a *App) openAssignments(context.Context) (err error) {
	a.notices, err = assignment.New(assignment.Config{
		Store: a.hub, Names: a.agents.Connected, Tell: a.assignmentChanged, Log: a.log,
		All: []string{state.Root + "distribution/current/", state.Root + "release/rollout/"},
		One: []string{state.Root + "distribution/pin/", state.Root + "fleet/device/"},
	})
	return err
}

// assignmentChanged tells the device's agent, if it is connected to this process.
// Only one of the two topics is subscribed to.
func (a *App) assignmentChanged(device string) {
	for _, role := range []protocol.Role{protocol.RoleCore, protocol.RoleClient} {
		topic := protocol.Subject{Role: role, Name: device}.AssignmentTopic()
		a.gateway.Push(protocol.AgentThing(device), gateway.Message{Topic: topic, Payload: []byte("{}")})
	}
}
