package fleetapi

import (
	"context"
	"io"

	"github.com/ggfleet/ggfleet/controlplane/internal/release"
)

// Releases keeps releases of the agent.
type Releases interface {
	// Put returns fault.Exists when the file has other content.
	Put(ctx context.Context, version, name string, r io.Reader) (release.File, error)
	// List leaves out the files of releases.
	List(ctx context.Context) ([]release.Release, error)
	Get(ctx context.Context, version string) (release.Release, error)
	Activate(ctx context.Context, version string, a release.Activation) (release.Release, error)
	Pause(ctx context.Context, version string) (release.Release, error)
	// Remove returns fault.Conflict while the release is offered.
	Remove(ctx context.Context, version string) error
	// Devices returns the name after which the next page begins, "" on the last.
	Devices(ctx context.Context, f release.Filter, after string, count int) (_ []release.Device, next string, _ error)
}
