package reconcile

import (
	"context"
	"os"

	process "github.com/ggfleet/ggfleet/agent/internal/nucleus"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Cloud is the control plane as this package needs it.
type Cloud interface {
	Core(ctx context.Context, q protocol.AssignmentQuery) (protocol.CoreAssignment, error)
	CoreCertificate(ctx context.Context, csr string) (certificatePEM string, err error)
	CoreCerts(ctx context.Context) ([]byte, error)
	CoreConfig(ctx context.Context) ([]byte, error)

	// Download appends what f lacks of the archive and syncs it.
	Download(ctx context.Context, d protocol.Distribution, f *os.File) error
}

// Supervisor runs the nucleus.
type Supervisor interface {
	// Use returns nil once the nucleus of spec runs and is proven, and
	// nucleus.ErrUnproven when it cannot be.
	Use(ctx context.Context, spec process.Spec, restart bool) error
	// Stop ends the nucleus of spec, started by whomever, and keeps it so.
	Stop(ctx context.Context, spec process.Spec) error
	// Restart is Use of what runs.
	Restart(ctx context.Context) error
	Installing(ctx context.Context, i process.Installation)
	Health() process.Health
}
