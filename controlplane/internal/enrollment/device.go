package enrollment

import (
	"context"
	"errors"
	"fmt"

	"github.com/ggfleet/ggfleet/controlplane/internal/state"
	"github.com/ggfleet/ggfleet/shared/fault"
	"github.com/ggfleet/ggfleet/shared/names"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// PatchDevice reports whether the device has an activation or an agent (known),
// and whether it has an agent that enrolled: with this activation or with one
// that is gone.
func (s *Service) PatchDevice(ctx context.Context, device string) (known, enrolled bool, err error) {
	if checkDeviceID(device) != nil {
		return false, false, nil
	}
	id, err := state.ReadOr[string](ctx, s.store, deviceKey(device))
	if err != nil {
		return false, false, fmt.Errorf("look up activation of %s: %w", device, err)
	}
	agent := protocol.AgentThing(device)
	if names.CheckThing(agent) != nil {
		return id.Rev != 0, false, nil // no thing can have this name
	}
	_, err = s.cfg.Things.Thing(ctx, agent)
	if errors.Is(err, fault.NotFound) {
		return id.Rev != 0, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("look up agent of %s: %w", device, err)
	}
	return true, true, nil
}
