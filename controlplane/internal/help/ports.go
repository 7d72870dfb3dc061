package help

import (
	"context"

	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Devices tells what is known of a device.
type Devices interface {
	// HasAgent reports whether an agent of the device has enrolled. fault.NotFound:
	// there is no such device.
	HasAgent(ctx context.Context, s protocol.Subject) (bool, error)
}

// Notices tells the agent of a device, if it is connected to this process, that
// a request waits for it. It does not block, and a lost notice costs time only.
type Notices interface {
	HelpWaits(s protocol.Subject)
}
