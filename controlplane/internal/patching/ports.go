package patching

import (
	"context"
	"time"
)

// Devices tells what is known of a device.
type Devices interface {
	// PatchDevice reports whether the device has an activation or an agent that
	// enrolled with one (known), and whether such an agent exists (enrolled).
	PatchDevice(ctx context.Context, device string) (known, enrolled bool, err error)
}

// Links makes download URLs that a playbook can open on the device.
type Links interface {
	// Link returns a URL for the object at key that is good for life, or
	// fault.NotFound if there is no such object.
	Link(ctx context.Context, key string, life time.Duration) (string, error)
}

// Notices tells the agent of a device, if it is connected to this process, that
// a patch waits for it. It does not block, and a lost notice costs time only.
type Notices interface {
	PatchWaits(device string)
}
