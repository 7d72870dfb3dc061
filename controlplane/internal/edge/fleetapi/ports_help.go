package fleetapi

import (
	"context"

	"github.com/ggfleet/ggfleet/controlplane/internal/help"
	"github.com/ggfleet/ggfleet/controlplane/internal/object"
)

// Help is what the edge needs of the service that asks things of devices.
type Help interface {
	// Create returns fault.NotFound without such a device, fault.Conflict without an
	// agent on it, fault.Exhausted when too much waits for it.
	Create(ctx context.Context, n help.New) (help.Request, error)
	Request(ctx context.Context, id string) (help.Request, error)
	// Requests returns the newest first; next is the After of the following page,
	// "" on the last.
	Requests(ctx context.Context, device string, p help.Page) (_ []help.Request, next string, _ error)
	// Content opens what the device sent; the caller closes it.
	Content(ctx context.Context, id string) (object.Reader, help.Request, error)
	Delete(ctx context.Context, id string) error
}
