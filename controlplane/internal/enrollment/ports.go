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
	// CoreRenewed says that the core works with a certificate for a key that was made
	// on the device, of which key is the hex SHA-256: certs.zip goes. Saying it again
	// changes nothing.
	CoreRenewed(ctx context.Context, name, key, certificatePEM string) error
}

// Device is what an agent has to know of its client device.
type Device struct {
	Name               string
	Core               string // that it is a client of; empty: none now
	CertificatePending bool   // the device waits for the CSR of its key
	CertsKey           string // object key of certs.zip; empty: the key was made on the device
}

// Devices looks up client devices and completes them.
type Devices interface {
	// EnrollDevice returns fault.NotFound if the client device does not exist.
	EnrollDevice(ctx context.Context, name string) (Device, error)
	// CompleteDevice is CompleteCore for a client device.
	CompleteDevice(ctx context.Context, name, csrPEM string) (certificatePEM string, err error)
	// DeviceRenewed is CoreRenewed for a client device.
	DeviceRenewed(ctx context.Context, name, key, certificatePEM string) error
}

// Creator makes cores and client devices that were let in before they existed.
type Creator interface {
	// CreateSubject starts what creates the subject and returns the id of its task.
	// The same key again returns the same task.
	CreateSubject(ctx context.Context, s protocol.Subject, c Creation, key string) (task string, err error)
	// SubjectCreated reports whether the task has ended for the subject, and if it
	// failed, why.
	SubjectCreated(ctx context.Context, s protocol.Subject, task string) (ended bool, failure string, err error)
}

// Distributions offers nucleus archives.
type Distributions interface {
	// Offer returns the archive that the agent of core is to install, or nil.
	Offer(ctx context.Context, core string, q protocol.AssignmentQuery) (*protocol.Distribution, error)
	// Open returns the archive with this digest, or fault.NotFound.
	Open(ctx context.Context, digest string) (object.Reader, object.Info, error)
}
