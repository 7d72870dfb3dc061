package renew

import (
	"context"

	"github.com/ggfleet/ggfleet/agent/internal/identity"
	"github.com/ggfleet/ggfleet/shared/protocol"
)

// Cloud is the control plane for the agent as it is now.
type Cloud interface {
	Renew(ctx context.Context, csr string) (certificatePEM string, err error)
	RenewDevice(ctx context.Context, r protocol.DeviceRenewal) (certificatePEM string, err error)
	ConfirmDevice(ctx context.Context, certificate string) error
	// Admitted returns nil when the control plane takes the certificate.
	Admitted(ctx context.Context) error
	Close() // connections that are kept
}

// Candidate is the control plane for a certificate that has yet to prove itself,
// over connections of its own.
type Candidate interface {
	Admitted(ctx context.Context) error
	ConfirmRenewal(ctx context.Context) error
	Close()
}

// Stranger is the control plane for a device without a usable certificate.
type Stranger interface {
	Nonce(ctx context.Context) (protocol.RenewNonce, error)
	RenewExpired(ctx context.Context, r protocol.ExpiredRequest) (certificatePEM string, err error)
	Close()
}

// Dialer opens the control plane anew.
type Dialer interface {
	As(c identity.Credential) (Candidate, error)
	AsDevice(certPEM, keyPEM []byte) (Candidate, error)
	AsStranger() (Stranger, error)
}

// Session is the agent's MQTT session.
type Session interface {
	Connected() bool
	// Reconnect returns once there is a new one, with the certificate of the moment.
	Reconnect(ctx context.Context) error
}

// Device keeps the certificate of core or client device where nucleus or application
// use it.
type Device interface {
	// Certificate returns what is used now, in PEM; fs.ErrNotExist: nothing yet.
	Certificate() (certPEM, keyPEM []byte, err error)
	// ReplaceCertificate returns nil once the device works with these; otherwise it
	// works with the old ones. Replacing by what is there changes nothing.
	ReplaceCertificate(ctx context.Context, certPEM, keyPEM []byte) error
}
