package enrollment

import (
	"context"

	"github.com/ggfleet/ggfleet/controlplane/internal/object"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Core is what an agent has to know of its core.
type Core struct {
	Name               string
	CertificatePending bool   // the core waits for the CSR of its key
	CertsKey           string // object key of certs.zip; empty: the key was made on the device
	ConfigKey          string // object key of installerConfig.yml; empty: none was asked for
}

// Cores looks up cores and completes them.
type Cores interface {
	// EnrollCore returns fault.NotFound if the core does not exist.
	EnrollCore(ctx context.Context, name string) (Core, error)
	// CompleteCore signs the CSR for a core without certificate and returns the
	// certificate. The same key again gives the same certificate.
	CompleteCore(ctx context.Context, name, csrPEM string) (certificatePEM string, err error)
}

// Distributions offers nucleus archives.
type Distributions interface {
	// Offer returns the archive that the agent of core is to install, or nil.
	Offer(ctx context.Context, core string, q protocol.AssignmentQuery) (*protocol.Distribution, error)
	// Open returns the archive with this digest, or fault.NotFound.
	Open(ctx context.Context, digest string) (object.Reader, object.Info, error)
}
